"""``python -m aidb`` is ``aidb``."""

from __future__ import annotations

import sys

from aidb.surfaces.shell import main

if __name__ == "__main__":
    sys.exit(main())
