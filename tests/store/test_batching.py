"""Batches: what shares a call, what happens at the deadline, and that a repeated call happens once."""

import asyncio
import dataclasses
import re
import time

import orjson
import pytest

from edgeproxy.errors import Kind
from edgeproxy.store import Ask, Store, keys
from edgeproxy.store.batching import BATCH_MOST, _Batch, _Plan
from tests.conftest import DEMO, Clock, Desk, far
from tests.servers import client_of

PAGE = "+493015981100"


def ask(serial: int) -> Ask:
    return Ask(f"10.1.{serial >> 8}.{serial & 255}", "", "", False, ((PAGE, 0),))


async def test_the_requests_of_one_turn_leave_in_one_call(store_url: str) -> None:
    sizes: list[int] = []
    async with Store(store_url, on_batch=lambda size, events: sizes.append(size)) as store:
        await store.load_functions()
        await Desk(store, Clock(), iter(())).load(DEMO)
        demo = await store.account("demo", far())
        assert demo is not None
        await asyncio.gather(*(store.resolve(demo, ask(i), far()) for i in range(30)))
        assert sizes == [30]
        sizes.clear()
        await asyncio.gather(*(store.resolve(demo, ask(i), far()) for i in range(BATCH_MOST + 1)))
        assert sorted(sizes) == [1, BATCH_MOST]


async def test_accounts_do_not_mix_and_leave_together(desk: Desk) -> None:
    await desk.load(DEMO)
    names = ["demo", "tiny", "shared", "recycle"]
    loaded = [await desk.account(name) for name in names]
    pages = [PAGE, "+442079460000", "+442079460010", "+442079460020"]
    resolutions = await asyncio.gather(
        *(desk.ask(account, page) for _ in range(5) for account, page in zip(loaded, pages, strict=True))
    )
    assert [resolution.numbers[0] for resolution in resolutions[:4]] == [
        "+493015981151", "+442079460001", "+442079460011", "+442079460021",
    ]  # fmt: skip


@pytest.mark.alone
async def test_an_answer_is_there_by_the_deadline_with_a_frozen_store(desk: Desk) -> None:
    await desk.load(DEMO)
    demo = await desk.account("demo")
    await desk.store.resolve(demo, ask(1), far())
    await desk.redis.client_pause(400)
    try:
        started = time.monotonic()
        early = desk.store.resolve(demo, ask(2), started + 0.2)
        earlier = desk.store.resolve(demo, ask(3), started + 0.05)  # it has waited before
        assert (await earlier).refused is Kind.STORE_UNAVAILABLE
        assert 0.045 < time.monotonic() - started < 0.15
        assert (await early).refused is Kind.STORE_UNAVAILABLE
        assert 0.195 < time.monotonic() - started < 0.3
    finally:
        await asyncio.sleep(0.5)
    assert (await desk.store.resolve(demo, ask(4), far())).refused is None


@pytest.mark.parametrize(("deadline", "spent"), [(-1, "1"), (0, "2"), (1, "2")])
async def test_a_call_that_the_store_comes_to_after_its_deadline_does_nothing(
    desk: Desk, deadline: int, spent: str
) -> None:
    await desk.load(DEMO)
    demo = await desk.account("demo")
    await desk.store.resolve(demo, ask(1), far())
    batch = _Batch(_Plan(demo, desk.clock.now, 1, limited_before=desk.store.servers.spread))
    batch.asks.append(ask(2))
    reply = orjson.loads(await desk.redis.execute_command(*batch.command(desk.clock.now, desk.clock.now + deadline)))
    assert ("late" in reply) == (deadline < 0)
    assert reply["now"] == desk.clock.now
    assert await desk.redis.hget(keys.points("demo"), "spent") == spent


async def test_a_request_that_was_given_up_is_not_spent(store_url: str) -> None:
    async with Store(store_url) as store:
        await store.load_functions()
        await Desk(store, Clock(), iter(())).load(DEMO)
        demo = await store.account("demo", far())
        assert demo is not None
        first = await store.resolve(demo, ask(1), far())
        with client_of(store_url) as other:
            other.execute_command("CLIENT", "PAUSE", 400, "ALL")
        late = await store.resolve(demo, ask(2), time.monotonic() + 0.05)
        assert late.refused is Kind.STORE_UNAVAILABLE
        await asyncio.sleep(0.6)
        third = await store.resolve(demo, ask(3), far())
        assert (first.points_left, third.points_left) == (1_000_000 - 1, 1_000_000 - 2)


async def test_an_account_that_changed_takes_no_second_place_in_the_limiters_window(desk: Desk) -> None:
    if not desk.store.servers.spread:
        pytest.skip("on one server, the limiter is asked in the same call as the account")
    await desk.load(DEMO)
    demo = await desk.account("demo")
    stale = dataclasses.replace(demo, version=demo.version + 1)
    moved = await desk.store.resolve(stale, ask(1), far())
    assert moved.moved
    again = await desk.store.resolve(demo, ask(1)._replace(admitted=moved.window_left), far())
    assert [again.window_left, (await desk.store.resolve(demo, ask(1), far())).window_left] == [4, 3]


async def test_lost_functions_are_loaded_again_and_nothing_is_spent_twice(desk: Desk) -> None:
    await desk.load(DEMO)
    demo = await desk.account("demo")
    await desk.store.resolve(demo, ask(1), far())
    await desk.redis.function_flush()
    resolutions = await asyncio.gather(*(desk.store.resolve(demo, ask(i), far()) for i in range(2, 12)))
    assert {resolution.refused for resolution in resolutions} == {None}
    assert {resolution.points_left for resolution in resolutions} == {1_000_000 - 11}


async def test_a_store_that_refuses_is_unavailable_and_told_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    await desk.load(DEMO)
    demo = await desk.account("demo")
    await desk.store.resolve(demo, ask(1), far())
    await desk.redis.config_set("maxmemory", "1")
    try:
        for i in range(5):
            assert (await desk.store.resolve(demo, ask(10 + i), far())).refused is Kind.STORE_UNAVAILABLE
    finally:
        await desk.redis.config_set("maxmemory", "0")
    assert (await desk.store.resolve(demo, ask(20), far())).refused is None
    down, up = [record.message for record in caplog.records]
    assert re.fullmatch(r"the store( \(\S+\))? is unavailable: memory: .*", down)
    assert re.fullmatch(r"the store( \(\S+\))? answers again", up)


async def test_a_store_that_comes_and_goes_fills_no_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    await desk.load(DEMO)
    demo = await desk.account("demo")
    for i in range(20):
        await desk.redis.config_set("maxmemory", "1")
        assert (await desk.store.resolve(demo, ask(2 * i), far())).refused is Kind.STORE_UNAVAILABLE
        await desk.redis.config_set("maxmemory", "0")
        assert (await desk.store.resolve(demo, ask(2 * i + 1), far())).refused is None
    assert len(caplog.records) == 2 * 5
