"""A cluster of two nodes that was there before, of which one is lost; `tests.distributed.nodes` has more such things."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import aidb
from tests.distributed import nodes
from tests.engine.storing import check_storage

pytest.importorskip("ray", reason="Ray is not installed: pip install 'aidb[ray]'")
ITEMS = 240


def test_a_node_is_lost(tmp_path: Path) -> None:
    """Both are at work; what the lost one was at goes to the other, and nothing is lost or doubled."""

    @aidb.model(outputs={"y": "INTEGER"}, batch_size=4)
    def doubled(x: Any) -> Any:
        import ray

        (tmp_path / ray.get_runtime_context().get_node_id()).touch()
        while len(list(tmp_path.iterdir())) < 2:  # until the other one has begun too
            time.sleep(0.01)
        time.sleep(0.02)
        return {"y": [2 * value for value in x.to_pylist()]}

    cluster = nodes.Nodes({"num_cpus": 1}, head=1)
    try:
        with cluster.connection(ITEMS, doubled, "SET aidb.ray_workers = '2'") as con:

            def progress(p: Any) -> None:
                if p.done >= 40 and cluster.nodes:
                    cluster.lose(cluster.nodes.pop())

            cursor = con.execute("SELECT count(*), sum(y) FROM v", progress=progress)
            assert cursor.fetchall() == [(ITEMS, ITEMS * (ITEMS - 1))]
            assert (dict(cursor.report.calls), cursor.report.failed) == ({"doubled": ITEMS}, 0)
            assert check_storage(con) == {"doubled": ITEMS}
            assert not cluster.nodes, "it was lost"
    finally:
        cluster.close()
