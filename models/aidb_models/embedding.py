"""Embeddings: what a text or a picture is about, as a vector that can be compared.

::

    CREATE MODEL meaning USING embedding WITH (model = 'models/all-MiniLM-L6-v2');
    CREATE MODEL look    USING embedding WITH (model = 'resnet50');
    CREATE MODEL mine    USING embedding WITH (model = 'dino.onnx', size = 224);
    SELECT image_id FROM photos ORDER BY array_distance(look(image), ...) LIMIT 10;
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from aidb.errors import ProgrammingError
from aidb.spi.model import Columns, Input, ItemError, Model, ModelSpec, ServiceError, Values, fingerprint
from aidb.spi.options import Options
from aidb_models import option_types as types
from aidb_models.devices import device_name, free_memory, guess, half_refused, settle, usual_batch
from aidb_models.onnx import Onnx
from aidb_models.pictures import middle, rgb
from aidb_models.runtimes import require, torchvision
from aidb_models.sentences import Encoder, Folder, OnnxEncoder, TorchEncoder
from aidb_models.torch_networks import Recipe, is_detector
from aidb_models.vectors import vector_column, vector_output

_VERSION = 1  # raise it when the same weights and options give other vectors
_LENGTHS = {
    512: "maxvit_t resnet18 resnet34",
    768: "convnext_small convnext_tiny swin_s swin_t swin_v2_s swin_v2_t vit_b_16 vit_b_32",
    1024: "convnext_base densenet121 googlenet mobilenet_v3_small shufflenet_v2_x0_5 shufflenet_v2_x1_0 "
    "shufflenet_v2_x1_5 swin_b swin_v2_b vit_l_16 vit_l_32",
    1280: "efficientnet_b0 efficientnet_b1 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s mnasnet0_5 "
    "mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large vit_h_14",
    1408: "efficientnet_b2",
    1536: "convnext_large efficientnet_b3",
    1664: "densenet169",
    1792: "efficientnet_b4",
    1920: "densenet201",
    2048: "efficientnet_b5 inception_v3 resnet101 resnet152 resnet50 resnext101_32x8d resnext101_64x4d "
    "resnext50_32x4d shufflenet_v2_x2_0 wide_resnet101_2 wide_resnet50_2",
    2208: "densenet161",
    2304: "efficientnet_b6",
    2560: "efficientnet_b7",
    4096: "alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn",
}
"""How long the vectors before the last layer are: a `ModelSpec` must tell without importing torchvision."""


def Embedding(name: str, options: Options) -> Model:  # noqa: N802  named like the other providers
    """The provider ``embedding``: one column ``embedding FLOAT[n]``, one row an item.

    The option ``model`` decides what is embedded:

    - a folder in the layout of sentence-transformers, or an installed Python package that carries one: texts
      (`TextEmbedding`);
    - an ``.onnx`` file: pictures, with the options of the provider ``onnx``;
    - the name of a classifier of torchvision: pictures (`ImageEmbedding`).

    ``normalize`` (true) scales vectors to length 1, so that the Euclidean distance orders like the cosine.
    """
    model = options.take("model", types.text)
    if Path(model).suffix.lower() == ".onnx":
        rest = {k: v for k, v in options.items() if k != "model"}
        return Onnx(name, Options({"normalize": True, **rest, "weights": model, "task": "embed"}, options.owner))
    folder = Folder.find(model)
    if folder is not None:
        return TextEmbedding(folder, options)
    if "/" in model or Path(model).suffix:
        raise ProgrammingError(f"option 'model': there is no folder and no .onnx file {model!r}")
    return ImageEmbedding(options)


class TextEmbedding:
    """Texts by a folder in the layout of sentence-transformers. Options beside ``model`` and ``normalize``:

    runtime: ``onnx`` or ``torch``; onnx by default if the folder holds an export, else torch.
    device: auto, cpu, cuda, cuda:N or mps. half: half precision, torch on a GPU. threads (1): of onnxruntime.
    """

    def __init__(self, folder: Folder, options: Options) -> None:
        options.refuse_unknown(("model", "runtime", "normalize", "device", "half", "threads", *types.COMMON))
        self._folder = folder
        self._runtime = options.take("runtime", types.one_of("onnx", "torch"), "onnx" if folder.onnx else "torch")
        if self._runtime == "onnx":
            if folder.onnx is None:
                raise ProgrammingError(f"runtime = 'onnx': {folder.path} holds neither model.onnx nor onnx/model.onnx")
            require("onnx,embedding", "onnxruntime", "tokenizers", provider="embedding")
        else:
            require("embedding", "torch", "sentence_transformers", provider="embedding")
        self._normalize = options.take("normalize", bool, True)
        self._device = options.take("device", device_name, "auto")
        self._half = options.take("half", bool, False)
        self._threads = options.take("threads", types.positive_int, 1)
        common = types.Common.read(options)
        self._spec = ModelSpec(
            inputs=(Input("text", "text"),),
            outputs=(vector_output(folder.length),),
            rows="one",
            fingerprint=fingerprint(
                "embedding", _VERSION, "text", folder.digest(), self._runtime, self._normalize, self._half
            ),
            batch_size=common.batch_size,
            price_per_call=common.price_per_call,
            seconds_per_item=0.01,
            device=guess(self._device, "torch" if self._runtime == "torch" else "onnxruntime"),
        )
        self._encoder: Encoder | None = None

    @property
    def spec(self) -> ModelSpec:
        """See `ModelSpec`; ``device`` is a forecast until the model is loaded."""
        return self._spec

    def load(self) -> None:
        """Open tokenizer and network."""
        if self._encoder is not None:
            return
        if self._runtime == "onnx":
            self._encoder = OnnxEncoder(self._folder, self._device, self._threads)
        else:
            torchvision()  # sentence-transformers imports it, and would fail with a message about an operator
            device = settle(self._device)
            half_refused(self._half, device)
            self._encoder = TorchEncoder(self._folder, device, self._half)
        self._spec = replace(self._spec, device=self._encoder.device)

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer one batch of texts."""
        self.load()
        assert self._encoder is not None
        texts = cast("list[str]", inputs[0])
        if not all(isinstance(text, str) for text in texts):
            raise ItemError("expected a text")
        vectors = self._encoder(texts)
        if vectors.shape != (len(texts), self._folder.length):
            raise ServiceError(
                f"{self._folder.path} answers vectors of {vectors.shape[-1]} numbers, but its configuration says "
                f"{self._folder.length}",
                retry=False,
            )
        return {"embedding": vector_column(vectors, self._normalize)}

    def close(self) -> None:
        """Let go of the network and its memory."""
        self._encoder = None
        free_memory(self._spec.device)


