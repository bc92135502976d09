"""``aidb demo``, also as ``python -m aidb.surfaces.demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the story; give the exit code: 0 ok, 1 an error in SQL or data, 2 usage, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="aidb demo", description="Five minutes with AIDB: real pictures, real answers."
    )
    folder = "folder to write into (demo-output)"
    parser.add_argument("output", nargs="?", type=Path, default=Path("demo-output"), metavar="DIR", help=folder)
    parser.add_argument("--seed", type=int, default=7, help="another number draws another street (7)")
    parser.add_argument(
        "--frames", type=int, default=1800, help="length of the street video, ten frames a second (1800)"
    )
    chosen = parser.parse_args(arguments)
    if chosen.frames < 100:
        parser.error("--frames must be at least 100")

    from rich.console import Console

    from aidb.errors import Error, Interrupted
    from aidb.surfaces.demo.story import Narrator, Story

    narrator = Narrator(Console())
    try:
        Story(chosen.output, narrator, seed=chosen.seed, frames=chosen.frames).tell()
    except (Interrupted, KeyboardInterrupt):
        print("interrupted; run it again to start afresh", file=sys.stderr)
        return 130
    except (Error, OSError) as error:
        print(f"aidb demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
