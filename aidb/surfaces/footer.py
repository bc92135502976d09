"""What a report says, in words for a person: what the models did, and what the answer is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aidb.cursor import Cursor
    from aidb.report import Report

_GROUPS = 8
"""So many groups of an estimate are told one by one."""
_WORTH = {
    "guaranteed": "guaranteed for every table and every proxy",
    "asymptotic": "asymptotic: this rests on an approximation",
    "conditional": "conditional: this holds if what the notes assume is so",
    "expected": "expected: so it is on average, no probability is promised",
    "exact": "exact: nothing had to be estimated",
}


def counted(cursor: Cursor, otherwise: str) -> str:
    """How many rows there are, or were changed; of a definition its own sentence, or what is said ``otherwise``."""
    if cursor.description is None and cursor.rowcount < 0:
        return cursor.message or otherwise
    changed = "" if cursor.description is not None else " changed"
    return f"{cursor.rowcount:,} row{'' if cursor.rowcount == 1 else 's'}{changed}"


def models(report: Report) -> str:
    """What the models did: ``yolo: 120 calls + 41 cached, 2 failed, cost 0.12``; nothing if none was needed."""
    parts = []
    for name in dict.fromkeys([*report.calls, *report.cached]):
        calls, cached = report.calls.get(name, 0), report.cached.get(name, 0)
        text = f"{name}: {calls:,} call{'' if calls == 1 else 's'}"
        parts.append(f"{text} + {cached:,} cached" if cached else text)
    if report.failed:
        parts.append(f"{report.failed:,} failed")
    if report.cost:
        parts.append(f"cost {report.cost:.4g}")
    return ", ".join(parts)


def worth(report: Report) -> list[str]:
    """What is promised of an answer that was estimated or chosen, a sentence a line; nothing for an ordinary one.

    >>> from aidb.report import Report
    >>> known = {"probability": 0.95, "intervals": {"cars": (1203.2, 1251.9)}, "method": "asr", "labels": 400}
    >>> [line] = worth(Report(mode="asymptotic", **known))
    >>> print(line)
    cars lies between 1,203 and 1,252 with probability 95% (asymptotic: this rests on an approximation; method asr, 400 labels)
    """
    facts = [*_intervals(report), *_targets(report)]
    if not facts:
        return []
    how = [f"method {report.method}"] if report.method else []
    how += [f"{report.labels:,} label{'' if report.labels == 1 else 's'}"] if report.labels else []
    how += [f"proxy {report.proxy}"] if report.proxy else []
    how += [f"seed {report.seed}"] if report.seed is not None else []
    said = "; ".join(part for part in (_WORTH[report.mode], ", ".join(how)) if part)
    return [*facts[:-1], f"{facts[-1]} ({said})"]


def _sure(report: Report) -> str:
    return "" if report.probability is None else f" with probability {share(report.probability)}"


def _intervals(report: Report) -> Iterator[str]:
    for column, found in report.intervals.items():
        if not isinstance(found, Mapping):
            yield f"{column} lies {_between(found)}{_sure(report)}"
            continue
        told = [f"{group}: {_between(pair)}" for group, pair in list(found.items())[:_GROUPS]]
        told += [f"{len(found) - _GROUPS:,} more groups are in aidb.queries"] if len(found) > _GROUPS else []
        yield "\n  ".join([f"{column} lies{_sure(report)}, for all groups together:", *told])


def _between(pair: Any) -> str:
    low, high = (float(value) for value in pair)
    if math.isinf(low) or math.isinf(high) or math.isnan(low) or math.isnan(high):
        bounds = [f"above {_rounded(low, math.floor)}"] if math.isfinite(low) else []
        bounds += [f"below {_rounded(high, math.ceil)}"] if math.isfinite(high) else []
        return " and ".join(bounds) or "anywhere: nothing is known of it"
    return f"between {_rounded(low, math.floor)} and {_rounded(high, math.ceil)}"


def _rounded(value: float, outwards: Any) -> str:
    """Some four digits, rounded so that the interval grows."""
    if value == 0:
        return "0"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{outwards(round(value * 10**decimals, 6)) / 10**decimals:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _targets(report: Report) -> Iterator[str]:
    """Recall and the like; the target of an estimate is its interval's business, and LIMIT none of probability."""
    wanted = report.target or {}
    if report.mode == "exact" and not report.intervals:
        return
    for name, value in wanted.items():
        if name in ("recall", "precision"):
            certain = report.certified.get(name)
            better = f", and {share(certain)} as certified" if certain is not None and certain > value + 0.001 else ""
            least = "about" if report.mode == "expected" else "at least"
            yield f"{name} is {least} {share(value)}{better}{_sure(report)}"
        elif name in ("fnr", "fpr"):
            most = "about" if report.mode == "expected" else "at most"
            yield f"the {'false negative' if name == 'fnr' else 'false positive'} rate is {most} {share(value)}{_sure(report)}"
    if any(name in wanted for name in ("recall", "precision")):
        for name, value in report.certified.items():
            if name not in wanted and value > 0:
                yield f"{name} is {'100%: every row was checked' if value >= 1 else f'at least {share(value)}'}"


def share(value: float) -> str:
    """A fraction as people write it.

    >>> share(0.95), share(0.9999), share(1.0)
    ('95%', '99.99%', '100%')
    """
    return f"{value * 100:.4g}%"
