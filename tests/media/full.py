"""Every frame of the three real videos: the questions of `questions.py`, by AIDB and by the script, with what each took.

::

    OMP_NUM_THREADS=1 python -m tests.media.full                      # YOLOX-nano, a few minutes
    OMP_NUM_THREADS=1 python -m tests.media.full yolov8 ultralytics   # the dear ones, half an hour on one core

Each network gets one database, so that a question finds what earlier ones have left; the second time must cost nothing.
Exits with 1 if an answer differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests import torchvision_shim
from tests.media.questions import NETWORKS, QUESTIONS, SHARED, world
from tests.media.reference import decoded, look


def run(name: str) -> bool:
    """Ask everything of one network; returns whether all answers were equal."""
    network, videos = NETWORKS[name], SHARED / "media"
    if name == "ultralytics":
        torchvision_shim.install()
        os.environ["YOLO_OFFLINE"] = "true"
        os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp())
    started = time.perf_counter(), time.process_time()
    seen = look(decoded(sorted(videos.iterdir()), lambda *_: True), network.plain(SHARED / "weights" / network.weights))
    clock, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    print(
        f"{name}: script, {len(seen.frames):,} frames, {len(seen.boxes):,} boxes: {clock:.1f} s, {cpu:.1f} s CPU",
        flush=True,
    )
    equal = True
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with world(network, videos, place / "places.csv", str(place / "street.aidb")) as con:
            for question, asked in QUESTIONS.items():
                sql, expected = asked.sql.format(chosen="true"), asked.answer(seen)
                cpu_before = time.process_time()
                first, second = con.execute(sql), con.execute(sql)
                same = first.fetchall() == expected == second.fetchall()
                free = not any(second.report.calls.values())
                equal &= same and free
                print(
                    f"  {question}: {len(expected)} rows, {'equal' if same else 'DIFFERENT'}; new "
                    f"{dict(first.report.calls)}, needed at most {asked.cost(seen)}; {first.report.seconds:.2f} s, "
                    f"{time.process_time() - cpu_before:.2f} s CPU; again {second.report.seconds:.3f} s"
                    f"{'' if free else ', and NOT FREE'}",
                    flush=True,
                )
        size = (place / "street.aidb").stat().st_size
        print(f"  the database: {size / 1e6:.1f} MB", flush=True)
    return equal


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.media.full", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], default=["yolox"], metavar="network")
    names = parser.parse_args().networks
    if not (SHARED / "media").is_dir():
        print("there is no folder ../shared/media", file=sys.stderr)
        return 2
    equal = [run(name) for name in names]
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main())
