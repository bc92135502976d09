"""Names of classes: the 80 of COCO, and lists that users bring."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from aidb.errors import UnknownName
from aidb.spi.model import ServiceError

COCO: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
    "toothbrush",
)  # fmt: skip
"""The 80 object classes of COCO, in the order that detectors number them (0 to 79)."""


def given_classes(value: object) -> tuple[str, ...]:
    """The type of the option ``classes``: a list of names, or a file with one name a line (or JSON: list or object)."""
    if isinstance(value, (list, tuple)):
        if not value or not all(isinstance(v, str) and v for v in value):
            raise ValueError("expected a list of names")
        return tuple(value)
    if not isinstance(value, str):
        raise TypeError("expected a list of names, or a file")
    path = Path(value).expanduser()
    if not path.is_file():
        raise ValueError("no such file; give a list of names, or a file with one name a line")
    content = path.read_text(encoding="utf-8").strip()
    if path.suffix.lower() == ".json":
        parsed = json.loads(content)
        result = by_number(parsed) if isinstance(parsed, dict) else tuple(str(v) for v in parsed)
    else:
        result = tuple(line.strip() for line in content.splitlines())
    if not result or not all(result):
        raise ValueError("the file has an empty name, or none at all")
    return result


def by_number(names: Mapping[object, object]) -> tuple[str, ...]:
    """Names keyed by class number, as a tuple; a number without a name stands for itself."""
    numbered = {int(str(k)): str(v) for k, v in names.items()}
    return tuple(numbered.get(i, str(i)) for i in range(max(numbered) + 1)) if numbered else ()


def from_metadata(value: str | None) -> tuple[str, ...]:
    """Names as exporters write them into a model file: a Python or JSON dict, or a list; () if there are none."""
    if not value:
        return ()
    try:
        parsed = ast.literal_eval(value)
        return by_number(parsed) if isinstance(parsed, dict) else tuple(str(v) for v in parsed)
    except (ValueError, SyntaxError, TypeError):
        return ()


def named(classes: Sequence[str], count: int, what: str) -> tuple[str, ...]:
    """Names for a network of ``count`` classes: those given, else COCO's for 80, else the numbers themselves.

    Raises ServiceError, not to be retried, if the names are too many or too few.
    """
    if classes:
        if len(classes) != count:
            raise ServiceError(
                f"{what} answers {count} classes, but {len(classes)} names were given for them", retry=False
            )
        return tuple(classes)
    return COCO if count == len(COCO) else tuple(str(i) for i in range(count))


def label(classes: Sequence[str], number: int) -> str:
    """The name of a class, or its number if it has none."""
    return classes[number] if 0 <= number < len(classes) else str(number)


def numbers_of(only: Collection[str], classes: Sequence[str]) -> list[int]:
    """The numbers of the classes named in the option ``only``; ServiceError for a name that the network lacks."""
    for name in only:
        if name not in classes:
            raise ServiceError(str(UnknownName.of("class in the option 'only'", name, classes)), retry=False)
    return [i for i, name in enumerate(classes) if name in only]
