"""``python -m benchmarks.limit``: its tables, and that the orders it compares with do what was published."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import limit

RNG = np.random.default_rng


def test_quick_run_prints_objects(capsys):
    assert limit.main(["--quick", "--json", "--trials", "2", "--only", "digits"]) == 0
    found = {r["method"]: r for r in json.loads(capsys.readouterr().out)}
    assert set(found) == {"random order", "TASTI, representatives asked", "ExSample, clusters", "AIDB"}
    assert all(r["true"] and r["apart"] and r["trials"] == 2 and r["k"] == 10 for r in found.values())
    assert 10 <= found["AIDB"]["calls"] < found["random order"]["calls"]


def test_a_table_of_ones_own(tmp_path, capsys):
    path = tmp_path / "mine.csv"
    lines = [f"{i},{'True' if i % 50 < 5 else 'False'},{0.9 if i % 50 < 5 else 0.1}" for i in range(2_000)]
    path.write_text("\n".join(["id,label,proxy_score", *lines]))
    assert limit.main(["--csv", str(path), "--k", "7", "--gap", "20", "--trials", "2"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| data | k | gap | method |")
    proxy = next(line for line in table if "proxy order" in line)
    assert proxy == "| mine.csv | 7 | 20 | proxy order | 7 | 7 | 7 | 2 |"


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--csv", "nowhere.csv"]])
def test_what_is_not_there_is_named(arguments, capsys):
    with pytest.raises((SystemExit, FileNotFoundError), match=r"2|nowhere"):
        limit.main(arguments)


def test_a_table_without_labels_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("id\n1\n")
    with pytest.raises(SystemExit, match="column `label` or `value`"):
        limit.main(["--csv", str(path)])


@pytest.mark.parametrize("seed", range(10))
def test_a_walk_passes_over_what_lies_within_the_gap(seed):
    rng = RNG(seed)
    rows, order = (rng.random(200) < 0.2).astype(int), rng.permutation(200)
    for gap in (None, 0, 3, 30):
        calls, found, taken = 0, 0, []
        for item in order:
            if gap is not None and any(abs(item - other) <= gap for other in taken):
                continue
            calls += 1
            if rows[item]:
                taken.append(item)
                found += 1
                if found == 8:
                    break
        assert limit.walk(order, rows, 8, gap) == calls


def test_exsample_prefers_the_chunk_that_holds_matches():
    rows = np.zeros(12_800, int)
    rows[5_000:5_100] = RNG(0).random(100) < 0.5
    chunk = np.arange(12_800) // 100
    calls = np.mean([limit.exsample(chunk, rows, 30, None, RNG(t)) for t in range(5)])
    assert calls < 30 * 12_800 / rows.sum() / 3
    assert limit.exsample(chunk, rows, 10**6, None, RNG(0)) == 12_800
