"""Networks in ONNX files, run by onnxruntime: detectors, classifiers, embeddings. The light way to a real model.

::

    CREATE MODEL yolo USING onnx WITH (weights = 'yolov8n.onnx');
    CREATE MODEL nano USING onnx WITH (weights = 'yolox_nano.onnx', confidence = 0.3);
    CREATE MODEL kind USING onnx WITH (weights = 'resnet18.onnx', task = 'classify', classes = 'imagenet.txt');

What a file says about itself (its shapes; names, size and task in exports of ultralytics) fills in the options that
are left out, and `PRESETS` the rest for each family of networks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from aidb.errors import ProgrammingError, UnknownName
from aidb.spi.model import Columns, Input, ItemError, ModelSpec, ServiceError, Values, fingerprint
from aidb.spi.options import Options
from aidb_models import option_types as types
from aidb_models.classes import from_metadata, given_classes
from aidb_models.decoders import DECODERS
from aidb_models.devices import device_name, guess, processors, usual_batch
from aidb_models.onnx_graph import Graph
from aidb_models.onnx_heads import PRESETS, Classify, Detect, Embed, Head, Part
from aidb_models.onnx_session import OnnxFile, Session
from aidb_models.pictures import Fit, Preparation
from aidb_models.runtimes import require

_VERSION = 1  # raise it when the same file and options give other answers
_LOOKS = ("color", "scale", "mean", "std", "letterbox", "crop_ratio")
_KNOWN = (
    *("weights", "task", "family", "size", *_LOOKS, "decode", "confidence", "iou", "max_det", "classes", "only"),
    *("activation", "normalize", "dimensions", "output", "device", "threads", *types.COMMON),
)
_OWN_OPTIONS = {
    "detect": ("decode", "confidence", "iou", "max_det", "classes", "only"),
    "classify": ("classes", "activation"),
    "embed": ("normalize", "dimensions"),
}


class Onnx:
    """The provider ``onnx``. Options, all but ``weights`` optional:

    weights: the ``.onnx`` file.
    task: ``detect`` (`BOX_OUTPUTS`, many rows), ``classify`` (`CLASS_OUTPUTS`, one row) or ``embed`` (``embedding
        FLOAT[n]``, one row). Default: what the file says, else told by its first output.
    family: a name of `PRESETS`, which gives defaults to the next lines; for a detector told by its answer.
    color, scale, mean, std, letterbox, crop_ratio: see `Preparation`; ``letterbox`` is its ``fit``.
    size: of the network's input in pixels, a number or [height, width]; needed if the file does not fix it.
    decode: a name of `DECODERS`, if it differs from the family's.
    confidence (0.25), iou, max_det (300): which boxes stay.
    classes: names of the network's classes, a list or a file; else the file's own, else COCO's if there are 80.
    only: labels to keep, of a detector.
    activation: of a classifier's answer, see `probabilities`.
    normalize: scale embeddings to length 1. dimensions: their length, if the file does not tell.
    output: name of the output to use, if it is not the first.
    device, threads: see `Session`. On a CPU several pictures are answered at the same time, each on ``threads`` threads.
    """

    def __init__(self, name: str, options: Options) -> None:
        require("onnx", "onnxruntime", "cv2", provider="onnx")
        options.refuse_unknown(_KNOWN)
        self._file = OnnxFile.open(options.take("weights", types.text))
        graph = self._file.graph
        self._size = _input_size(graph, options)
        self._output = _chosen_output(graph, options)
        self._looks = _looks(options)
        self._device = options.take("device", device_name, "auto")
        self._threads = options.take("threads", types.positive_int, 1)
        self._head, settings = _head(graph, self._output, options)
        common, device = types.Common.read(options), guess(self._device, "onnxruntime")
        seconds = _guess(self._file.bytes, self._size)
        self._spec = ModelSpec(
            inputs=(Input("image", "image"),),
            outputs=self._head.outputs,
            rows="many" if isinstance(self._head, Detect) else "one",
            fingerprint=fingerprint(
                "onnx", _VERSION, self._file.digest, self._size, self._output, self._looks, settings
            ),
            batch_size=common.batch_size or usual_batch(device, seconds),
            price_per_call=common.price_per_call,
            seconds_per_item=seconds,
            device=device,
            # Calls side by side use the processors better than threads inside of one call, which wait for each other.
            concurrency=max(1, processors() // self._threads) if device == "cpu" else 1,
        )
        self._ready: _Ready | None = None

    @property
    def spec(self) -> ModelSpec:
        """See `ModelSpec`; ``device`` is a forecast until the model is loaded."""
        return self._spec

    def load(self) -> None:
        """Open the network and show it one black picture: what it answers settles the family and the classes."""
        if self._ready is not None:
            return
        session = Session(self._file, self._device, self._threads, [self._output] if self._output else ())
        tensor = self._file.graph.inputs[0]
        last = tensor.shape[3] == 3 and tensor.shape[1] != 3
        black = np.zeros((1, *self._size, 3) if last else (1, 3, *self._size), tensor.dtype)
        try:
            family, needed = self._head.settle(session.outputs, session.run({tensor.name: black}), self._size)
        except ItemError as e:
            raise ServiceError(f"{self._file.path}: {e}; check the option 'size', now {self._size}", retry=False) from e
        except ServiceError as e:
            raise ServiceError(f"{self._file.path}: {e}", retry=False) from e
        session.outputs = tuple(session.outputs[i] for i in needed)
        preset = replace(PRESETS[family], **self._looks)
        preparation = Preparation(
            size=self._size,
            fit=cast("Fit", preset.letterbox),
            bgr=preset.color == "bgr",
            scale=preset.scale,
            mean=preset.mean,
            std=preset.std,
            crop_ratio=preset.crop_ratio,
            channels_last=last,
            dtype=tensor.dtype,
        )
        self._ready = _Ready(session, preparation, tensor.name)
        self._spec = replace(
            self._spec, device=session.device, concurrency=self._spec.concurrency if session.device == "cpu" else 1
        )

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer one batch of pictures; see the class for the columns."""
        self.load()
        assert self._ready is not None
        images = cast("list[Any]", inputs[0])
        return self._head.read(self._ready.run(images, one_by_one=self._head.one_by_one))

    def close(self) -> None:
        """Drop the session."""
        self._ready = None


