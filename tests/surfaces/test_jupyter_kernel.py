"""Notebooks run for real, in a kernel of their own: the examples as they are shipped, and the interrupt button."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
LABELS = ROOT.parent / "shared" / "data" / "imagenet.csv"
PATIENCE = 240


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    """One kernel for all tests of this file; what its stderr says of its own start is none of ours."""
    home = tmp_path_factory.mktemp("home")
    variables = {**os.environ, "IPYTHONDIR": str(home), "JUPYTER_RUNTIME_DIR": str(home), "PYTHONWARNINGS": "default"}
    if LABELS.exists():
        variables["IMAGENET_LABELS"] = str(LABELS)
    manager = KernelManager(kernel_name="python3")
    with open(os.devnull, "w") as nowhere:
        manager.start_kernel(env=variables, cwd=str(home), stderr=nowhere)
        yield manager
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def executed(kernel: KernelManager, cells: list[str]) -> list[list[dict[str, Any]]]:
    """The outputs of each cell, run after what was there before is forgotten. Raises what nbclient raises for an error."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in ["%reset -f", *cells]])
    client = NotebookClient(book, km=kernel, timeout=PATIENCE)
    with client.setup_kernel():
        try:
            for index, cell in enumerate(book.cells):
                client.execute_cell(cell, index)
        finally:
            client.kc.stop_channels()
    return [cell.outputs for cell in book.cells[1:]]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["reviews", "supg", "traffic"])
def test_the_example_runs_and_shows_what_it_says(kernel: KernelManager, name: str) -> None:
    book = nbformat.read(EXAMPLES / f"{name}.ipynb", 4)
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells), "examples are kept without outputs: they would be of one machine"
    shown = executed(kernel, [cell.source for cell in cells])
    data = [output["data"] for cell in shown for output in cell if "data" in output]
    assert any("image/png" in mimes for mimes in data), "a plot"
    html = "".join(mimes.get("text/html", "") for mimes in data)
    assert '<div class="aidb">' in html
    assert ("data:image/jpeg" in html) == (name == "traffic")
    assert "probability 95%" in html
    assert not [o for cell in shown for o in cell if o["output_type"] == "stream" and o["name"] == "stderr"]


@pytest.mark.timeout(300)
def test_the_interrupt_button_keeps_what_is_done(kernel: KernelManager) -> None:
    define = """
import threading
import aidb

@aidb.model(outputs={"y": "BIGINT"}, version="1", batch_size=1)
def slow(x):
    threading.Event().wait(0.05)
    return {"y": x}

con = aidb.connect("kept.aidb")
con.execute("CREATE BLOB TABLE numbers AS SELECT range AS id, range AS x FROM range(2000) KEY (id)")
con.register(slow)
"""
    executed(kernel, ["%load_ext aidb", define])
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)

        def press(message: dict[str, Any]) -> None:
            if message["msg_type"] == "display_data":
                kernel.interrupt_kernel()  # a bar is there, so models are running

        shown = outputs(client, "%aidb SELECT sum(slow(x)) FROM numbers", press)
        after = outputs(
            client,
            "con.close()\ncon = aidb.connect('kept.aidb')\ncon.register(slow)\n"  # what is in flight has its time
            "print(con.execute('SELECT sum(items) FROM aidb.calls').fetchone()[0])\n"
            "print(con.explain('SELECT sum(slow(x)) FROM numbers'))",
        )
    finally:
        client.stop_channels()
    [bar] = [m["content"]["data"]["text/plain"] for m in shown if m["msg_type"] == "display_data"]
    assert bar.startswith("slow:")
    assert "/2000" in bar
    [error] = [m["content"] for m in shown if m["msg_type"] == "error"]
    assert error["ename"] == "Interrupted"
    told = re.sub(r"\x1b\[\d+m", "", "\n".join(error["traceback"]))
    said = re.fullmatch(
        r"Interrupted: finished work is kept \(done so far: slow: (\d+) calls?\)\nthe same statement goes on from there",
        told,
    )
    assert said, told
    done = int(said[1])
    assert 0 < done < 2000
    kept = "".join(m["content"]["text"] for m in after if m["msg_type"] == "stream")
    assert kept.splitlines()[0] == str(done)
    assert f"slow(numbers.x): {2000 - done:,} items" in kept


def outputs(
    client: BlockingKernelClient, code: str, told: Callable[[dict[str, Any]], None] = lambda _: None
) -> list[dict[str, Any]]:
    """All that a kernel sends for a cell until it has ended; each is also told at once."""
    asked = client.execute(code)
    found: list[dict[str, Any]] = []
    while not found or found[-1]["content"].get("execution_state") != "idle":
        message = client.get_iopub_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") == asked:
            found.append(message)
            told(message)
    return found
