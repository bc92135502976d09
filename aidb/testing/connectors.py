"""The contract of a connector as a test class: subclass it, say what to read, and run pytest.

::

    class TestMine(ConnectorContract):
        def connector(self): return Mine()
        def source(self, folder): (folder / "a.mine").write_text("x"); return str(folder)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from aidb.errors import SourceError, UnknownName
from aidb.spi import CONTENT_TYPE, MEDIA, Connector, Decoded, ItemFailure, Options, Ref, Scan
from aidb.spi.content import CONTENT_SQL

_KINDS = {"image": np.ndarray, "text": str, "audio": bytes}


def list_items(connector: Connector, scan: Scan) -> pa.Table:
    """All items of a source as one table."""
    batches = list(connector.items(scan))
    assert batches, "items() raises SourceError for a source without items, so it yields at least one batch"
    return pa.Table.from_batches(batches)


def references(connector: Connector, scan: Scan) -> list[Ref]:
    """The content references of all items, in the order in which the engine asks for them."""
    column = connector.schema(scan).content
    assert column is not None, "this source has no content column"
    refs = [Ref(**value) for value in list_items(connector, scan)[column].to_pylist()]
    return sorted(refs, key=lambda ref: (ref.uri, -1 if ref.pos is None else ref.pos))


def same(one: Decoded | ItemFailure, other: Decoded | ItemFailure) -> bool:
    """Are two decoded items equal, to the last pixel?"""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.array_equal(one, other)
    return one == other


class ConnectorContract:
    """What every connector promises. ``folder`` is a fresh temporary directory (pytest's ``tmp_path``)."""

    def connector(self) -> Connector:
        """A new instance of the connector."""
        raise NotImplementedError(f"{type(self).__name__} must define connector()")

    def source(self, folder: Path) -> str:
        """Make a source of at least three items (where the connector reads files, below ``folder``) and name it."""
        raise NotImplementedError(f"{type(self).__name__} must define source()")

    def options(self) -> dict[str, object]:
        """Options for every scan."""
        return {}

    def missing(self, folder: Path) -> str:
        """A source of this connector's kind that does not exist."""
        return str(folder / "missing" / ("*" + min(self.connector().extensions)))

    def broken(self, folder: Path) -> Ref | None:
        """A reference to an item that can't be read, or None if there is no such thing."""
        return Ref(str(folder / ("missing" + min(self.connector().extensions))), None, "image", self.connector().name)

    def _scan(self, folder: Path) -> Scan:
        return Scan(self.source(folder), Options(self.options(), self.connector().name))

    def _read(self, refs: Sequence[Ref], *, encoded: bool = False) -> list[Decoded | ItemFailure]:
        return list(self.connector().read(refs, encoded=encoded))

    def test_is_a_connector(self) -> None:
        """The protocol's attributes are there and well formed."""
        connector = self.connector()
        assert isinstance(connector, Connector)
        assert connector.name == connector.name.lower()
        assert all(e == e.lower() and e.startswith(".") for e in connector.extensions)
        assert isinstance(connector.priority, int)

    def test_schema(self, tmp_path: Path) -> None:
        """Names are unique, the identity and the content are columns, the key is not."""
        schema = self.connector().schema(self._scan(tmp_path))
        names = [name for name, _ in schema.columns]
        assert len({name.lower() for name in names}) == len(names)
        assert schema.identity
        assert set(schema.identity) <= set(names)
        assert not {schema.key, "content_id"} & set(names)
        if schema.content is not None:
            assert dict(schema.columns)[schema.content] == CONTENT_SQL

    def test_items_follow_the_schema(self, tmp_path: Path) -> None:
        """Every batch has the schema's columns and the content id; what identifies an item is there, and unique."""
        connector, scan = self.connector(), self._scan(tmp_path)
        schema = connector.schema(scan)
        table = list_items(connector, scan)
        assert table.column_names == [*(name for name, _ in schema.columns), "content_id"]
        assert table.num_rows >= 3
        assert table["content_id"].null_count == 0
        assert pa.types.is_string(table.schema.field("content_id").type)
        keys = list(zip(*(table[name].to_pylist() for name in schema.identity), strict=True))
        assert len(set(keys)) == len(keys)
        assert not any(value is None for key in keys for value in key)
        if schema.content is not None:
            assert table.schema.field(schema.content).type.equals(CONTENT_TYPE)

    def test_listing_again_gives_the_same(self, tmp_path: Path) -> None:
        """Same rows, same order, same content ids, also from another instance."""
        scan = self._scan(tmp_path)
        assert list_items(self.connector(), scan).equals(list_items(self.connector(), scan))

    def test_references_lead_back(self, tmp_path: Path) -> None:
        """Each names this connector and a known medium, and decodes to what the medium promises."""
        connector, scan = self.connector(), self._scan(tmp_path)
        if connector.schema(scan).content is None:
            return
        refs = references(connector, scan)
        for ref, item in zip(refs, connector.read(refs), strict=True):
            assert ref.connector == connector.name
            assert ref.media in MEDIA
            assert isinstance(item, _KINDS[ref.media]), item
            if isinstance(item, np.ndarray):
                assert item.dtype == np.uint8
                assert item.ndim == 3
                assert item.shape[2] == 3

    def test_order_of_asking_does_not_matter(self, tmp_path: Path) -> None:
        """All at once, one by one, backwards and twice over: the same items."""
        connector, scan = self.connector(), self._scan(tmp_path)
        if connector.schema(scan).content is None:
            return
        refs = references(connector, scan)
        whole = self._read(refs)
        singly = [item for ref in refs for item in connector.read([ref])]
        backwards = self._read(refs[::-1])[::-1]
        doubled = self._read([ref for ref in refs for _ in range(2)])
        assert len(whole) == len(singly) == len(backwards) == len(refs)
        assert all(map(same, whole, singly))
        assert all(map(same, whole, backwards))
        assert all(map(same, [item for item in whole for _ in range(2)], doubled))

    def test_encoded_gives_bytes(self, tmp_path: Path) -> None:
        """Bytes, one for each reference."""
        connector, scan = self.connector(), self._scan(tmp_path)
        if connector.schema(scan).content is None:
            return
        refs = references(connector, scan)
        encoded = self._read(refs, encoded=True)
        assert len(encoded) == len(refs)
        assert all(isinstance(item, bytes) and item for item in encoded)

    def test_a_broken_item_costs_no_other(self, tmp_path: Path) -> None:
        """It yields an ItemFailure with a message in its own place; its neighbours are read."""
        connector, scan = self.connector(), self._scan(tmp_path)
        broken = self.broken(tmp_path)
        if broken is None or connector.schema(scan).content is None:
            return
        refs = references(connector, scan)
        results = self._read([refs[0], broken, refs[1]])
        assert len(results) == 3
        assert isinstance(results[1], ItemFailure)
        assert results[1].message
        assert not isinstance(results[0], ItemFailure)
        assert not isinstance(results[2], ItemFailure)

    def test_a_reader_may_stop_early(self, tmp_path: Path) -> None:
        """Closing the stream half-way is no error, and reading goes on afterwards."""
        connector, scan = self.connector(), self._scan(tmp_path)
        if connector.schema(scan).content is None:
            return
        refs = references(connector, scan)
        stream = connector.read(refs)
        first = next(stream)
        del stream
        assert same(first, next(iter(connector.read(refs))))

    def test_a_missing_source_is_said(self, tmp_path: Path) -> None:
        """SourceError that names the source."""
        source = self.missing(tmp_path)
        for ask in (self.connector().claims, lambda s: list(self.connector().items(Scan(s, Options(self.options()))))):
            try:
                ask(source)
            except SourceError as e:
                assert source in str(e)  # noqa: PT017  this class does without pytest
            else:
                raise AssertionError(f"no SourceError for {source!r}")

    def test_an_unknown_option_is_refused(self, tmp_path: Path) -> None:
        """UnknownName that names the option, before anything is listed."""
        scan = Scan(self.source(tmp_path), Options({**self.options(), "no_such_option": 1}))
        for ask in (self.connector().schema, self.connector().items):
            try:
                ask(scan)
            except UnknownName as e:
                assert "no_such_option" in str(e)  # noqa: PT017  this class does without pytest
            else:
                raise AssertionError("no UnknownName for the option 'no_such_option'")

    def test_claims_its_own(self, tmp_path: Path) -> None:
        """A source of its kind is claimed; an address of a scheme that nobody knows is not."""
        assert self.connector().claims(self.source(tmp_path)) > 0
        assert self.connector().claims("nobody-knows-this://x/y") == 0
