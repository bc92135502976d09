"""Adaptive concurrency and the choice of a replica, without any server."""

from __future__ import annotations

import asyncio
import time

from aidb_models.flow import Flow
from aidb_models.pace import Pace
from aidb_models.replicas import Replicas


def test_a_sign_of_overload_halves_the_limit_once_a_round() -> None:
    async def run() -> None:
        flow = Flow(16)
        entered = [await flow.enter() for _ in range(16)]
        flow.leave(entered[0], overloaded=True)
        assert flow.limit == 8
        for one in entered[1:]:  # they were on their way when the first came back
            flow.leave(one, overloaded=True)
        assert (flow.limit, flow.flying) == (8, 0)
        flow.leave(await flow.enter(), overloaded=True)
        assert flow.limit == 4

    asyncio.run(run())


def test_the_limit_grows_by_one_a_round_and_never_above_what_is_allowed() -> None:
    async def run() -> None:
        flow = Flow(6)
        flow.limit = 4.0
        for _ in range(4):
            flow.leave(await flow.enter())
        assert 4.8 < flow.limit < 5.0
        for _ in range(100):
            flow.leave(await flow.enter())
        assert flow.limit == 6

    asyncio.run(run())


def test_there_is_always_room_for_one() -> None:
    async def run() -> None:
        flow = Flow(1)
        for _ in range(5):
            flow.leave(await flow.enter(), overloaded=True)
        assert flow.limit == 1

    asyncio.run(run())


def test_who_waits_gets_the_turns_that_become_free() -> None:
    async def run() -> None:
        flow = Flow(2)
        first = [await flow.enter() for _ in range(2)]
        waiting = [asyncio.create_task(flow.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(t.done() for t in waiting)
        waiting[0].cancel()
        for one in first:
            flow.leave(one)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [t.cancelled() or t.done() for t in waiting] == [True, True, True]
        assert flow.flying == 2

    asyncio.run(run())


def test_retry_after_pauses_everyone() -> None:
    async def run() -> float:
        flow = Flow(4)
        flow.leave(await flow.enter(), overloaded=True, after=0.2)
        start = time.monotonic()
        await flow.enter()
        return time.monotonic() - start

    assert asyncio.run(run()) >= 0.19


def test_the_replica_with_the_fewest_requests_is_asked() -> None:
    replicas = Replicas(["a", "b", "c"])
    asked = []
    for _ in range(6):
        one = replicas.choose(())
        assert one is not None
        one.flying += 1
        asked.append(one.url)
    assert sorted(asked) == ["a", "a", "b", "b", "c", "c"]


def test_a_replica_that_failed_is_asked_last() -> None:
    replicas = Replicas(["a", "b"])
    first = replicas.choose(())
    assert first is not None
    first.failed()
    others = {r.url for _ in range(4) if (r := replicas.choose(())) is not None}
    assert first.url not in others
    assert replicas.choose(others) is first
    assert replicas.choose(["a", "b"]) is None
    first.went_well()
    assert first.down_until == 0


def test_a_pause_ends_when_the_pace_is_stopped() -> None:
    pace = Pace(None)
    assert pace.pause(0)
    pace.stop()
    assert not pace.pause(60)
