"""Clusters of several nodes, on this machine: nodes that come, go, fall silent, share a GPU, or have no room.

python -m tests.distributed.nodes            all of them, about five minutes
python -m tests.distributed.nodes new gpus   some
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aidb
from aidb.exec.distributed import run
from tests.engine.storing import check_storage, rows

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
STORE = 80 * 1024**2
SECONDS = 0.005
"""What an item takes."""


class Nodes:
    """A cluster that is there before anybody connects.

    Its head, which has the process with the database, holds as many workers as are said; sizes: of the other nodes.
    """

    def __init__(self, *sizes: dict[str, float], head: int = 0) -> None:
        from ray.cluster_utils import Cluster

        first = {"num_cpus": head, "include_dashboard": False, "object_store_memory": STORE}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=first)
        self.nodes = [self.add(**size) for size in sizes]

    def add(self, **size: float) -> Any:
        """A node with num_cpus, num_gpus."""
        return self._cluster.add_node(object_store_memory=STORE, **size)

    def lose(self, node: Any) -> None:
        """Kill a node with all that runs on it."""
        self._cluster.remove_node(node, allow_graceful=False)

    @contextmanager
    def connection(self, items: int, model: Callable[..., Any], settings: str) -> Iterator[aidb.Connection]:
        """A connection to the cluster with a virtual table ``v`` of so many items."""
        with aidb.connect() as con:
            con.execute(f"SET aidb.executor = 'ray'; SET aidb.ray_address = '{self._cluster.address}'; SET threads = 1")
            con.execute(settings)
            con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({items}) KEY (id)")
            con.register(model)
            con.execute(f"CREATE VIRTUAL TABLE v AS {model.__name__}(t.x)")
            yield con

    def close(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


@aidb.model(outputs={"part": "INTEGER", "node": "VARCHAR", "pid": "INTEGER"}, rows="many", batch_size=16)
def parts(x: Any) -> Any:
    """0, 1 or 2 rows an item, and where they are from: so long that Ray keeps them in the store of that node."""
    import ray

    time.sleep(SECONDS * len(x))
    node = ray.get_runtime_context().get_node_id().ljust(20_000)
    items = [(row, value * 10 + part) for row, value in enumerate(x.to_pylist()) for part in range(value % 3)]
    return {
        "_row": [row for row, _ in items],
        "part": [part for _, part in items],
        "node": [node] * len(items),
        "pid": [os.getpid()] * len(items),
    }


def right(items: int) -> tuple[int, int]:
    """Of ``SELECT count(*), sum(part)``."""
    found = [i * 10 + part for i in range(items) for part in range(i % 3)]
    return len(found), sum(found)


def asked(con: aidb.Connection, items: int, at: dict[int, Callable[[], object]]) -> dict[str, int]:
    """Ask, and see that the answer is right and each item is there once; how many items each node answered.

    at: what to do once so many items are done; it is done again later if it says False.
    """
    due = sorted(at.items(), key=lambda pair: pair[0])

    def progress(p: Any) -> None:
        if due and p.done >= due[0][0] and due[0][1]() is not False:
            del due[0]

    cursor = con.execute("SELECT count(*), sum(part) FROM v", progress=progress)
    assert cursor.fetchall() == [right(items)]
    assert not due, "over before anything happened"
    assert (dict(cursor.report.calls), cursor.report.failed) == ({"parts": items}, 0)
    assert check_storage(con) == {"parts": items}
    return dict(rows(con, "SELECT trim(node), count(DISTINCT id) FROM v GROUP BY ALL"))


def new() -> None:
    """Two nodes, each with a worker; one is lost half-way, and another one comes."""
    nodes = Nodes({"num_cpus": 1}, {"num_cpus": 1})
    try:
        with nodes.connection(6000, parts, "SET aidb.ray_workers = '2'") as con:
            change = {500: lambda: nodes.lose(nodes.nodes[0]), 700: lambda: nodes.add(num_cpus=1)}
            by_node = asked(con, 6000, change)
            print("items by node", list(by_node.values()))
            assert len(by_node) == 3
    finally:
        nodes.close()


def all_() -> None:
    """All nodes are lost; the user is told; another one comes."""
    nodes = Nodes({"num_cpus": 1})
    try:
        with (
            nodes.connection(1500, parts, "SET aidb.ray_workers = '2'") as con,
            warnings.catch_warnings(record=True) as told,
        ):
            warnings.simplefilter("always")

            def replace() -> bool:
                if nodes.nodes:
                    nodes.lose(nodes.nodes.pop())
                if told:
                    nodes.add(num_cpus=1)
                return bool(told)

            by_node = asked(con, 1500, {500: replace})
            print(told[0].message, "| items by node", list(by_node.values()))
            assert "no machine of the Ray cluster holds a worker" in str(told[0].message)
    finally:
        nodes.close()


def silent() -> None:
    """A machine that answers no more, as when its network is gone; later it comes back, and nobody listens."""
    nodes = Nodes({"num_cpus": 1}, {"num_cpus": 1})
    frozen: list[int] = []
    began = time.monotonic()

    def freeze() -> None:
        import psutil

        for info in nodes.nodes[0].all_processes["raylet"]:
            raylet = psutil.Process(info.process.pid)
            frozen.extend([raylet.pid, *(child.pid for child in raylet.children(recursive=True))])
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        print(f"{time.monotonic() - began:.0f} s: {len(frozen)} processes fall silent", flush=True)

    try:
        with nodes.connection(2000, parts, "SET aidb.ray_workers = '2'") as con:
            by_node = asked(con, 2000, {500: freeze})
            print(f"{time.monotonic() - began:.0f} s: done; items by node", list(by_node.values()))
    finally:
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        nodes.close()


@aidb.model(outputs={"part": "INTEGER", "gpu": "VARCHAR", "device": "VARCHAR", "pid": "INTEGER"}, batch_size=8)
def seeing(x: Any) -> Any:
    """What a worker sees of GPUs."""
    from aidb_models.devices import settle

    time.sleep(SECONDS * len(x))
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return {
        "part": x.to_pylist(),
        "gpu": [seen] * len(x),
        "device": [settle("auto")] * len(x),
        "pid": [os.getpid()] * len(x),
    }


def gpus() -> None:
    """Two workers share a GPU that the node says it has; torch on it has none, and takes the processor."""
    nodes = Nodes({"num_cpus": 4, "num_gpus": 1})
    try:
        with nodes.connection(1500, seeing, "SET aidb.ray_workers = '4'; SET aidb.ray_gpus = 0.5") as con:
            found = rows(con, "SELECT gpu, device, pid, count(*) FROM v GROUP BY ALL ORDER BY ALL")
            print("GPU, device, process, items:", found)
            assert [(gpu, device) for gpu, device, _, _ in found] == [("0", "cpu")] * 2
    finally:
        nodes.close()


def more() -> None:
    """More workers than the cluster has room for: as many as there is room for."""
    nodes = Nodes({"num_cpus": 2}, {"num_cpus": 1})
    try:
        with nodes.connection(1500, parts, "SET aidb.ray_workers = '8'") as con:
            by_node = asked(con, 1500, {})
            [(workers,)] = rows(con, "SELECT count(DISTINCT pid) FROM v")
            print(workers, "workers; items by node", list(by_node.values()))
            assert workers == 3
    finally:
        nodes.close()


def none() -> None:
    """Workers that are larger than any machine, though not than all together: said at once, given up later."""
    nodes = Nodes({"num_cpus": 1}, {"num_cpus": 1})
    run.LAUNCH = 5.0
    try:
        with nodes.connection(100, parts, "SET aidb.ray_cpus = 2") as con, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            began = time.monotonic()
            try:
                con.execute("SELECT count(*) FROM v")
            except aidb.OperationalError as e:
                print(f"{told[0].message} | after {time.monotonic() - began:.1f} s: {e}")
            else:
                raise AssertionError("it was answered")
    finally:
        nodes.close()


def grow() -> None:
    """One node, and more that come while the query runs: workers up to aidb.ray_workers, or to what there is room for."""
    for workers, most in (("SET aidb.ray_workers = '1-3'", 3), ("RESET aidb.ray_workers", 4)):
        nodes = Nodes({"num_cpus": 1})
        try:
            with nodes.connection(9000, parts, workers) as con:
                come = {400: lambda: [nodes.add(num_cpus=1) for _ in range(3)]}  # noqa: B023  called while it runs
                by_node = asked(con, 9000, come)
                print(f"{workers}: items by node", list(by_node.values()))
                assert 1 < len(by_node) <= most  # on a busy machine it may be over before the last one has begun
        finally:
            nodes.close()


SCENES = {"new": new, "all": all_, "silent": silent, "gpus": gpus, "more": more, "none": none, "grow": grow}


def main() -> int:
    for name in sys.argv[1:] or SCENES:
        began = time.monotonic()
        print(f"-- {name}: {SCENES[name].__doc__}", flush=True)
        SCENES[name]()
        print(f"   {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
