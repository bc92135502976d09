"""What is said below an answer, and while it is being found."""

from __future__ import annotations

import doctest
import io
from pathlib import Path

import pytest

import aidb.surfaces.footer
import aidb.surfaces.progress
from aidb.exec.control import Progress
from aidb.report import Report
from aidb.surfaces.footer import models, worth
from aidb.surfaces.paging import default_pager, paged
from aidb.surfaces.progress import ProgressBars, line


def test_the_examples() -> None:
    for module in (aidb.surfaces.footer, aidb.surfaces.progress):
        assert doctest.testmod(module).failed == 0


def test_an_ordinary_answer_has_nothing_to_promise() -> None:
    report = Report(calls={"yolo": 1}, cached={"yolo": 1200, "paint": 3}, failed=2, cost=0.0123)
    assert worth(report) == []
    assert models(report) == "yolo: 1 call + 1,200 cached, paint: 0 calls + 3 cached, 2 failed, cost 0.0123"
    assert models(Report()) == ""


def test_an_estimate_by_groups() -> None:
    report = Report(
        mode="asymptotic", target={"error": 0.1}, probability=0.95, method="asr", labels=6355, proxy="hint", seed=1,
        intervals={"owls": {0: (4597.02, 5456.77), "b": (0.0, 0.25)}},
    )  # fmt: skip
    assert worth(report) == [
        "owls lies with probability 95%, for all groups together:\n  0: between 4,597 and 5,457\n  b: between 0 and 0.25 "
        "(asymptotic: this rests on an approximation; method asr, 6,355 labels, proxy hint, seed 1)"
    ]
    many = Report(mode="asymptotic", probability=0.95, intervals={"n": dict.fromkeys(range(30), (1, 2))})
    assert "\n  22 more groups are in aidb.queries (" in worth(many)[0]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ((1203.2, 1251.9), "between 1,203 and 1,252"),
        ((0.98765, 1.00001), "between 0.9876 and 1.001"),
        ((-12.3456, 0), "between -12.35 and 0"),
        ((float("-inf"), 7), "below 7"),
        ((float("-inf"), float("inf")), "anywhere: nothing is known of it"),
        ((1234567.8, 1234567.8), "between 1,234,567 and 1,234,568"),
    ],
)
def test_an_interval_is_rounded_outwards(pair: tuple[float, float], said: str) -> None:
    assert worth(Report(mode="guaranteed", intervals={"x": pair}))[0].startswith(f"x lies {said} (guaranteed ")


def test_a_selection() -> None:
    sure = {"probability": 0.95, "method": "zones", "labels": 5000, "proxy": "hint", "seed": 1}
    assert worth(Report(mode="guaranteed", target={"recall": 0.9}, certified={"recall": 0.9}, **sure)) == [  # type: ignore[arg-type]
        "recall is at least 90% with probability 95% (guaranteed for every table and every proxy; method zones, 5,000 labels, "
        "proxy hint, seed 1)"
    ]
    checked = Report(mode="guaranteed", target={"recall": 0.9}, certified={"recall": 0.97, "precision": 1.0}, **sure)  # type: ignore[arg-type]
    first, second = worth(checked)
    assert first == "recall is at least 90%, and 97% as certified with probability 95%"
    assert second.startswith("precision is 100%: every row was checked (")
    (hoped,) = worth(Report(mode="expected", target={"recall": 0.9}, method="expected"))
    assert hoped.startswith("recall is about 90% (expected: ")
    assert "no probability is promised" in hoped
    assert worth(Report(mode="exact", target={"recall": 0.9}, certified={"recall": 1.0, "precision": 1.0})) == []
    assert worth(Report(mode="exact", target={"limit": 10})) == []
    (rates,) = worth(Report(mode="guaranteed", target={"fpr": 0.05}, probability=0.9))
    assert rates.startswith("the false positive rate is at most 5% with probability 90% (")


# ---- progress
class Screen(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 120])
def test_a_line_of_progress_fits_and_keeps_what_matters(width: int) -> None:
    shown = line("a_long_name_of_a_model", 312, 2000, 41.2, 40.9, width, calls=316, failed=2, cost=0.5)
    assert len(shown) <= width
    if width >= 40:
        assert "312/2,000" in shown
        assert "2 failed" in shown
    if width >= 80:
        assert "0:40 left" in shown or "0:41 left" in shown
        assert "41.2/s" in shown
        assert "cost 0.5" in shown
    if width >= 120:
        assert "━━━╌" in shown
        assert "316 calls" in shown


def test_nothing_is_drawn_but_while_somebody_watches() -> None:
    out = Screen()
    bars = ProgressBars(out)
    bars.advance(Progress("yolo", 1, 10, 0.1, 0.0))
    assert out.getvalue() == ""
    with bars.watching():
        bars.advance(Progress("[bold]yolo", 1, None, 0.1, 0.0, calls=1))
        bars.advance(Progress("[bold]yolo", 2, 10, 0.2, 0.0, calls=2, failed=1))
    assert "[bold]yolo" in out.getvalue()


# ---- pages
def test_a_pager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with paged(f"cat > '{tmp_path}/shown'") as out:
        out.write("漢字\n")
    assert (tmp_path / "shown").read_text(encoding="utf-8") == "漢字\n"
    with paged("true") as out:  # the person has seen enough
        for _ in range(100_000):
            out.write("x" * 100)
    with pytest.raises(FileNotFoundError), paged("no-such-pager 2> /dev/null") as out:
        out.write("x")
    monkeypatch.setenv("PAGER", "less -S")
    assert default_pager() == "less -S"
    monkeypatch.setenv("PAGER", "")
    assert default_pager() is None
