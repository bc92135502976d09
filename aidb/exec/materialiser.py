"""What the rounds of a plan call: queries over what is stored, and models run on the items that are wanted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from aidb.catalog import discover
from aidb.catalog.definitions import FillDefinition, ModelDefinition
from aidb.catalog.names import listed, quoted
from aidb.catalog.relations import Fill, Relations
from aidb.errors import InternalError, OperationalError
from aidb.exec.access import Access
from aidb.exec.batches import CPU_BATCH, GPU_BATCH, PLAIN_BATCH, TICK, Job
from aidb.exec.control import Control
from aidb.exec.inference import Inference
from aidb.exec.inputs import input_query
from aidb.exec.pipeline import Pipeline
from aidb.exec.registry import Registry
from aidb.exec.run import Rows, Run, Worker
from aidb.exec.settings import Settings
from aidb.spi import Connector
from aidb.storage.answers import AnswerWriter
from aidb.storage.database import Database, Parameters
from aidb.storage.translated import translated

if TYPE_CHECKING:
    from aidb.exec.distributed.shipping import Shipping

READ = 8192
"""Rows of the input query that are held at a time; one video's frames are decoded in stretches of so many."""
READ_PLAIN = 2048
"""The same where no content is read, and so each row may be large."""


class Connectors:
    """Connectors by name: those that were registered, else those that are installed. One object each."""

    def __init__(self) -> None:
        self.registered: dict[str, Connector] = {}
        self._made: dict[str, Connector] = {}
        self._lock = threading.Lock()

    def add(self, connector: Connector) -> None:
        """Register an object under its own name."""
        self._made[connector.name.lower()] = self.registered[connector.name.lower()] = connector

    def get(self, name: str) -> Connector:
        """Raises `UnknownName` if there is none of the name."""
        with self._lock:
            found = self._made.get(name.lower())
            if found is None:
                found = self._made[name.lower()] = discover.load("aidb.connectors", name)()
            return found

    def all(self) -> list[Connector]:
        """Every connector there is."""
        names = {*self._made, *discover.entry_points("aidb.connectors")}
        return [self.get(n) for n in sorted(names)]


class Materialiser:
    """Runs models for one statement at a time, and remembers what it ran."""

    def __init__(self, database: Database, registry: Registry, connectors: Connectors) -> None:
        self.database, self.registry, self.connectors = database, registry, connectors
        self._writer: AnswerWriter | None = None
        self._shipping: Shipping | None = None
        self.last: Run | None = None
        self._has_turn = False

    def begin(self, control: Control, settings: Settings, relations: Relations, parameters: Parameters) -> Statement:
        """A statement's own view of this object."""
        return Statement(self, control, settings, relations, parameters)

    @contextmanager
    def turn(self, wait: Callable[[], None]) -> Iterator[None]:
        """Held from finding out which answers are missing until they are stored, so that nothing is asked twice.

        One connection of this process to a file at a time; a statement inside another one's turn has it already.
        ``wait`` is called now and then meanwhile, and may raise.
        """
        lock = self.database.shared.models
        if self._has_turn:
            yield
            return
        while not lock.acquire(timeout=TICK):
            wait()
        self._has_turn = True
        try:
            self.settle(wait)
            yield
        finally:
            self._has_turn = False
            lock.release()

    def settle(self, wait: Callable[[], None] = lambda: None) -> None:
        """Wait for batches that an interrupted statement left in flight; they are stored when they end."""
        lingering = self.database.shared.lingering
        for thread in list(lingering):
            while not thread.wait(TICK):
                wait()
            if thread in lingering:
                lingering.remove(thread)

    def writer(self) -> AnswerWriter:
        """The one writer."""
        if self._writer is None:
            self._writer = AnswerWriter(self.database.cursor())
        return self._writer

    def shipping(self) -> Shipping:
        """This connection's part in a Ray cluster."""
        if self._shipping is None:
            from aidb.exec.distributed.shipping import Shipping

            self._shipping = Shipping(self.registry.pool)
        return self._shipping

    def close(self) -> None:
        """Leave the Ray cluster, if there is one."""
        if self._shipping is not None:
            self._shipping.close()

    def leave(self, threads: list[Worker]) -> None:
        """Remember threads that are still busy."""
        self.database.shared.lingering += threads