class ImageEmbedding:
    """Pictures by a classifier of torchvision without its last layer. Options beside ``model`` and ``normalize``:

    weights, seed: see `Recipe`. dimensions: how long the vectors are, for a network that is not known by name.
    device, half: auto, cpu, cuda, cuda:N or mps; half precision, on a GPU.
    """

    def __init__(self, options: Options) -> None:
        require("torch", "torch", "torchvision", provider="embedding")
        known = (*Recipe.OPTIONS, "dimensions", "normalize", "device", "half", *types.COMMON)
        options.refuse_unknown(known)
        self._recipe = Recipe.read(options)
        if is_detector(self._recipe.name):
            raise ProgrammingError(f"option 'model': {self._recipe.name!r} is a detector, and gives no embedding")
        length: int | None = options.take("dimensions", types.positive_int, None)
        length = length or next((n for n, names in _LENGTHS.items() if self._recipe.name in names.split()), None)
        if length is None:
            raise ProgrammingError(
                f"option 'model': {self._recipe.name!r} is no folder of a text model, and no network of torchvision "
                "whose vectors have a known length; if it is one, set 'dimensions'"
            )
        self._length = length
        self._normalize = options.take("normalize", bool, True)
        self._device = options.take("device", device_name, "auto")
        self._half = options.take("half", bool, False)
        common, device = types.Common.read(options), guess(self._device, "torch")
        self._spec = ModelSpec(
            inputs=(Input("image", "image"),),
            outputs=(vector_output(length),),
            rows="one",
            fingerprint=fingerprint(
                "embedding", _VERSION, "image", self._recipe.identity(), length, self._normalize, self._half
            ),
            batch_size=common.batch_size or usual_batch(device),
            price_per_call=common.price_per_call,
            seconds_per_item=0.05,
            device=device,
        )
        self._network: _Network | None = None

    @property
    def spec(self) -> ModelSpec:
        """See `ModelSpec`; ``device`` is a forecast until the model is loaded."""
        return self._spec

    def load(self) -> None:
        """Build the network, take its last layer off, and put it onto the device."""
        if self._network is not None:
            return
        torchvision()
        device = settle(self._device)
        half_refused(self._half, device)
        network, entry = self._recipe.build(None, device, self._half)
        width = _behead(network)
        if width != self._length:
            raise ServiceError(
                f"{self._recipe.name} gives vectors of {width} numbers, not {self._length}: set dimensions = {width}",
                retry=False,
            )
        self._transform: Callable[[Any], Any] = entry.transforms()
        self._network = network
        self._spec = replace(self._spec, device=device)

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer one batch of pictures."""
        self.load()
        assert self._network is not None
        import torch

        images = [middle(rgb(image)) for image in cast("list[Any]", inputs[0])]
        pixels = [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in images]
        batch = torch.stack([self._transform(p) for p in pixels]).to(self._spec.device)
        with torch.inference_mode():
            vectors: NDArray[Any] = self._network(batch.half() if self._half else batch).float().cpu().numpy()
        return {"embedding": vector_column(vectors.reshape(len(images), -1), self._normalize)}

    def close(self) -> None:
        """Let go of the network and its memory."""
        self._network = None
        free_memory(self._spec.device)


class _Network(Protocol):
    def __call__(self, batch: Any) -> Any: ...


def _behead(network: Any) -> int:
    """Replace the last layer, which maps features to classes, by nothing; how many features there are."""
    import torch

    linear = [
        (path, layer)
        for path, layer in network.named_modules()
        if isinstance(layer, torch.nn.Linear) and not path.lower().startswith("aux")
    ]
    if not linear:
        raise ServiceError("this network has no last linear layer to take off; choose another one", retry=False)
    path, last = linear[-1]
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, torch.nn.Identity())
    return int(last.in_features)