@dataclass(frozen=True)
class _Ready:
    """A network that is open, and how to show it pictures."""

    session: Session
    preparation: Preparation
    input: str
    kept: threading.local = field(default_factory=threading.local)
    """The last picture that a thread prepared: its memory serves the next one."""

    def run(self, images: Sequence[Any], *, one_by_one: bool) -> Iterator[Part]:
        """Answers for a few pictures after the other, in order; one_by_one: for each by itself, whatever the device."""
        if not one_by_one and (self.session.device != "cpu" or self.session.batch not in (None, 1)):
            prepared = [self.preparation(image) for image in images]
            yield self.session.run({self.input: np.stack([p for p, _ in prepared])}), [p for _, p in prepared]
            return
        # One picture after the other, read before the next is shown: what a layer gives, and the answer too, still lies
        # in the cache for what comes next, and answers of a megabyte each don't pile up.
        pixels = getattr(self.kept, "pixels", None)
        for image in images:
            pixels, placement = self.preparation(image, pixels)
            self.kept.pixels = pixels
            yield self.session.run({self.input: pixels[None]}), [placement]


def _guess(weights: int, size: tuple[int, int]) -> float:
    """Seconds a picture, before any was seen: of two networks the planner must know the cheap one.

    Each weight is used about as often as the picture has cells. Measured on one CPU core: 1.3 to 2.3e-14 seconds for a
    byte of weights and a pixel, for YOLOX-nano, YOLOv8n and ResNet-18.
    """
    return max(1e-4, 1.5e-14 * weights * size[0] * size[1])


