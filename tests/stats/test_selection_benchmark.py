"""The benchmark of selection as a command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import selection, selection_sets


@pytest.fixture
def file(tmp_path):
    random = np.random.default_rng(1)
    scores = random.beta(0.1, 1, size=3000)
    truth = random.random(3000) < scores
    path = tmp_path / "small.csv"
    lines = [f"{i},{t},{s}" for i, (t, s) in enumerate(zip(truth, scores, strict=True))]
    path.write_text("\n".join(["id,label,proxy_score", *lines]) + "\n", encoding="utf-8")
    return path


def test_a_file_is_measured_beside_the_baselines(file, capsys):
    assert selection.main(["--csv", str(file), "--recall", ".9", "--budget", "300", "--trials", "5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in rows] == ["auto", "supg-published", "uniform"]
    assert all(set(row) == set(rows[0]) for row in rows)
    for row in rows:
        assert (row["data"], row["target"], row["budget"], row["trials"]) == ("small", "recall 0.9", 300, 5)
        assert 0 < row["precision"] <= 1
        assert row["recall"] > 0.5
        assert 0 < row["calls"] <= 300
        assert row["coverage"] * 5 == pytest.approx(round(row["coverage"] * 5))


def test_a_table_for_people(file, capsys):
    selection.main(["--csv", str(file), "--precision", ".8", "--budget", "200", "400", "--trials", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| data | target | budget | trials | auto | supg-published |"
    assert [line.split("|")[3].strip() for line in lines[2:]] == ["200", "400"]


def test_a_budget_for_everything_is_exact(file):
    row = selection.measure(selection_sets.read(file), "cells", 0.9, None, 3000, 2)
    assert (row.coverage, row.precision, row.recall, row.calls) == (1, 1, 1, 3000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recall", ".9", "--csv", "nowhere.csv"], "no file nowhere.csv"),
        (["--recall", ".9", "--data", "nonesuch"], "no such table: nonesuch"),
        (["--data", "digits"], "a target is missing"),
        (["--recall", "9", "--data", "digits"], "between 0 and 1"),
        (["--recall", ".9", "--method", "magic", "--data", "digits"], "'magic' is not known"),
    ],
)
def test_bad_arguments_are_told(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        selection.main(arguments)
    assert message in f"{stopped.value} {capsys.readouterr().err}"


def test_a_file_without_the_columns_is_told(tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="needs the columns"):
        selection_sets.read(path)


def test_a_missing_table_of_the_authors_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(selection_sets, "SHARED", tmp_path)
    with pytest.raises(SystemExit, match="no part of the repository"):
        selection_sets.load("tacred")
    assert "tacred" not in selection_sets.names()


def test_simulated_tables_are_the_same_each_time():
    for name in ("beta1_1e5", "useless", "nan30", "held_lost15"):
        first, second = selection_sets.load(name), selection_sets.load(name)
        assert np.array_equal(first.scores, second.scores, equal_nan=True)
        assert np.array_equal(first.truth, second.truth)
        assert 0 < first.truth.mean() < 0.2
