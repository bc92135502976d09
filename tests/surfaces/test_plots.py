"""`Report.plot`: what is drawn is what the report says."""

from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np
import pyarrow.compute as pc
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import aidb
from aidb.connection import Connection
from aidb.errors import OperationalError, ProgrammingError
from aidb.report import Report

mpl.use("Agg")


@pytest.fixture(scope="module")
def con() -> Connection:
    con = aidb.connect()

    @aidb.model(outputs={"is_owl": "BOOLEAN"}, version="1")
    def is_owl(noise, hint):  # type: ignore[no-untyped-def]
        return {"is_owl": pc.less(noise, pc.power(hint, 6))}

    con.register(is_owl)
    con.execute(
        "CREATE BLOB TABLE sounds AS SELECT range AS id, hash(range) % 9973 / 9973 AS hint, "
        "hash(range, 1) % 9967 / 9967 AS noise FROM range(20_000) KEY (id)"
    )
    return con


def axes() -> Axes:
    return Figure().subplots()


def words(ax: Axes) -> set[str]:
    legend = ax.get_legend()
    return {text.get_text() for text in legend.get_texts()} if legend else set()


ESTIMATE = "SELECT count(*) AS owls FROM sounds WHERE is_owl(noise, hint) ERROR TARGET 10% USING PROXY hint SEED 1"
SELECTION = (
    "SELECT id FROM sounds WHERE is_owl(noise, hint) ORACLE LIMIT 1,000 USING PROXY hint RECALL TARGET 90% SEED 1"
)


def test_an_estimate_is_drawn_with_its_interval_against_the_labels(con: Connection) -> None:
    for _ in range(2):  # the second answer is the stored one
        report = con.execute(ESTIMATE).report
        ax = report.plot(axes())
        history = report.arrays["history"]
        line = ax.get_lines()[0]
        assert np.array_equal(np.asarray(line.get_xydata()), history[:, :2])
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("labels", "owls")
        assert words(ax) == {"interval", "estimate", "final interval"}
        low, high = report.intervals["owls"]
        assert ax.get_ylim()[0] <= low < high <= ax.get_ylim()[1]


def test_a_selection_is_drawn_with_recall_and_precision_over_its_scores(con: Connection) -> None:
    for _ in range(2):
        cursor = con.execute(SELECTION)
        ax = cursor.report.plot(axes())
        lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in ax.get_lines()}
        assert set(lines) == {"recall (estimated)", "precision (estimated)", "recall target"}
        assert np.array_equal(lines["recall (estimated)"], cursor.report.arrays["curve"][:, :2])
        assert set(lines["recall target"][:, 1]) == {0.9}
        assert ax.get_xlabel() == "proxy hint"
        assert {"items", "returned"} <= words(ax)
        bins = cursor.report.arrays["histogram"]
        assert bins[:, 3].sum() <= cursor.rowcount
        assert (bins[:, 3] <= bins[:, 2]).all()


def test_groups_are_drawn_each_with_its_interval() -> None:
    report = Report(
        "asymptotic", {"error": 0.1}, 0.95, {"n": {"a": (1.0, 3.0), None: (5.0, 6.0), "c": (float("-inf"), 1.0)}}
    )
    ax = report.plot(axes())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "None"]
    many = Report("asymptotic", {"error": 0.1}, 0.95, {"n": {k: (k, k + 1.0) for k in range(100)}})
    assert "60 more are not shown" in many.plot(axes()).get_title()


def test_an_exact_answer_has_nothing_to_draw(con: Connection) -> None:
    with pytest.raises(ProgrammingError, match="the answer is exact"):
        con.execute("SELECT count(*) FROM sounds").report.plot()
    with pytest.raises(ProgrammingError, match="no arrays"):
        Report("expected", {"recall": 0.9}).plot()


def test_without_axes_a_figure_is_made(con: Connection) -> None:
    from matplotlib import pyplot

    ax = con.execute(ESTIMATE).report.plot()
    assert pyplot.get_fignums() == [ax.figure.number]  # type: ignore[union-attr]
    pyplot.close("all")


def test_without_matplotlib_it_is_said_what_to_install(con: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    report = con.execute(ESTIMATE).report
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OperationalError, match=r"pip install 'aidb\[plot\]'"):
        report.plot()