def _head(graph: Graph, output: str | None, options: Options) -> tuple[Head, tuple[object, ...]]:
    """The head that the options and the file ask for, and the settings that its answers depend on."""
    by_ultralytics = "ultralytics" in (graph.metadata.get("author", "") + graph.metadata.get("description", "")).lower()
    task = options.take("task", types.one_of("detect", "classify", "embed"), None) or _told_task(graph, output)
    types.refuse_for_task(options, task, **_OWN_OPTIONS)
    family = options.take("family", types.one_of(*PRESETS), None)
    given = options.take("classes", given_classes, ())
    exported = from_metadata(graph.metadata.get("names"))
    normalize = options.take("normalize", bool, False)
    if task == "detect":
        detect = Detect(
            family,
            options.take("decode", types.one_of(*DECODERS), None),
            options.take("confidence", types.fraction, 0.25),
            options.take("iou", types.fraction, None),
            options.take("max_det", types.positive_int, 300),
            given,
            exported,
            options.take("only", types.names, ()),
        )
        settings = (detect.confidence, detect.iou, detect.max_det, detect.only)
        return detect, (task, family, detect.decode, given, *settings)
    family = family or ("ultralytics-cls" if by_ultralytics else "imagenet")
    if task == "embed":
        length = options.take("dimensions", types.positive_int, None) or _length(graph, output)
        return Embed(family, length, normalize), (task, family, length, normalize)
    activation = options.take("activation", types.one_of("auto", "softmax", "sigmoid", "none"), "auto")
    return Classify(family, given or exported, activation), (task, family, given, activation)


def _told_task(graph: Graph, output: str | None) -> str:
    told = graph.metadata.get("task", "")
    if told in ("detect", "segment", "pose"):
        return "detect"  # of masks and key points the boxes are read
    if told == "classify":
        return "classify"
    if told:
        raise ProgrammingError(f"the file is a network for {told!r}, which the provider onnx does not read")
    tensor = next((t for t in graph.outputs if t.name == output), graph.outputs[0])
    return "classify" if len(tensor.shape) == 2 and len(graph.outputs) == 1 else "detect"


def _length(graph: Graph, output: str | None) -> int:
    tensor = next((t for t in graph.outputs if t.name == output), graph.outputs[0])
    sizes = [s for s in tensor.shape[1:] if s != 1]
    if len(sizes) == 1 and sizes[0] is not None:
        return sizes[0]
    raise ProgrammingError(
        f"the file does not tell how long its embeddings are (output {tensor.name!r} has the shape "
        f"{list(tensor.shape)}): set the option 'dimensions', or another 'output'"
    )


def _chosen_output(graph: Graph, options: Options) -> str | None:
    name: str | None = options.take("output", types.text, None)
    if name is not None and name not in (there := [t.name for t in graph.outputs]):
        raise UnknownName.of("output of the network", name, there)
    return name


def _input_size(graph: Graph, options: Options) -> tuple[int, int]:
    """Height and width: asked for, or fixed by the file, or noted in it by its exporter."""
    shape = graph.inputs[0].shape if len(graph.inputs) == 1 else ()
    if len(shape) != 4 or graph.inputs[0].dtype not in ("float32", "float16", "float64", "uint8"):
        what = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in graph.inputs)
        raise ProgrammingError(
            f"the provider onnx needs a network with one input, a batch of pictures; this has {what}"
        )
    fixed = shape[1:3] if shape[3] == 3 and shape[1] != 3 else shape[2:4]
    asked: tuple[int, int] | None = options.take("size", types.height_width, None)
    if asked is not None:
        if any(f is not None and f != a for f, a in zip(fixed, asked, strict=True)):
            raise ProgrammingError(f"option 'size': the network's input is fixed to {list(fixed)}, not {list(asked)}")
        return asked
    if fixed[0] is not None and fixed[1] is not None:
        return fixed[0], fixed[1]
    noted = [int(s) for s in from_metadata(graph.metadata.get("imgsz")) if s.isdigit()]
    if len(noted) == 2 and all(noted):
        return noted[0], noted[1]
    raise ProgrammingError(
        "the file does not fix the size of its input: set the option 'size', for instance size = 640"
    )


def _looks(options: Options) -> dict[str, Any]:
    """How pictures are prepared where the user says so; what is left out comes from the family's preset."""
    readers: dict[str, Callable[[object], Any]] = {
        "color": types.one_of("rgb", "bgr"),
        "scale": types.number,
        "mean": types.numbers,
        "std": types.numbers,
        "letterbox": types.one_of("center", "topleft", "none", "crop"),
        "crop_ratio": types.fraction,
    }
    looks: dict[str, Any] = {name: options.take(name, readers[name]) for name in _LOOKS if name in options}
    for name in ("mean", "std"):
        if name in looks and len(looks[name]) not in (1, 3):
            raise ProgrammingError(f"option {name!r}: expected one number, or one for each of the three channels")
    if 0 in looks.get("std", ()) or looks.get("crop_ratio") == 0:
        raise ProgrammingError("options 'std' and 'crop_ratio' must not be 0")
    return looks
