"""The streams of visits and calls, read between two moments while others write to them and erase from them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from edgeproxy.store import erasure, keys, streams
from edgeproxy.store.calls import Calls
from edgeproxy.store.streams import Entry, Piece
from tests.conftest import DEMO, Desk

BEGIN = 1_780_000_000_000
STREAM = keys.visits("demo")


def visit(session: str, visitor: str = "") -> dict[str, Any]:
    return {"session": session, "new": True, "numbers": {}, "visit": {"trackingId": visitor}}


def entry_of(*sessions: str) -> dict[Any, Any]:
    return {"visits": orjson.dumps([visit(session, session[0]) for session in sessions])}


async def add(desk: Desk, ms: int, *sessions: str) -> str:
    """An entry of so many ms after the beginning; a session's visitor has the first letter of its name."""
    await desk.redis.pexpire(STREAM, 3_600_000)
    entry = await desk.redis.xadd(STREAM, entry_of(*sessions), id=f"{BEGIN + ms}-*")
    await desk.redis.pexpire(STREAM, 3_600_000)
    return str(entry)


async def erase(desk: Desk, visitor: str) -> None:
    await erasure.erase(Calls(desk.store, None), await desk.account("demo"), tracking_id=visitor)


def read(desk: Desk, begin: int = 0, end: int = 1_000_000) -> AsyncIterator[Piece]:
    return streams.visits(desk.store, "demo", BEGIN + begin, BEGIN + end)


def sessions(entries: list[Entry]) -> list[tuple[int, str]]:
    """When after the beginning, and who."""
    return [(entry.time_ms - BEGIN, visit["session"]) for entry in entries for visit in orjson.loads(entry.text)]


async def all_of(pieces: AsyncIterator[Piece]) -> list[tuple[int, str]]:
    return [found async for piece in pieces for found in sessions(piece.entries)]


@pytest.fixture
async def demo(desk: Desk) -> Desk:
    await desk.load(DEMO)
    return desk


async def test_a_stream_that_is_not_there_holds_nothing(demo: Desk) -> None:
    assert await all_of(read(demo)) == []
    assert [piece async for piece in streams.calls(demo.store, "demo", 0, BEGIN)] == []


async def test_from_the_first_moment_until_before_the_last(demo: Desk) -> None:
    for ms in (0, 10, 10, 20, 30):
        await add(demo, ms, f"s{ms}")
    assert await all_of(read(demo, 10, 30)) == [(10, "s10"), (10, "s10"), (20, "s20")]
    assert await all_of(read(demo, 0, 10)) == [(0, "s0")]
    assert await all_of(read(demo, 31)) == []
    assert await all_of(read(demo, 10, 10)) == []
    assert await all_of(read(demo, -BEGIN)) == [(0, "s0"), (10, "s10"), (10, "s10"), (20, "s20"), (30, "s30")]


async def test_pieces_are_small_and_their_shares_grow(demo: Desk) -> None:
    for ms in range(1300):
        await add(demo, ms, f"s{ms}")
    pieces = [piece async for piece in read(demo)]
    assert [len(piece.entries) for piece in pieces] == [10, 500, 500, 290]
    assert await all_of(read(demo)) == [(ms, f"s{ms}") for ms in range(1300)]
    shares = [piece.share for piece in pieces]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(10 / 1300, abs=0.01)
    assert shares[-1] == 1
    assert [piece.share async for piece in read(demo, 0, 1)] == [1]


async def test_large_entries_make_small_pieces(demo: Desk) -> None:
    for ms in range(70):
        await add(demo, ms, "s" * 100_000)
    assert max([len(piece.entries) async for piece in read(demo)][1:]) < 12


