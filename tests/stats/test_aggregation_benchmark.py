"""The benchmark of aggregates: its command, its populations, and the rules of others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import aggregation, aggregation_groups
from benchmarks.populations import make, names, read
from benchmarks.rivals import RIVALS


def write(path: Path, rows: int = 400) -> Path:
    rng = np.random.default_rng(0)
    match = rng.random(rows) < 0.5
    lines = [f"{bool(m)},{rng.random() + m:.4f},{2 + rng.random():.4f}" for m in match]
    path.write_text("label,proxy_score,value\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_json_is_a_list_with_one_object_for_each_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(tmp_path / "made.csv")
    assert (
        aggregation.main(["--csv", str(table), "--error", ".1", "--trials", "3", "--methods", "asr,clt", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert [line["method"] for line in found] == ["asr", "clt"]
    assert set(found[0]) >= {"data", "method", "aggregate", "error", "within", "coverage", "trials", "calls"}
    assert found[0]["data"] == "made"
    assert found[0]["trials"] == 3
    assert 0 < found[0]["calls"] <= 400


def test_the_table_names_populations_and_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    aggregation.main(["--suite", "--only", "N_tiny", "--error", ".2", "--trials", "2"])
    shown = capsys.readouterr().out
    assert "| N_tiny | 20% |" in shown
    assert "calls of ppi over ours" in shown


def test_a_table_is_read_for_each_aggregate(tmp_path: Path) -> None:
    table = write(tmp_path / "made.csv")
    count, total, average = (read(table, kind) for kind in ("count", "sum", "avg"))
    assert count.truth == (count.y > 0).sum()
    assert average.truth == pytest.approx(total.truth / count.truth)


def test_bad_input_is_an_error_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    for given in (
        ["--csv", str(tmp_path / "bad.csv")],
        ["--csv", str(tmp_path / "none.csv")],
        ["--suite", "--only", "nothing"],
        ["--suite", "--methods", "magic"],
        [],
    ):
        with pytest.raises(SystemExit):
            aggregation.main(given)
        assert "error:" in capsys.readouterr().err


def test_populations_are_always_the_same_and_named_once() -> None:
    first, second = make("H_small"), make("H_small")
    assert np.array_equal(first.proxy, second.proxy)
    assert np.array_equal(first.y, second.y)
    assert not set(names("tuning")) & set(names("held"))


@pytest.mark.parametrize("name", sorted(RIVALS))
def test_the_rules_of_others_come_near_the_truth(name: str) -> None:
    p = make("counts60_r0.8")
    found = [RIVALS[name](p, 0.1, 0.05, np.random.default_rng(t)) for t in range(5)]
    assert np.mean([a.value for a in found]) == pytest.approx(p.truth, rel=0.1)
    assert all(0 < a.calls < p.n for a in found)


def test_groups_and_several_aggregates_have_a_benchmark_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert aggregation_groups.main(["--only", "three", "--trials", "3", "--error", ".2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["case"] == "three"
    assert 0 < found["calls"] < found["rows"]
    assert found["together"] <= 1
    table = aggregation_groups.Table()
    assert table.truth(("count",), True).sum() == table.truth(("count",), False).sum()
    with pytest.raises(SystemExit):
        aggregation_groups.main(["--only", "nothing"])
