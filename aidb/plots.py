"""Plots of reports: how an estimate narrowed, and what thresholds on a proxy would have given. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aidb.errors import OperationalError, ProgrammingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aidb.report import Report

_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#d55e00", "#009e73", "#b8b8b4"
_BARS = 40
"""Groups that are drawn."""


def plot(report: Report, ax: Axes | None = None) -> Axes:
    """Draw what `aidb.report.Report.plot` says."""
    estimate = _array(report, "history")
    if estimate is not None:
        return _estimate(report, estimate, _axes(ax))
    bins, curve = _array(report, "histogram"), _array(report, "curve")
    if bins is not None or curve is not None:
        return _selection(report, bins, curve, _axes(ax))
    if report.mode != "exact" and report.intervals:
        return _intervals(report, _axes(ax))
    if report.mode == "exact":
        raise ProgrammingError(
            "there is nothing to plot: the answer is exact, nothing was estimated or chosen by a proxy"
        )
    raise ProgrammingError("there is nothing to plot: the report holds no arrays of an estimate or a selection")


def _array(report: Report, name: str) -> Any:
    """The array, or None if it is not there or empty."""
    found = report.arrays.get(name)
    return found if found is not None and len(found) else None


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as e:
        raise OperationalError("plots need matplotlib: pip install 'aidb[plot]'") from e
    _, made = pyplot.subplots(figsize=(7, 4), layout="constrained")
    return made


def _estimate(report: Report, history: Any, ax: Axes) -> Axes:
    """history: (k, 4), labels, value, low, high after each look."""
    import numpy as np

    labels, value, low, high = np.asarray(history, float).T
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(value)
    name, final = _first(report.intervals)
    style = "-" if known.sum() > 1 else "o"
    ax.fill_between(labels[known], low[known], high[known], color=_BLUE, alpha=0.2, label="interval")
    ax.plot(labels[known], value[known], style, color=_BLUE, label="estimate")
    if final is not None and all(map(np.isfinite, final)):
        middle = (final[0] + final[1]) / 2
        error = [[middle - final[0]], [final[1] - middle]]
        ax.errorbar([labels[-1]], [middle], error, color=_ORANGE, capsize=4, fmt="none", label="final interval")
    ax.set_xlabel("labels")
    ax.set_ylabel(name)
    ax.set_title(_title(report), fontsize="medium")
    ax.legend(frameon=False)
    return ax


def _intervals(report: Report, ax: Axes) -> Axes:
    """An interval for each column, or of the first column for each group."""
    import numpy as np

    column, found = next(iter(report.intervals.items()))
    pairs = found if isinstance(found, Mapping) else report.intervals
    shown = {str(name): pair for name, pair in pairs.items() if all(map(np.isfinite, pair))}
    names = list(shown)[:_BARS]
    low, high = np.array([shown[name] for name in names], float).reshape(-1, 2).T
    ax.errorbar((low + high) / 2, range(len(names)), xerr=(high - low) / 2, fmt="o", color=_BLUE, capsize=4)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel(column if pairs is found else "")
    rest = len(pairs) - len(names)
    ax.set_title(_title(report) + (f" ({rest:,} more are not shown)" if rest else ""), fontsize="medium")
    return ax


def _selection(report: Report, bins: Any, curve: Any, ax: Axes) -> Axes:
    """bins: (k, 4), from, to, rows, returned. curve: (k, 3), threshold, recall, precision. Either may be None."""
    if curve is not None:
        ax.plot(curve[:, 0], curve[:, 1], color=_BLUE, label="recall (estimated)")
        ax.plot(curve[:, 0], curve[:, 2], color=_GREEN, label="precision (estimated)")
    for kind, color in (("recall", _BLUE), ("precision", _GREEN)):
        if kind in (report.target or {}):
            ax.axhline((report.target or {})[kind], color=color, linestyle=":", label=f"{kind} target")
    ax.set_ylim(0, 1.05)
    ax.set_xlabel(f"proxy {report.proxy}" if report.proxy else "score")
    ax.set_ylabel("recall, precision")
    if bins is not None:
        counts = ax.twinx()
        width = bins[:, 1] - bins[:, 0]
        counts.bar(bins[:, 0], bins[:, 2], width, align="edge", color=_GREY, alpha=0.4, label="items")
        counts.bar(bins[:, 0], bins[:, 3], width, align="edge", color=_ORANGE, alpha=0.4, label="returned")
        counts.set_yscale("symlog")
        counts.set_ylabel("items")
        ax.set_zorder(counts.get_zorder() + 1)
        ax.patch.set_visible(False)
        handles, names = ax.get_legend_handles_labels()
        more, others = counts.get_legend_handles_labels()
        ax.legend(handles + more, names + others, frameon=False, fontsize="small")
    else:
        ax.legend(frameon=False, fontsize="small")
    ax.set_title(_title(report), fontsize="medium")
    return ax


def _first(intervals: Mapping[str, Any]) -> tuple[str, tuple[float, float] | None]:
    """The column that the history is of, with its interval; of groups it is the first one."""
    for column, found in intervals.items():
        if isinstance(found, Mapping):
            for group, pair in found.items():
                return f"{column} of {group}", pair
        else:
            return column, found
    return "estimate", None


def _title(report: Report) -> str:
    sure = (
        "" if report.probability is None or report.mode == "exact" else f", with probability {report.probability:.4g}"
    )
    method = f", method {report.method}" if report.method else ""
    return f"{report.mode}{sure}: {report.labels:,} labels{method}"
