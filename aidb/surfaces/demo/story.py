"""The demo's story: a handful of questions, each with its answer, its time and its number of model calls."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from textwrap import dedent, wrap
from typing import TYPE_CHECKING, Any

from aidb.surfaces.demo import detector, pictures, street
from aidb.surfaces.pictures import contact
from aidb.surfaces.pictures.tiles import Tile, gallery

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from aidb.connection import Connection, Cursor
    from aidb.exec.control import Progress
    from aidb.report import Report

WIDTH = 80
DATABASE, PHOTOS, VIDEO, SHEET = "demo.aidb", "photos", "street.mp4", "answers.png"
"""What the demo writes into its folder."""

CARS = "SELECT COUNT(*) AS cars FROM thing WHERE label = 'car'"
BUSES = "SELECT frame_id FROM thing WHERE label = 'bus' GROUP BY frame_id"
WITHIN = "ERROR TARGET 5% WITH PROBABILITY 95%"
RECALL = "RECALL TARGET 90% WITH PROBABILITY 95%"

_PLAN_COLUMNS = ("model", "items", "seconds", "note")  # of EXPLAIN
_SHOWN = 10  # pictures a section of the sheet


@dataclass(frozen=True)
class Answer:
    """What a query gave, and what it cost.

    report: of the query; None where there was none.
    """

    rows: list[tuple[Any, ...]]
    seconds: float
    report: Report | None = None

    @property
    def calls(self) -> Mapping[str, int]:
        """Model -> items that it had to look at."""
        return self.report.calls if self.report is not None else {}

    @property
    def cached(self) -> Mapping[str, int]:
        """Model -> items whose answer was stored."""
        return self.report.cached if self.report is not None else {}


class Narrator:
    """Prints SQL, answers and costs, at most 80 columns wide, readable without colour."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._steps = 0
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}

    def say(self, text: str, indent: int = 0) -> None:
        """A sentence or two, wrapped."""
        margin = " " * indent
        for line in wrap(text, WIDTH, initial_indent=margin, subsequent_indent=margin) or [""]:
            self._line(line)

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._steps += 1
        self._line()
        self._line(f"{self._steps}  {title}", "bold")

    def sql(self, text: str) -> None:
        """Show statements, after an empty line, indented."""
        self._line()
        for line in dedent(text).strip().splitlines():
            self._line(f"   {line.rstrip()}", "cyan")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Show a bar for each model while the block runs, where there is a terminal to show it on."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("   {task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
        quiet = not self.console.is_terminal
        with Bars(*columns, console=self.console, transient=True, disable=quiet) as self._bars:
            yield
        self._bars, self._tasks = None, {}

    def advance(self, now: Progress) -> None:
        """Move a model's bar: what a connection calls while models run, from any thread."""
        if self._bars is not None:
            if now.model not in self._tasks:
                self._tasks[now.model] = self._bars.add_task(now.model, total=now.total)
            self._bars.update(self._tasks[now.model], completed=now.done, total=now.total)

    def _line(self, text: str = "", style: str | None = None) -> None:
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def table(self, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
        """Show a few rows as aligned text."""
        cells = [columns, *[[_shown(value) for value in row] for row in rows]]
        widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
        for k, line in enumerate(cells):
            text = "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            self._line(f"   {text}", "dim" if k == 0 else "bold")

    def cost(self, answer: Answer) -> None:
        """The line below an answer."""
        count, stored = sum(answer.calls.values()), sum(answer.cached.values())
        calls = f"{count:,} model call{'' if count == 1 else 's'}"
        used = [f"{name} {n:,}" for name, n in answer.calls.items() if n]
        if len(used) > 1:
            calls += f" ({', '.join(used)})"
        if stored:
            calls += f"; {stored:,} answers were there already"
        self._line(f"   -> {answer.seconds:.2f} s, {calls}", "green")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Seconds since the start, as the one element of a list once the block has ended."""
    begin, taken = time.perf_counter(), [0.0]
    yield taken
    taken[0] = time.perf_counter() - begin


class Story:
    """One telling: draws and finds the inputs in a folder, asks, and shows. The database there is made anew."""

    def __init__(self, output: Path, narrator: Narrator, *, seed: int, frames: int) -> None:
        self.output, self.narrator, self.seed, self.frames = output, narrator, seed, frames
        self._buses: set[int] = set()

    def tell(self) -> Path:
        """Run all steps; give the path of the sheet of pictures."""
        import aidb

        begin = time.perf_counter()
        photos, drawn = self._inputs()
        database = self.output / DATABASE
        for old in (database, database.with_name(f"{DATABASE}.wal")):
            old.unlink(missing_ok=True)
        with aidb.connect(database, progress=self.narrator.advance) as con:
            con.execute(f"SET aidb.seed = {self.seed}")
            self._photographs(con, photos)
            self._explained(con, drawn)
            self._estimated(con, drawn)
            self._found(con)
            buses = self._rare(con, drawn)
            self._checked(con)
            path = self._sheet(con, buses)
        self._closing(time.perf_counter() - begin)
        return path

    def _inputs(self) -> tuple[list[pictures.Picture], street.Street]:
        say = self.narrator.say
        self.output.mkdir(parents=True, exist_ok=True)
        with _timed() as taken:
            photos = pictures.write(self.output / PHOTOS, seed=self.seed)
            drawn = street.draw(self.output / VIDEO, frames=self.frames, seed=self.seed)
        say("AIDB answers SQL about pictures as if every model had already seen every one.")
        say(
            f"Here are {len(photos)} photographs that came with Python packages, and a street video of "
            f"{drawn.frames:,} frames, drawn just now, so that the truth about it is known ({taken[0]:.1f} s)."
        )
        return photos, drawn

    def _ask(self, con: Connection, sql: str) -> Answer:
        """Show and run a query, then show its rows and what they cost."""
        self.narrator.sql(f"{dedent(sql)};")
        with _timed() as taken, self.narrator.watching():
            cursor = con.execute(sql)
            rows = cursor.fetchall()
        answer = Answer(rows, taken[0], cursor.report)
        self.narrator.table(_names(cursor), rows)
        self.narrator.cost(answer)
        return answer

    def _set_up(self, con: Connection, *statements: str) -> None:
        for statement in statements:
            con.execute(statement)
        self.narrator.sql("\n".join(f"{dedent(statement)};" for statement in statements))

    def _photographs(self, con: Connection, photos: list[pictures.Picture]) -> None:
        tell = self.narrator
        tell.step("How many faces are there? A model has to look, once at each picture.")
        self._set_up(
            con,
            f"CREATE BLOB TABLE photos FROM '{_quoted(self.output / PHOTOS)}/*.jpg'",
            "CREATE MODEL find_faces USING opencv WITH (detector = 'face')",
            "CREATE VIRTUAL TABLE face AS find_faces(photos.image)",
        )
        tell.say("Nothing has run so far: face is a table whose rows a model can write.", 3)
        question = "SELECT COUNT(*) AS faces FROM face"
        self._ask(con, question)
        people = sum(photo.people for photo in photos)
        tell.say(f"People see {people}; the detector's method is of 2001, and it needs no weights.", 3)
        tell.step("The same again, and another question about the same faces")
        self._ask(con, question)
        self._ask(
            con,
            """
            SELECT regexp_extract(file, '[^/]*$') AS picture, width, height,
              COUNT(face_id) AS faces
            FROM photos LEFT JOIN face USING (image_id)
            WHERE width > 200
            GROUP BY ALL ORDER BY faces DESC, picture LIMIT 5""",
        )

    def _explained(self, con: Connection, drawn: street.Street) -> None:
        tell = self.narrator
        tell.step("What would it cost? EXPLAIN says so before anything is spent.")
        register_detector(con, drawn, self.seed)
        self._set_up(
            con,
            f"CREATE BLOB TABLE street FROM '{_quoted(drawn.path)}'",
            "CREATE VIRTUAL TABLE thing AS street_detector(street.image)",
        )
        plan = f"EXPLAIN {CARS}"
        tell.sql(f"{plan};")
        with _timed() as taken:
            cursor = con.execute(plan)
            rows = cursor.fetchall()
        shown = [k for k, name in enumerate(_names(cursor)) if name in _PLAN_COLUMNS]
        tell.table([_names(cursor)[k] for k in shown], [tuple(row[k] for k in shown) for row in rows])
        tell.cost(Answer(rows, taken[0], cursor.report))

    def _estimated(self, con: Connection, drawn: street.Street) -> None:
        """The count within an error, for a part of the calls."""
        tell = self.narrator
        tell.step("The same count within 5%, for a part of the calls. ERROR TARGET samples.")
        self._set_up(con, "ALTER TABLE street ADD VIRTUAL COLUMNS (car_hint, busy) AS glance(image)")
        tell.say(
            "glance is a cheap model, which errs much more: a proxy. It tells where to look, and no promise rests on it.",
            3,
        )
        answer = self._ask(con, f"{CARS}\n{WITHIN} USING PROXY car_hint")
        assert answer.report is not None
        low, high = answer.report.intervals["cars"]
        rest = drawn.frames - answer.calls["street_detector"]
        tell.say(
            f"Between {low:,.0f} and {high:,.0f}, with a probability of 95%; {rest:,} frames were not looked at.", 3
        )

    def _found(self, con: Connection) -> None:
        """Nearly all frames with a bus, for a part of the calls."""
        tell = self.narrator
        tell.step("At least 90% of the frames with a bus: RECALL TARGET")
        self._set_up(con, f"CREATE VIEW bus_frames AS\n  {BUSES}")
        tell.sql(f"SELECT frame_id FROM bus_frames\n{RECALL} USING PROXY busy;")
        with _timed() as taken, self.narrator.watching():
            cursor = con.execute(f"SELECT frame_id FROM bus_frames {RECALL} USING PROXY busy")
            self._buses = {row[0] for row in cursor.fetchall()}
        tell.table(["frames"], [(len(self._buses),)])
        tell.cost(Answer([], taken[0], cursor.report))

    def _checked(self, con: Connection) -> None:
        """What the models say of every frame, beside what was promised."""
        tell = self.narrator
        tell.step("Was that true? Without the clauses, every frame is looked at.")
        self._ask(con, CARS)
        self._ask(con, "SELECT COUNT(*) AS frames FROM bus_frames")
        there = {row[0] for row in con.execute("SELECT frame_id FROM bus_frames").fetchall()}
        share = len(self._buses & there) / max(len(there), 1)
        tell.say(f"The answer above held {share:.1%} of them. Frames that were known were not asked for again.", 3)

    def _rare(self, con: Connection, drawn: street.Street) -> list[int]:
        """Look for the yellow bus; give the frames that show it."""
        tell = self.narrator
        tell.step("Something rare, a yellow bus. LIMIT stops as soon as it has enough.")
        self._set_up(
            con,
            "CREATE MODEL paint USING color",
            "CREATE VIRTUAL TABLE painted\n  AS paint(street.image, thing.xmin, thing.ymin, thing.xmax, thing.ymax)",
        )
        answer = self._ask(
            con,
            """
            SELECT frame_id, ts
            FROM street JOIN thing USING (frame_id)
            JOIN painted USING (frame_id, thing_id)
            WHERE label = 'bus' AND color = 'yellow' AND xmin > 0
            LIMIT 5""",
        )
        tell.say("Two models: the second, which names colours, looked at buses only.", 3)
        there = drawn.yellow_bus()
        if there:
            tell.say(f"It was drawn wholly into the picture in frames {there[0]} to {there[-1]}.", 3)
        return [int(row[0]) for row in answer.rows]

    def _sheet(self, con: Connection, buses: list[int]) -> Path:
        tell = self.narrator
        tell.step("The pictures behind the answers")
        begin = time.perf_counter()
        faces = con.execute(
            "SELECT parse_filename(file) AS caption, image, xmin, ymin, xmax, ymax, 'face' AS label "
            "FROM photos JOIN face USING (image_id) ORDER BY width <= 200, image_id, face_id"
        )
        found = con.execute(
            f"""
            SELECT printf('frame %d, %.1f s', frame_id, ts) AS caption, image, xmin, ymin, xmax, ymax, color, label
            FROM street JOIN thing USING (frame_id) JOIN painted USING (frame_id, thing_id)
            WHERE label = 'bus' AND color = 'yellow' AND frame_id IN ({", ".join(map(str, [*buses, -1]))})
            ORDER BY frame_id, thing_id"""
        )
        path = self.output / SHEET
        contact.write_png(
            path,
            [
                contact.Section("SELECT ... FROM face: what the detector took for faces", _tiles(faces)),
                contact.Section("... WHERE label = 'bus' AND color = 'yellow' AND xmin > 0 LIMIT 5", _tiles(found)),
            ],
        )
        tell.say(str(path), 3)
        tell.cost(Answer([], time.perf_counter() - begin))
        return path

    def _closing(self, seconds: float) -> None:
        tell = self.narrator
        tell.say("")
        tell.say(f"That took {seconds:.0f} s in all. Every answer is kept; go on asking about the photographs:")
        program = "aidb" if which("aidb") else os.path.relpath(Path(sys.executable).with_name("aidb"))
        tell.sql(shlex.join([program, str(self.output / DATABASE)]))
        tell.say("")
        tell.say("(The street's detector is a Python function of this demo, which a shell does not have.)")


def register_detector(con: Connection, drawn: street.Street, seed: int) -> None:
    """Make the classical detector of the drawn street a model of this connection, ``street_detector(image)``."""
    import aidb

    eye = detector.Detector.learn(drawn.path)
    version = f"{detector.VERSION}, street {seed} of {drawn.frames} frames"
    declared = aidb.model(outputs=detector.OUTPUTS, rows="many", version=version, seconds_per_item=0.002)
    con.register(declared(detector.model_function(eye)), name="street_detector")
    hints = aidb.model(outputs={"cars": "DOUBLE", "busy": "DOUBLE"}, version=version, seconds_per_item=0.0005)
    con.register(hints(detector.glance_function(eye)), name="glance")


def _tiles(cursor: Cursor) -> tuple[Tile, ...]:
    return gallery(cursor, _SHOWN).tiles


def _names(cursor: Cursor) -> list[str]:
    return [column[0] for column in cursor.description or ()]


def _quoted(path: Path) -> str:
    """A path as it stands between the quotes of SQL; characters that a glob would read are made to stand for themselves."""
    text = path.as_posix().replace("'", "''")
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)