class Statement:
    """Implements `aidb.exec.rounds.Materialiser` for one statement."""

    def __init__(
        self, shared: Materialiser, control: Control, settings: Settings, relations: Relations, parameters: Parameters
    ) -> None:
        self._shared, self.control, self.settings = shared, control, settings
        self._relations, self._parameters = relations, parameters
        self.busy = 0.0
        """Seconds that were spent on `materialise`."""

    def query(self, sql: str, parameters: Parameters = None) -> pa.Table:
        """Rows of a query over what is stored by now."""
        self.control.raise_if_stopped()
        return self._shared.database.query(sql, parameters)

    def batch_size(self, fill: Fill) -> int:
        """Items that one call of the fill's model takes."""
        definition = self._shared.registry.model(fill.model)
        spec = self._shared.registry.pool.get(definition).spec
        on_content = any(i.form in ("image", "encoded", "audio", "text") for i in spec.inputs)
        usual = (CPU_BATCH if spec.device == "cpu" else GPU_BATCH) if on_content else PLAIN_BATCH
        return min(self.settings.batch_size or spec.batch_size or usual, spec.max_batch or 1 << 30)

    def cost(self, fill: Fill) -> float:
        """Seconds (and money, as seconds) that an item costs."""
        return self._shared.registry.cost(self._shared.registry.definition(fill))

    def callers(self, fill: Fill) -> int:
        """How many calls of the fill's model go on at the same time."""
        definition = self._shared.registry.model(fill.model)
        here = max(1, self._shared.registry.pool.get(definition).spec.concurrency)
        return here * self.settings.most_workers

    def measured(self, fill: Fill) -> bool:
        """Has the fill's model run on its items before?"""
        return self._shared.registry.is_timed(self._shared.registry.definition(fill))

    def materialise(self, items: Sequence[tuple[Fill, pa.Table]]) -> None:
        """Run each fill's model on its keys, and store all answers. Fills with the same items share one decoding."""
        wanted = [(fill, keys) for fill, keys in items if keys.num_rows]
        if not wanted:
            return
        self.control.check()
        self._check_writable(wanted)
        began = time.monotonic()
        try:
            self._materialise(wanted)
        finally:
            self.busy += time.monotonic() - began

    def _materialise(self, wanted: Sequence[tuple[Fill, pa.Table]]) -> None:
        with self._shared.turn(self.control.check):
            together: dict[object, list[tuple[FillDefinition, pa.Table]]] = {}
            for fill, keys, distinct in self._united(wanted):
                # Another connection, or a batch that an interrupted statement left, may have answered meanwhile.
                missing = self._missing(fill, keys, distinct)
                if missing.num_rows:
                    definition = self._shared.registry.definition(fill)
                    alone = definition.id if definition.sequential else None
                    together.setdefault((definition.parents, definition.keys, alone), []).append((definition, missing))
            for group in together.values():
                self._run(group)

    def _united(self, wanted: Sequence[tuple[Fill, pa.Table]]) -> list[tuple[Fill, pa.Table, bool]]:
        """One entry for each place where answers are stored: two names may lead to one, and ask for the same items.

        With each, whether its keys are distinct.
        """
        found: dict[int, tuple[Fill, pa.Table, bool]] = {}
        for fill, keys in wanted:
            place = self._shared.registry.definition(fill).id
            keys = keys.select(list(fill.keys))
            if place in found:
                first, before, _ = found[place]
                again = keys.rename_columns(before.column_names).cast(before.schema)
                found[place] = first, pa.concat_tables([before, again]), False
            else:
                found[place] = fill, keys, True
        return list(found.values())

    def _missing(self, fill: Fill, keys: pa.Table, distinct: bool) -> pa.Table:
        """Those of the keys that have no answer yet."""
        how = "" if distinct else "DISTINCT "
        same = "IS NOT DISTINCT FROM" if fill.null_safe else "="
        on = " AND ".join(f"k.{quoted(n)} {same} l.{quoted(n)}" for n in fill.keys)
        cursor = self._shared.database.cursor()
        try:
            cursor.register("aidb_wanted", keys)
            with translated():
                return cursor.sql(
                    f"SELECT {how}k.* FROM aidb_wanted k ANTI JOIN {fill.ledger} l ON {on}"
                ).to_arrow_table()
        finally:
            cursor.close()

    def _check_writable(self, wanted: Sequence[tuple[Fill, pa.Table]]) -> None:
        if self._shared.database.read_only:
            missing = ", ".join(f"{keys.num_rows} items of {fill.id}" for fill, keys in wanted)
            raise OperationalError(
                f"the database is open read-only, and {missing} have no answer yet: open it for writing"
            )
        if self._shared.database.in_transaction():
            raise OperationalError(
                "models can't run inside a transaction that you began, since it would not see their answers: COMMIT first"
            )

    def _run(self, wanted: list[tuple[FillDefinition, pa.Table]]) -> None:
        """Run the models of fills with the same items."""
        shared, registry = self._shared, self._shared.registry
        models = [registry.model(fill.model) for fill, _ in wanted]
        is_local = self.settings.executor == "local"
        live = registry.pool.loaded if is_local else registry.pool.get
        inferences = [Inference(m.name, live(m), self.control, m.fingerprint) for m in models]
        types: dict[tuple[str, str], str] = {}
        for relation in {t for fill, _ in wanted for t, _ in fill.args}:
            types |= {(relation.lower(), c): t for c, t in registry.column_types(relation).items()}
        fills = [fill for fill, _ in wanted]
        sql, inputs = input_query(
            [(fill, inference.spec) for fill, inference in zip(fills, inferences, strict=True)], self._relations, types
        )
        jobs = [Job(*parts, self.settings.batch_size) for parts in zip(fills, inferences, inputs, strict=True)]
        rows = _InputRows(shared.database, sql, READ if " ORDER BY " in sql else READ_PLAIN)
        for n, (job, (fill, keys)) in enumerate(zip(jobs, wanted, strict=True)):
            if fill.sequential:
                keys, job.files = self._whole_files(fill, keys)
            self.control.expected[job.inference.name] += keys.num_rows
            rows.register(f"aidb_keys_{n}", keys.select([name for name, _ in fill.keys]))
        with ExitStack() as held:
            for name in sorted({fill.model.lower() for fill in fills}):
                held.enter_context(registry.pool.lock(name))
            run = self._here(jobs, rows) if is_local else self._away(models, jobs, rows)
            shared.last = run
            try:
                run.run()
            finally:
                shared.leave(run.lingering())

    def _here(self, jobs: Sequence[Job], rows: Rows) -> Run:
        connector = self._guarded(self._shared.connectors.get)
        return Pipeline(jobs, rows, connector, self._shared.writer(), self.control, self.settings.memory_limit)

    def _away(self, models: Sequence[ModelDefinition], jobs: Sequence[Job], rows: Rows) -> Run:
        from aidb.exec.distributed.refusing import Refusing
        from aidb.exec.distributed.run import DistributedRun

        shared = self._shared
        staff = shared.shipping().staff(models, jobs, shared.connectors.registered, self.settings)
        return DistributedRun(jobs, rows, shared.writer(), self.control, staff, Refusing(self._guarded))

    def _guarded(self, connector: Callable[[str], Connector]) -> Callable[[str], Connector]:
        return Access(self._shared.registry).guarded(connector, self.settings.follow_urls)

    def _whole_files(self, fill: FillDefinition, keys: pa.Table) -> tuple[pa.Table, dict[str | None, int]]:
        """For a model that keeps state along a file: all items of every file that has a wanted one, and how many each has."""
        relation = self._relations.get(fill.parents[0])
        content = next((c for t, c in fill.args if relation is not None and t.lower() == relation.name.lower()), None)
        if relation is None or content is None:
            raise InternalError(f"{fill.model}: a model that keeps state needs a content column of its own table")
        names = [name for name, _ in fill.keys]
        on = " AND ".join(f"a.{quoted(n)} = k.{quoted(n)}" for n in names)
        cursor = self._shared.database.cursor()
        try:
            cursor.register("aidb_wanted", keys)
            with translated():
                found = cursor.sql(
                    f"SELECT {listed(names, 'a.')}, a.{quoted(content)}.uri AS _file FROM {relation.base} a "
                    f"WHERE a.{quoted(content)}.uri IN "
                    f"(SELECT a.{quoted(content)}.uri FROM {relation.base} a JOIN aidb_wanted k ON {on})"
                ).to_arrow_table()
        finally:
            cursor.close()
        return found.select(names), dict(Counter(found.column("_file").to_pylist()))


class _InputRows:
    """The rows of an input query, on a connection of its own; see `aidb.exec.run.Rows`."""

    def __init__(self, database: Database, sql: str, size: int) -> None:
        self._cursor, self._sql, self._size = database.cursor(), sql, size

    def register(self, name: str, table: pa.Table) -> None:
        """Make a table known to the query."""
        self._cursor.register(name, table)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with translated():
            try:
                yield from self._cursor.sql(self._sql).to_arrow_reader(self._size)
            except (pa.ArrowException, OSError) as e:
                # What goes wrong once rows are streaming arrives through Arrow, as a text.
                raise OperationalError(f"the inputs of a model can't be read: {e}") from e

    def interrupt(self) -> None:
        """See `Rows`."""
        self._cursor.interrupt()

    def close(self) -> None:
        """See `Rows`."""
        self._cursor.close()
