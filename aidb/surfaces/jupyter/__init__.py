"""The notebook: ``%load_ext aidb`` gives ``%aidb`` and ``%%aidb``, and shows every result as a table with its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What ``%load_ext aidb`` calls."""
    from aidb.surfaces.jupyter.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """What ``%unload_ext aidb`` calls; connections that the magic opened are closed."""
    from aidb.surfaces.jupyter.extension import unload

    unload(shell)
