"""YOLO networks by the package ultralytics: boxes, masks, key points, turned boxes, classes, and tracking.

::

    CREATE MODEL yolo  USING ultralytics WITH (weights = 'yolo11n.pt');
    CREATE MODEL people USING ultralytics WITH (weights = 'yolo11n.pt', only = 'person', track = true);

The package is under AGPL-3.0, so AIDB does not depend on it: it is an extra, and imported only when a model of this
provider is loaded. It is kept from using the network, except to fetch official weights that were asked for by name.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from aidb.errors import ProgrammingError
from aidb.spi.model import Columns, Input, ModelSpec, Output, ServiceError, Values, fingerprint
from aidb.spi.options import Options
from aidb_models import option_types as types
from aidb_models.boxes import BOX_OUTPUTS, CLASS_OUTPUTS, Detections, classes_found
from aidb_models.classes import by_number, numbers_of
from aidb_models.devices import device_name, free_memory, guess, half_refused, settle, usual_batch
from aidb_models.pictures import alike, rgb
from aidb_models.runtimes import imported, require, torchvision
from aidb_models.weights import digest, existing_file

_VERSION = 1  # raise it when the same weights and options give other answers
_POLYGON = Output("polygon", "DOUBLE[]")
TASKS = {
    "detect": BOX_OUTPUTS,
    "segment": (*BOX_OUTPUTS, Output("area", "DOUBLE"), _POLYGON),
    "pose": (*BOX_OUTPUTS, Output("keypoints", "DOUBLE[]")),
    "obb": (*BOX_OUTPUTS, Output("angle", "DOUBLE"), _POLYGON),
    "classify": CLASS_OUTPUTS,
}
"""The columns of each task. ``area`` is a mask's, in pixels of the picture; ``polygon`` is x1, y1, x2, y2, ... of its
outline, or of the four corners of a turned box; ``angle`` is that box's, in radians; ``keypoints`` is x, y, confidence
of each point in turn."""

TRACK_OUTPUT = Output("track_id", "BIGINT")
_SUFFIXES = {"-seg": "segment", "-pose": "pose", "-obb": "obb", "-cls": "classify"}
_KNOWN = (
    *("weights", "task", "track", "tracker", "confidence", "iou", "size", "half", "device", "only", "max_det"),
    *("seed", "trust", *types.COMMON),
)
_loading = threading.Lock()


class Ultralytics:
    """The provider ``ultralytics``. Options, all but ``weights`` optional:

    weights: a ``.pt`` file (or an export that ultralytics reads); or the name of official weights, fetched when the
        model is loaded; or ``yolov8n.yaml`` and the like for an untrained network, made of the option ``seed`` (0).
    task: a name of `TASKS`; default by the file's name (``-seg``, ``-pose``, ``-obb``, ``-cls``), else ``detect``.
    track: follow objects through a video: adds ``track_id``, the same for one object in one file, NULL while a track is
        not sure. tracker: ``bytetrack`` (default), ``botsort``, or a tracker's ``.yaml`` file. Needs the package lap.
    confidence (0.25, or 0.1 when tracking), iou (0.7), max_det (300): which boxes stay. only: labels to keep.
    size: longest side of the network's input, default as it was trained. half: half precision, on a GPU.
    device: auto, cpu, cuda, cuda:N or mps.
    trust: true to unpickle a file that holds Python objects unknown to ultralytics. Such a file can run any code.
    """

    def __init__(self, name: str, options: Options) -> None:
        require("ultralytics", "ultralytics", provider="ultralytics")
        options.refuse_unknown(_KNOWN)
        self._weights = options.take("weights", types.text)
        task = options.take("task", types.one_of(*TASKS, "track"), None)
        self._track = options.take("track", bool, task == "track" or "tracker" in options)
        self._task = _task_of(self._weights) if task is None else "detect" if task == "track" else task
        boxed = ("confidence", "iou", "max_det", "only")
        types.refuse_for_task(options, self._task, **{task: boxed for task in TASKS if task != "classify"})
        if self._track and self._task == "classify":
            raise ProgrammingError("a classifier finds no objects that could be tracked: leave out 'track'")
        if self._track:
            require("ultralytics", "lap", provider="ultralytics with track = true")
        self._tracker = _tracker_file(options.take("tracker", types.text, "bytetrack"))
        self._confidence = options.take("confidence", types.fraction, 0.1 if self._track else 0.25)
        self._iou = options.take("iou", types.fraction, 0.7)
        self._max_det = options.take("max_det", types.positive_int, 300)
        self._size = options.take("size", types.positive_int, None)
        self._half = options.take("half", bool, False)
        self._device = options.take("device", device_name, "auto")
        self._only = options.take("only", types.names, ())
        self._seed = options.take("seed", types.whole, 0)
        self._trust = options.take("trust", bool, False)
        common, device = types.Common.read(options), guess(self._device, "torch")
        tracked: tuple[object, ...] = ()
        if self._track:
            own = Path(self._tracker)
            tracked = ("track", digest(own) if own.is_file() else self._tracker)
        self._spec = ModelSpec(
            inputs=(Input("image", "image"),),
            outputs=(*TASKS[self._task], *([TRACK_OUTPUT] if self._track else [])),
            rows="one" if self._task == "classify" else "many",
            fingerprint=fingerprint(
                "ultralytics",
                _VERSION,
                _identity(self._weights, self._seed),
                (self._task, self._confidence, self._iou, self._max_det, self._size, self._half, self._only),
                tracked,
            ),
            batch_size=common.batch_size or usual_batch(device),
            price_per_call=common.price_per_call,
            seconds_per_item=0.1,
            device=device,
            sequential=self._track,
        )
        self._model: Any = None

    @property
    def spec(self) -> ModelSpec:
        """See `ModelSpec`; ``device`` is a forecast until the model is loaded."""
        return self._spec

    def load(self) -> None:
        """Import ultralytics, fetch the weights if they are official ones, and put them onto the device."""
        if self._model is not None:
            return
        torchvision()  # ultralytics imports it, and would fail with a message about an operator
        import torch

        threads = torch.get_num_threads()
        _imported()
        device = settle(self._device)
        half_refused(self._half, device)
        model = self._opened()
        if model.task != self._task:
            raise ServiceError(
                f"{self._weights} is a network for the task {model.task!r}, not {self._task!r}: create the model "
                f"with task = {model.task!r}"
                if model.task in TASKS
                else f"{self._weights} is a network for {model.task!r}, which the provider ultralytics does not read",
                retry=False,
            )
        self._classes = by_number(model.names)
        self._arguments = self._settings(device)
        self._threads = threads if device == "cpu" else None
        self._model = model
        self._spec = replace(self._spec, device=device)

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer one batch of pictures; with ``track`` they are the next ones of a file, or the first (``restart``)."""
        self.load()
        images = [rgb(image)[:, :, ::-1] for image in cast("list[Any]", inputs[0])]  # it wants blue first
        if restart and self._track:
            for tracker in getattr(self._model.predictor, "trackers", ()):
                tracker.reset()
        results: list[Any] = [None] * len(images)
        for group in alike(images, in_order=self._track):
            # On a CPU a picture a thread is fastest, by about 10%: a larger batch leaves the cache between two layers.
            step = self._threads or len(group)
            for part in (group[n : n + step] for n in range(0, len(group), step)):
                batch = [images[i] for i in part]
                if self._track:
                    answers = self._model.track(batch, persist=True, tracker=self._tracker, **self._arguments)
                else:
                    answers = self._model.predict(batch, **self._arguments)
                for i, answer in zip(part, answers, strict=True):
                    results[i] = answer
                self._take_all_threads()
        if self._task == "classify":
            return classes_found(np.stack([_array(r.probs.data) for r in results]), self._classes)
        found = Detections(self._classes, tuple(o.name for o in self._spec.outputs[len(BOX_OUTPUTS) :]))
        for i, result in enumerate(results):
            boxes = result.obb if self._task == "obb" else result.boxes
            height, width = result.orig_shape
            corners = np.clip(_array(boxes.xyxy), 0, [width, height] * 2)  # those of turned boxes may lie outside
            found.add(i, corners, _array(boxes.conf), _array(boxes.cls), self._more(result))
        return found.columns()

    def _take_all_threads(self) -> None:
        """ultralytics leaves one processor to whoever feeds it, of two every second one, as soon as it predicts."""
        if self._threads:
            import torch

            if torch.get_num_threads() != self._threads:
                torch.set_num_threads(self._threads)

    def close(self) -> None:
        """Let go of the network and its memory."""
        self._model = None
        free_memory(self._spec.device)

    def _opened(self) -> Any:
        """The network: a file's, an official one, or an untrained one."""
        import torch
        from ultralytics import YOLO

        if Path(self._weights).suffix in (".yaml", ".yml"):
            with torch.random.fork_rng():
                torch.manual_seed(self._seed)
                return YOLO(self._weights, task=self._task, verbose=False)
        path = Path(self._weights).expanduser()
        file = path if path.is_file() else _fetched(self._weights)
        with _loading, _only_known_classes(file, self._trust):
            try:
                return YOLO(str(file), task=self._task, verbose=False)
            except Exception as e:  # its errors for a damaged or a refused file have no common base
                reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
                raise ServiceError(
                    f"ultralytics can't load {file}: {reason}. If the file holds Python objects of other packages, it "
                    "is refused because loading them can run any code: if you trust it, set trust = true",
                    retry=False,
                ) from e

    def _settings(self, device: str) -> dict[str, Any]:
        """The arguments of each call of `predict` or `track`."""
        from ultralytics.cfg import DEFAULT_CFG_DICT

        settings: dict[str, Any] = {
            "conf": self._confidence,
            "iou": self._iou,
            "max_det": self._max_det,
            "device": device,
            "verbose": False,
            "save": False,
        }
        if self._size is not None:
            settings["imgsz"] = self._size
        if self._only:
            settings["classes"] = numbers_of(self._only, self._classes)
        if self._half:  # the option was renamed in 8.4
            settings |= {"quantize": 16} if "quantize" in DEFAULT_CFG_DICT else {"half": True}
        return settings

    def _more(self, result: Any) -> dict[str, Sequence[object]]:
        """The columns after those of every detector, one entry an object."""
        more: dict[str, Sequence[object]] = {}
        boxes = result.obb if self._task == "obb" else result.boxes
        if self._task == "segment":
            masks = result.masks
            more["polygon"] = [] if masks is None else [np.asarray(p, np.float64).ravel().tolist() for p in masks.xy]
            more["area"] = [] if masks is None else _areas(masks.data, result.orig_shape)
        elif self._task == "pose":
            points = _array(result.keypoints.data)
            more["keypoints"] = [p.ravel().tolist() for p in points]
        elif self._task == "obb":
            more["angle"] = _array(boxes.xywhr)[:, 4].tolist()
            more["polygon"] = [p.ravel().tolist() for p in _array(boxes.xyxyxyxy)]
        if self._track:
            more["track_id"] = [None] * len(boxes) if boxes.id is None else _array(boxes.id).astype(int).tolist()
        return more


