"""Commands that say how results are shown, and where they go."""

from __future__ import annotations

import os
from pathlib import Path

from aidb.surfaces.formats import FORMATS, ONE_RESULT, SUFFIXES
from aidb.surfaces.paging import default_pager
from aidb.surfaces.session import Failed, Session


def mode(session: Session, rest: str) -> None:
    """How results are written."""
    chosen = rest.lower()
    if not rest:
        session.say(f"results are written as {session.form}; there is {', '.join(FORMATS)}")
    elif chosen not in FORMATS:
        session.complain(f"there is no mode {rest}; there is {', '.join(FORMATS)}")
        raise Failed(1)
    elif chosen in ONE_RESULT and session.destination is None and session.out.isatty():
        session.complain(f"{chosen} is not for a terminal: .once rows.{chosen} writes the next result to a file")
        raise Failed(1)
    else:
        session.form = chosen


def line_mode(session: Session, rest: str) -> None:
    """A line for each value, or back to the table: psql's switch."""
    session.form = "table" if session.form == "line" else "line"
    session.say(f"results are written as {session.form}")


def output(session: Session, rest: str) -> None:
    """Results go to a file from now on."""
    _send(session, rest, once=False)


def once(session: Session, rest: str) -> None:
    """The next result goes to a file."""
    if not rest:
        session.complain("which file? .once rows.csv writes the next result to it")
        raise Failed(1)
    _send(session, rest, once=True)


def _send(session: Session, rest: str, *, once: bool) -> None:
    path = path_of(rest) if rest and rest.lower() != "stdout" else None
    if path is not None:
        folder = path.parent
        why = None
        if path.is_dir():
            why = "it is a folder"
        elif not folder.is_dir():
            why = f"there is no folder {folder}"
        elif not os.access(path if path.exists() else folder, os.W_OK):
            why = "it may not be written"
        if why is not None:
            session.complain(f"can't write {path}: {why}")
            raise Failed(1)
    session.send(path, once=once)
    if path is None:
        session.say("results go to the screen")
    else:
        form = SUFFIXES.get(path.suffix.lower(), session.form)
        session.say(f"{'the next result goes' if once else 'results go'} to {path}, as {form}")


def path_of(text: str) -> Path:
    """A path as it was typed, in quotes or not."""
    return Path(text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text).expanduser()


def timer(session: Session, rest: str) -> None:
    """The line below each answer."""
    if rest.lower() in ("on", "off"):
        session.timer = rest.lower() == "on"
    elif rest:
        session.complain("it is .timer on or .timer off")
        raise Failed(1)
    session.say(f"rows, seconds and calls are shown below each answer: {'on' if session.timer else 'off'}")


def pager(session: Session, rest: str) -> None:
    """Whether long results are shown by a pager, and by which."""
    if rest.lower() == "off":
        session.pager = None
    elif rest.lower() == "on":
        session.pager = default_pager()
    elif rest:
        session.pager = rest
    if session.pager is None:
        session.say(
            "there is no pager: the first rows of a long result are shown"
            + (", no $PAGER either" if rest == "on" else "")
        )
    else:
        session.say(f"long results are shown by {session.pager}")


def show(session: Session, rest: str) -> None:
    """The pictures of the last result, on one sheet."""
    from aidb.errors import Error
    from aidb.surfaces.pictures import sheet

    if session.last is None:
        session.complain(
            "there is no last result: run a query that selects pictures, as SELECT image FROM photos LIMIT 9"
        )
        raise Failed(1)
    try:
        written = sheet(session.last, path_of(rest) if rest else _free("pictures.html"))
    except (Error, OSError) as wrong:
        session.complain(str(wrong))
        raise Failed(1) from wrong
    session.say(str(written))


def _free(name: str) -> Path:
    """A file of this name, or numbered, that is not there yet."""
    path = Path(name)
    number = 1
    while path.exists():
        number += 1
        path = Path(name).with_stem(f"{Path(name).stem}-{number}")
    return path