async def test_what_an_erasure_left_comes_in_its_old_place(demo: Desk) -> None:
    await add(demo, 0, "a0", "b0")
    await add(demo, 10, "a1")
    await add(demo, 20, "b2", "a2", "c2")
    await add(demo, 30, "c3")
    await erase(demo, "a")
    assert await all_of(read(demo)) == [(0, "b0"), (20, "b2"), (20, "c2"), (30, "c3")]
    await erase(demo, "b")  # of what the erasure before it had left
    assert await all_of(read(demo)) == [(20, "c2"), (30, "c3")]
    assert await all_of(read(demo, 20, 21)) == [(20, "c2")]
    assert await all_of(read(demo, 30)) == [(30, "c3")]
    assert await all_of(read(demo, 40, 10**14)) == []  # nor where it was appended
    await add(demo, 10**13, "d4")
    await erase(demo, "c")
    assert await all_of(read(demo)) == []
    assert await all_of(read(demo, 0, 10**14)) == [(10**13, "d4")]


async def test_all_is_looked_through_after_an_erasure_and_the_share_tells(demo: Desk) -> None:
    await add(demo, 0, "a", "b")
    for ms in range(1, 300):
        await add(demo, ms, f"s{ms}")
    await erase(demo, "a")
    pieces = [piece async for piece in read(demo, 0, 100)]
    assert await all_of(read(demo, 0, 100)) == [(0, "b"), *((ms, f"s{ms}") for ms in range(1, 100))]
    shares = [piece.share for piece in pieces]
    assert shares == sorted(shares)
    assert len({piece.share for piece in pieces if not piece.entries}) > 1


async def test_an_erasure_meanwhile_loses_nothing(demo: Desk) -> None:
    """What was not yet read comes without the erased; what was, is not given twice."""
    for ms in range(1200):
        await add(demo, ms, f"a{ms}", f"b{ms}")
    await add(demo, 5000, "z")
    reading = read(demo)
    first = sessions((await anext(reading)).entries)
    assert first == [(ms, f"{who}{ms}") for ms in range(10) for who in "ab"]
    await erase(demo, "a")
    rest = await all_of(reading)
    assert rest == [*((ms, f"b{ms}") for ms in range(10, 1200)), (5000, "z")]


async def test_many_erasures_at_the_same_time(demo: Desk) -> None:
    """Whoever is not erased is given once, in order, whenever it happens."""
    everybody = "abcdefgh"
    async with demo.redis.pipeline() as pipeline:
        for ms in range(600):
            pipeline.xadd(STREAM, entry_of(*[f"{who}{ms}" for who in everybody]), id=f"{BEGIN + ms}-*")
        await pipeline.pexpire(STREAM, 3_600_000).execute()

    async def erasing() -> None:
        for who in everybody[:-1]:
            await erase(demo, who)

    work = asyncio.create_task(erasing())
    rounds = 0
    while not work.done():
        found = await all_of(read(demo, 0, 600))
        assert [ms for ms, who in found if who[0] == "h"] == list(range(600))
        assert [ms for ms, _ in found] == sorted(ms for ms, _ in found)
        assert len(found) == len(set(found))
        rounds += 1
    await work
    assert rounds > 1
    assert await all_of(read(demo, 0, 600)) == [(ms, f"h{ms}") for ms in range(600)]


async def test_reading_goes_on_though_the_stream_grows(demo: Desk) -> None:
    await add(demo, 0, "s")
    reading = read(demo, 0, 10**14)
    for ms in range(1, 20):
        await add(demo, ms, "s")
    assert len((await anext(reading)).entries) == 10
    await add(demo, 20, "s")
    assert len((await anext(reading)).entries) == 11


async def test_events_of_calls(demo: Desk) -> None:
    stream = keys.calls("demo")
    for ms in (0, 10):
        await demo.redis.xadd(stream, {"call": orjson.dumps({"call_id": f"c{ms}"})}, id=f"{BEGIN + ms}-*")
    await demo.redis.pexpire(stream, 3_600_000)
    (piece,) = [piece async for piece in streams.calls(demo.store, "demo", BEGIN + 1, BEGIN + 11)]
    assert [(entry.id, entry.text) for entry in piece.entries] == [(f"{BEGIN + 10}-0", '{"call_id":"c10"}')]
