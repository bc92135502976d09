"""Optional runtimes: imported on first use, and if they are missing or broken, an error that says what to install."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from aidb.errors import OperationalError
from aidb.spi.model import ServiceError


def require(extra: str, *modules: str, provider: str) -> None:
    """Check, without importing them, that packages are there.

    Raises OperationalError that names the extra to install; providers call it when a model is created.
    """
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise OperationalError(
            f"models of the provider {provider!r} need {' and '.join(missing)}: pip install 'aidb[{extra}]'"
        )


def imported(module: str, extra: str) -> ModuleType:
    """Import a package that `require` saw; one that is there but broken becomes a ServiceError."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        raise ServiceError(f"no package {e.name!r}: pip install 'aidb[{extra}]'", retry=False) from e
    except (ImportError, OSError) as e:
        raise ServiceError(
            f"{module} is installed but can't be imported ({e}); reinstall it: pip install 'aidb[{extra}]'",
            retry=False,
        ) from e


_broken_torchvision: str | None = None


def torchvision() -> ModuleType:
    """Import torchvision and make sure that its compiled operators work.

    A torchvision that was built against another torch fails in several ways: the import raises RuntimeError, or it
    succeeds and the first detector raises. Both end here as one ServiceError that says what to install. After a
    failed import Python keeps half of the package, so the verdict is remembered instead of being tried again.
    """
    global _broken_torchvision
    if _broken_torchvision is None:
        torch = imported("torch", "torch")
        try:
            module = importlib.import_module("torchvision")
            if hasattr(torch.ops.torchvision, "nms"):
                return module
            reason = "its compiled operators did not load"
        except ModuleNotFoundError as e:
            raise ServiceError(f"no package {e.name!r}: pip install 'aidb[torch]'", retry=False) from e
        except (RuntimeError, ImportError, OSError, AttributeError) as e:
            reason = str(e).splitlines()[0]
        _broken_torchvision = (
            f"torchvision {_version('torchvision')} does not work with torch {torch.__version__} ({reason}). Install "
            "two builds that belong together, from one index: for a machine without NVIDIA software "
            "pip install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cpu, "
            "otherwise pip install --force-reinstall 'aidb[torch]'"
        )
    raise ServiceError(_broken_torchvision, retry=False)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
