"""What an answer took and what it promises, in words that a person understands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aidb.report import Report

_RESTS = {
    "guaranteed": "whatever the proxy is worth",
    "asymptotic": "by an approximation that is good for large samples",
    "conditional": "if the assumption in the notes holds",
}


def cost(report: Report) -> str:
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


def promise(report: Report) -> list[str]:
    """Sentences on what the guarantee of an answer says; none for an exact one.

    >>> from aidb.report import Report
    >>> promise(Report("guaranteed", {"recall": 0.9}, 0.95, method="cells"))
    ['at least 90% of all matching rows are here, with probability 95%, whatever the proxy is worth (guaranteed, cells)']
    """
    if report.mode == "exact":
        return []
    said = [*_intervals(report.intervals), *_targets(report)]
    sure = "" if report.probability is None else f", with probability {_percent(report.probability)}"
    rests = _RESTS.get(report.mode)
    how = f" ({', '.join(part for part in (report.mode, report.method) if part)})"
    sentences = []
    if said:
        sentences.append(f"{' and '.join(said)}{sure}{f', {rests}' if rests else ''}{how}")
    for name, value in report.certified.items():
        if name not in (report.target or {}) or value < (report.target or {})[name]:
            sentences.append(f"certain without any approximation: {name} {_percent(value)} or more")
    return sentences


def _intervals(intervals: Mapping[str, object]) -> list[str]:
    said = []
    for column, found in intervals.items():
        if isinstance(found, Mapping):
            said.append(f"{column} has an interval for each of {len(found):,} groups (report.intervals)")
        elif isinstance(found, tuple):
            said.append(f"{column} is between {_number(found[0])} and {_number(found[1])}")
    return said


def _targets(report: Report) -> list[str]:
    wanted = report.target or {}
    least = "about" if report.mode == "expected" else "at least"
    said = []
    if "recall" in wanted:
        said.append(f"{least} {_percent(wanted['recall'])} of all matching rows are here")
    if "precision" in wanted:
        said.append(f"{least} {_percent(wanted['precision'])} of the rows here match")
    return said


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
