"""What waits for a model is bounded in rows, however they are cut into pieces."""

from __future__ import annotations

import queue

import pyarrow as pa
import pytest

from aidb.exec.batches import Inbox
from aidb.exec.decode import Piece


def _piece(rows: int) -> Piece:
    return Piece(pa.table({"id": list(range(rows))}))


def test_it_is_full_at_so_many_rows_whether_they_come_in_large_pieces_or_in_small_ones() -> None:
    large, small = Inbox(16), Inbox(16)
    for _ in range(2):
        large.put_nowait(_piece(8))
    for _ in range(16):
        small.put_nowait(_piece(1))
    for inbox in (large, small):
        with pytest.raises(queue.Full):
            inbox.put_nowait(_piece(1))


def test_a_piece_that_is_larger_than_the_inbox_still_gets_in() -> None:
    inbox = Inbox(4)
    inbox.put_nowait(_piece(100))
    with pytest.raises(queue.Full):
        inbox.put_nowait(_piece(1))
    assert (inbox.get_nowait() or _piece(0)).table.num_rows == 100
    inbox.put_nowait(_piece(1))


def test_taking_makes_room_again_and_the_end_and_pieces_without_rows_can_be_waited_for() -> None:
    inbox = Inbox(2)
    for _ in range(3):
        inbox.put_nowait(_piece(0))
        inbox.put_nowait(None)
        assert inbox.full()
        assert inbox.get_nowait() is not None
        assert inbox.get_nowait() is None
        assert inbox.empty()
