"""Classifiers and detectors of torchvision, by name.

::

    CREATE MODEL kind USING torchvision WITH (model = 'resnet18');
    CREATE MODEL cars USING torchvision WITH (model = 'fasterrcnn_resnet50_fpn_v2', only = 'car', confidence = 0.5);
    CREATE MODEL mine USING torchvision WITH (model = 'resnet18', weights = 'mine.pth', classes = ['cat', 'dog']);
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from aidb.spi.model import Columns, Input, ModelSpec, Values, fingerprint
from aidb.spi.options import Options
from aidb_models import option_types as types
from aidb_models.boxes import BOX_OUTPUTS, CLASS_OUTPUTS, Detections, classes_found
from aidb_models.classes import given_classes, numbers_of
from aidb_models.devices import device_name, free_memory, guess, half_refused, settle, usual_batch
from aidb_models.pictures import alike, middle, rgb
from aidb_models.runtimes import require, torchvision
from aidb_models.torch_networks import Recipe, category_names, class_size, is_detector

_VERSION = 1  # raise it when the same weights and options give other answers
_KNOWN = (*Recipe.OPTIONS, "classes", "only", "confidence", "max_det", "device", "half", *types.COMMON)


class Torchvision:
    """The provider ``torchvision``: `BOX_OUTPUTS` and many rows for a detector, else `CLASS_OUTPUTS` and one row.

    Options, all but ``model`` optional:

    model: name of a classifier or detector of torchvision.
    weights, seed: see `Recipe`.
    classes: names of the network's classes if they are not the official ones, a list or a file; background left out.
    confidence (0.25), max_det (300), only: which boxes stay. Duplicates are removed by the network itself.
    device, half: auto, cpu, cuda, cuda:N or mps; half precision, on a GPU.
    """

    def __init__(self, name: str, options: Options) -> None:
        require("torch", "torch", "torchvision", provider="torchvision")
        options.refuse_unknown(_KNOWN)
        self._recipe = Recipe.read(options)
        self._detector = is_detector(self._recipe.name)
        own = {"detect": ("only", "confidence", "max_det")}
        types.refuse_for_task(options, "detect" if self._detector else "classify", **own)
        self._given = options.take("classes", given_classes, ())
        self._only = options.take("only", types.names, ())
        self._confidence = options.take("confidence", types.fraction, 0.25)
        self._max_det = options.take("max_det", types.positive_int, 300)
        self._device = options.take("device", device_name, "auto")
        self._half = options.take("half", bool, False)
        common, device = types.Common.read(options), guess(self._device, "torch")
        self._spec = ModelSpec(
            inputs=(Input("image", "image"),),
            outputs=BOX_OUTPUTS if self._detector else CLASS_OUTPUTS,
            rows="many" if self._detector else "one",
            fingerprint=fingerprint(
                "torchvision",
                _VERSION,
                self._recipe.identity(),
                (self._given, self._only, self._confidence, self._max_det, self._half),
            ),
            batch_size=common.batch_size or usual_batch(device),
            price_per_call=common.price_per_call,
            seconds_per_item=0.2 if self._detector else 0.05,
            device=device,
        )
        self._network: Any = None

    @property
    def spec(self) -> ModelSpec:
        """See `ModelSpec`; ``device`` is a forecast until the model is loaded."""
        return self._spec

    def load(self) -> None:
        """Build the network and put it onto the device."""
        if self._network is not None:
            return
        torchvision()
        device = settle(self._device)
        half_refused(self._half, device)
        network, entry = self._recipe.build(class_size(self._given, self._detector), device, self._half)
        self._classes = category_names(entry, self._given, self._detector)
        self._kept = numbers_of(self._only, self._classes) if self._only else None
        self._transform = entry.transforms()
        self._network = network
        self._spec = replace(self._spec, device=device)

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer one batch of pictures; see the class for the columns."""
        self.load()
        import torch

        images = [rgb(image) for image in cast("list[Any]", inputs[0])]
        with torch.inference_mode():
            return self._boxes(images) if self._detector else self._labels(images)

    def close(self) -> None:
        """Let go of the network and its memory."""
        self._network = None
        free_memory(self._spec.device)

    def _tensor(self, image: Any) -> Any:
        """One picture as the network's weights want it, on the device."""
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        prepared = self._transform(pixels).to(self._spec.device)
        return prepared.half() if self._half else prepared

    def _labels(self, images: Sequence[Any]) -> Columns:
        import torch

        answer = self._network(torch.stack([self._tensor(middle(image)) for image in images]))
        return classes_found(answer.double().softmax(dim=1).cpu().numpy(), self._classes)

    def _boxes(self, images: Sequence[Any]) -> Columns:
        answers: list[Any] = [None] * len(images)
        for group in alike(images):
            for i, answer in zip(group, self._network([self._tensor(images[i]) for i in group]), strict=True):
                answers[i] = answer
        found = Detections(self._classes)
        for i, answer in enumerate(answers):
            boxes, scores, ids = (answer[k].double().cpu().numpy() for k in ("boxes", "scores", "labels"))
            good = scores > self._confidence
            if self._kept is not None:
                good &= np.isin(ids, self._kept)
            best = np.flatnonzero(good)[: self._max_det]  # the network gives the best first
            found.add(i, boxes[best], scores[best], ids[best])
        return found.columns()
