"""Guarantees over real video: YOLOX-nano tells where to look, YOLOv8n decides; answers beside the truth of every frame.

::

    OMP_NUM_THREADS=1 python -m tests.media.guarantees        # some minutes: in the end every frame is looked at

Exits with 1 if an answer breaks its promise.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import aidb
from tests.media.questions import SHARED

PERSONS = """SELECT frame_id FROM strong WHERE label = 'person' GROUP BY frame_id HAVING count(*) >= 2"""
HINT = "(SELECT coalesce(sum(w.confidence), 0) FROM weak w WHERE w.frame_id = frames.frame_id AND w.label = '{}')"
SECOND = (
    "(SELECT coalesce(min(c), 0) FROM (SELECT w.confidence AS c FROM weak w WHERE w.frame_id = frames.frame_id AND "
)
SECOND += "w.label = 'person' ORDER BY c DESC LIMIT 1 OFFSET 1))"


def main() -> int:
    """See the module."""
    if not (SHARED / "media").is_dir():
        print("there is no folder ../shared/media", file=sys.stderr)
        return 2
    weights, kept = SHARED / "weights", True
    with tempfile.TemporaryDirectory() as folder, aidb.connect(Path(folder) / "video.aidb") as con:
        con.execute("SET aidb.progress = false")
        con.execute(f"CREATE BLOB TABLE frames FROM '{SHARED / 'media'}/*' USING video")
        con.execute(f"CREATE MODEL nano USING onnx WITH (weights = '{weights}/yolox_nano_416.onnx')")
        con.execute(f"CREATE MODEL large USING onnx WITH (weights = '{weights}/yolov8n_deq_fp32_dyn.onnx')")
        con.execute("CREATE VIRTUAL TABLE weak AS nano(frames.image)")
        con.execute("CREATE VIRTUAL TABLE strong AS large(frames.image)")
        con.execute(f"CREATE VIEW two AS {PERSONS}")

        def ask(title: str, sql: str) -> aidb.Cursor:
            cursor = con.execute(sql)
            report = cursor.report
            print(f"{title}: {report.mode}, {dict(report.calls)}, oracle {report.oracle_calls}, {report.seconds:.0f} s")
            return cursor

        two = ask("two persons, recall 90%", f"SELECT frame_id FROM two RECALL TARGET 90% USING PROXY {SECOND} SEED 1")
        found = {row[0] for row in two.fetchall()}
        count = ask(
            "persons within 5%",
            f"SELECT count(*) AS n FROM strong WHERE label = 'person' ERROR TARGET 5% USING PROXY {HINT.format('person')} SEED 1",
        )
        value, interval = count.fetchall()[0][0], count.report.intervals["n"]
        buses = ask(
            "five frames with a bus",
            "SELECT frame_id FROM strong WHERE label = 'bus' GROUP BY frame_id LIMIT 5 "
            f"USING PROXY {HINT.format('bus')} SEED 1",
        ).fetchall()
        truth = {row[0] for row in ask("truth", "SELECT frame_id FROM two").fetchall()}
        persons = con.execute("SELECT count(*) FROM strong WHERE label = 'person'").fetchall()[0][0]
        right = {r[0] for r in con.execute("SELECT DISTINCT frame_id FROM strong WHERE label = 'bus'").fetchall()}
        frames = con.execute("SELECT count(*) FROM frames").fetchall()[0][0]
        recall = len(found & truth) / max(len(truth), 1)
        print(
            f"{frames:,} frames; two persons: {len(found)} found of {len(truth)}, recall {recall:.1%}, all true: {found <= truth}"
        )
        print(
            f"persons: {value:,.0f} in {interval[0]:,.0f} to {interval[1]:,.0f}, truth {persons:,} ({value / persons - 1:+.1%})"
        )
        print(f"buses: {len(buses)} of {len(right)} frames, all true: {all(b[0] in right for b in buses)}")
        kept = recall >= 0.9 and found <= truth and interval[0] <= persons <= interval[1]
        kept = kept and abs(value - persons) <= 0.05 * persons and len(buses) == min(5, len(right))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