def _task_of(weights: str) -> str:
    stem = Path(weights).stem.lower()
    return next((task for suffix, task in _SUFFIXES.items() if suffix in stem), "detect")


def _identity(weights: str, seed: int) -> object:
    """What stands for the weights in the fingerprint; ProgrammingError if they can't exist.

    Official weights count by their name wherever they lie by now: fetching them must not make stored answers stale.
    """
    path = Path(weights).expanduser()
    if path.suffix in (".yaml", ".yml"):
        return ("untrained", digest(path) if path.is_file() else weights, seed)
    if path.is_file():
        return digest(existing_file(weights))
    if path.is_dir() or path.name != weights or path.suffix != ".pt":
        existing_file(weights)
    return ("official", weights)


def _tracker_file(value: str) -> str:
    """A tracker's file: one of the package's by its bare name, or the user's own."""
    if Path(value).suffix in (".yaml", ".yml"):
        return value if Path(value).name == value and not Path(value).exists() else str(existing_file(value, "tracker"))
    if value not in ("bytetrack", "botsort"):
        raise ProgrammingError(f"option 'tracker': {value!r} is neither bytetrack nor botsort, nor a .yaml file")
    return f"{value}.yaml"


def _home() -> Path:
    """Where settings of ultralytics, and weights that it fetched, are kept apart from the user's own."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "aidb" / "ultralytics"


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ServiceError(
            f"ultralytics needs a folder for its settings and weights, and {folder} can't be made ({e.strerror}): set "
            "XDG_CACHE_HOME to a folder that can be written to",
            retry=False,
        ) from e


def _imported() -> None:
    """Import ultralytics so that it neither probes the network, nor reports usage, nor installs packages.

    A setting that the user made is respected; one that imported the package before us has made the choice. Pillow stays
    as it was: the package would have it look for others, and install them, when it is shown what is no picture.
    """
    if "ultralytics" not in sys.modules:
        from PIL import Image

        opened = Image.open
        os.environ.setdefault("YOLO_OFFLINE", "true")
        os.environ.setdefault("YOLO_AUTOINSTALL", "false")
        os.environ.setdefault("YOLO_VERBOSE", "false")
        if "YOLO_CONFIG_DIR" not in os.environ:
            _made(_home())
            os.environ["YOLO_CONFIG_DIR"] = str(_home())
            imported("ultralytics", "ultralytics").settings.update({"sync": False})
        imported("ultralytics", "ultralytics")
        Image.open = opened
    imported("ultralytics", "ultralytics")


def _fetched(name: str) -> Path:
    """Official weights, downloaded once; ServiceError, not to be retried, if that fails."""
    target = _home() / "weights" / name
    if target.is_file():
        return target
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

    if name not in GITHUB_ASSETS_NAMES:
        raise ServiceError(
            f"there is no file {name!r} in {Path.cwd()}, and it is no name of official weights of ultralytics",
            retry=False,
        )
    _made(target.parent)
    try:
        attempt_download_asset(target)
    except (OSError, ConnectionError) as e:
        raise ServiceError(
            f"{name} could not be downloaded ({e}). Without network access, get the file elsewhere and put it into "
            f"{target.parent}, or name its path: weights = '/path/to/{name}'",
            retry=False,
        ) from e
    if not target.is_file():
        raise ServiceError(f"{name} could not be downloaded; put the file into {target.parent}", retry=False)
    return target


class _only_known_classes:  # noqa: N801  reads as a statement
    """While a checkpoint is read, let ultralytics rebuild only classes that it knows, instead of unpickling anything."""

    def __init__(self, file: Path, trust: bool) -> None:
        from ultralytics.nn import tasks

        self._tasks, self._safe = tasks, not trust and file.suffix == ".pt"
        if self._safe and not hasattr(tasks, "SAFE_LOAD"):
            raise ServiceError(
                "this version of ultralytics can't load a .pt file without unpickling it, which can run any code: "
                "pip install -U ultralytics, or set trust = true for a file that you trust",
                retry=False,
            )

    def __enter__(self) -> None:
        self._before = getattr(self._tasks, "SAFE_LOAD", False)
        self._tasks.SAFE_LOAD = self._safe

    def __exit__(self, *error: object) -> None:
        self._tasks.SAFE_LOAD = self._before


def _areas(masks: Any, shape: tuple[int, int]) -> list[float]:
    """Pixels of the picture that each mask covers; masks have the size of the network's input, its padding included."""
    gain = min(masks.shape[1] / shape[0], masks.shape[2] / shape[1])
    margins = [(side - original * gain) / 2 for side, original in zip(masks.shape[1:], shape, strict=True)]
    top, left = (round(m - 0.1) for m in margins)
    bottom, right = (side - round(m + 0.1) for side, m in zip(masks.shape[1:], margins, strict=True))
    inner = masks[:, top:bottom, left:right].flatten(1)
    return [float(share) * shape[0] * shape[1] for share in inner.float().mean(dim=1).tolist()]


def _array(tensor: Any) -> NDArray[Any]:
    result: NDArray[Any] = tensor.cpu().numpy()
    return result
