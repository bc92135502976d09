"""torchvision on a torch without NVIDIA's libraries: the operators that its detectors need, written in NumPy.

The ordinary wheel of torchvision is linked to CUDA, so beside a CPU-only torch its compiled operators don't load and
`import torchvision` fails. On such a machine these tests, and nothing else, put two operators in its place. AIDB itself
never does: users get an error that says which builds to install.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

_library: Any = None  # torch forgets operators whose library object is gone


def install() -> str:
    """Make ``import torchvision`` work, before anything imports it: ``native``, ``shim``, or ``absent`` without it."""
    global _library
    if _library is not None:
        return "shim"
    spec = importlib.util.find_spec("torchvision") if importlib.util.find_spec("torch") else None
    if spec is None or spec.origin is None:
        return "absent"
    import torch

    for compiled in Path(spec.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(compiled)
        except OSError:
            continue
        return "native"
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
    _library.impl("nms", _nms, "CPU")
    importlib.import_module("torchvision.ops")

    for module in [m for name, m in sys.modules.items() if name.startswith("torchvision.")]:
        if hasattr(module, "_assert_has_ops"):
            module._assert_has_ops = lambda: None
    # Without the compiled operator this one is run by torch.compile, whose first call takes minutes.
    roi_align = sys.modules["torchvision.ops.roi_align"]
    roi_align._roi_align = getattr(roi_align._roi_align, "__wrapped__", roi_align._roi_align)
    return "shim"


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    import torch
    from aidb_models.boxes import suppress

    values = boxes.detach().double().numpy()
    same = scores.new_zeros(len(values)).numpy()
    kept = suppress(values, scores.detach().double().numpy(), same, iou_threshold, max(1, len(values)))
    return torch.as_tensor(kept, dtype=torch.int64)
