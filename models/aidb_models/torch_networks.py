"""Networks of torchvision, built by name and filled with weights: official ones, a file's, or none.

What is shared by the providers ``torchvision`` and ``embedding``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.error import URLError

from aidb.errors import ProgrammingError
from aidb.spi.model import ServiceError
from aidb.spi.options import Options
from aidb_models import option_types as types
from aidb_models.runtimes import torchvision
from aidb_models.weights import digest, existing_file, state_dict

_DETECTORS = ("fasterrcnn_", "maskrcnn_", "keypointrcnn_", "retinanet_", "fcos_", "ssd300_", "ssdlite320_")
_BACKGROUND = "__background__"


def is_detector(name: str) -> bool:
    """Does torchvision's model of this name find boxes?"""
    return name.startswith(_DETECTORS)


@dataclass(frozen=True)
class Recipe:
    """Which network, and where its weights come from.

    weights: ``default`` or another official name of torchvision (such as IMAGENET1K_V1), fetched by torchvision;
        ``none`` for an untrained network made of ``seed``; or a file with a state dict.
    file: that file, or None.
    """

    name: str
    weights: str
    file: Path | None
    seed: int

    OPTIONS = ("model", "weights", "seed")

    @classmethod
    def read(cls, options: Options) -> Recipe:
        """Take the options ``model``, ``weights`` (default) and ``seed`` (0)."""
        name = options.take("model", types.text).lower()
        weights = options.take("weights", types.text, "default")
        seed = options.take("seed", types.whole, 0)
        official = weights.lower() in ("default", "none") or (Path(weights).suffix == "" and "/" not in weights)
        return cls(name, weights.lower() if official else weights, None if official else existing_file(weights), seed)

    def identity(self) -> tuple[object, ...]:
        """What stands for the weights in a fingerprint.

        Which weights are the default ones, and how an untrained network is filled, depends on the installed version.
        """
        if self.file is not None:
            return (self.name, digest(self.file))
        return (self.name, self.weights, self.seed if self.weights == "none" else None, _installed())

    def build(self, classes: int | None, device: str, half: bool) -> tuple[Any, Any]:
        """The network in evaluation mode on a device, and the entry of torchvision's weights that describes it.

        classes: size of its last layer if it is not the official one (background included for a detector).
        Raises ServiceError, not to be retried, for an unknown name, or weights that don't fit or can't be fetched.
        """
        import torch

        models = torchvision().models
        if self.name not in models.list_models():
            near = [n for n in models.list_models() if n.split("_")[0] == self.name.split("_")[0]]
            hint = f"; near to it are {', '.join(near[:8])}" if near else ""
            raise ServiceError(f"torchvision has no model {self.name!r}{hint}", retry=False)
        entry = self._entry(models.get_model_weights(self.name))
        arguments: dict[str, Any] = {"weights_backbone": None} if is_detector(self.name) else {}
        if classes is not None:
            arguments["num_classes"] = classes
        if self.weights == "none":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                network = models.get_model(self.name, weights=None, **arguments)
        elif self.file is None:
            network = _fetched(lambda: models.get_model(self.name, weights=entry, progress=False), entry.url)
        else:
            network = models.get_model(self.name, weights=None, **arguments)
            self._fill(network)
        network = network.eval().to(device)
        return (network.half() if half else network), entry

    def _entry(self, official: Any) -> Any:
        if self.file is not None or self.weights in ("default", "none"):
            return official.DEFAULT
        for entry in official:
            if entry.name.lower() == self.weights:
                return entry
        names = ", ".join(entry.name for entry in official)
        raise ServiceError(f"{self.name} has no official weights {self.weights!r}; there is {names}", retry=False)

    def _fill(self, network: Any) -> None:
        assert self.file is not None
        tensors, own = state_dict(self.file), network.state_dict()
        missing, surplus = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
        reshaped = [
            f"{k}: {list(tensors[k].shape)} in the file, {list(v.shape)} in the network"
            for k, v in own.items()
            if k in tensors and tensors[k].shape != v.shape
        ]
        if missing or surplus or reshaped:
            faults = [
                *([f"{len(missing)} tensors are missing ({', '.join(missing[:3])}...)"] if missing else []),
                *([f"{len(surplus)} are unknown ({', '.join(surplus[:3])}...)"] if surplus else []),
                *([f"{len(reshaped)} have another shape ({'; '.join(reshaped[:2])})"] if reshaped else []),
            ]
            raise ServiceError(
                f"{self.file} does not fit the network {self.name}: {', '.join(faults)}. If it was trained for other "
                "classes, name them all, in order: classes = [...]",
                retry=False,
            )
        network.load_state_dict(tensors)


def category_names(entry: Any, given: tuple[str, ...], detector: bool) -> tuple[str, ...]:
    """Names by class number: those given (a detector's start with the background, number 0), else the official ones."""
    if given:
        return (_BACKGROUND, *given) if detector and given[0] != _BACKGROUND else given
    return tuple(str(name) for name in entry.meta["categories"])


def class_size(given: tuple[str, ...], detector: bool) -> int | None:
    """How many outputs a network for the classes ``given`` has, or None if they are the official ones."""
    return len(category_names(None, given, detector)) if given else None


def _fetched(build: Callable[[], Any], url: str) -> Any:
    import torch

    try:
        return build()
    except (URLError, OSError) as e:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ServiceError(
            f"{url} could not be downloaded ({e}). Without network access, get the file elsewhere and put it into "
            f"{folder}, or name its path: weights = '/path/to/{Path(url).name}'",
            retry=False,
        ) from e


def _installed() -> str:
    try:
        return version("torchvision")
    except PackageNotFoundError as e:
        raise ProgrammingError("no package 'torchvision': pip install 'aidb[torch]'") from e
