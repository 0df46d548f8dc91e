"""How pools stand: by the store's count, in metrics, and as `pool status` shows it."""

import asyncio
import re
from typing import Any

import click.testing
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeproxy.accounts.account import PoolState
from edgeproxy.commands import main
from edgeproxy.store import keys
from edgeproxy.store import pools as pools_module
from edgeproxy.store.pools import Pools
from edgeproxy.telemetry import metrics
from edgeproxy.telemetry.metrics import POOLS_TOLD, pools_exposition
from tests.conftest import DEMO, Clock, Desk, serving

PAGE = "+493015981100"


def accounts(count: int = 1, /, **settings: str) -> str:
    """As many accounts, each with one pool of three numbers."""
    lines = ["accounts:"]
    for index in range(count):
        rules = "".join(f", {name}: {value}" for name, value in settings.items())
        first = 493_015_983_000 + 10 * index
        numbers = f"+{first}..+{first + 2}"
        lines.append(
            f"  a{index}: {{secrets: [s], region: DE, pools: {{p: {{replaces: all, numbers: [{numbers}]{rules}}}}}}}"
        )
    return "\n".join(lines)


def counts(state: PoolState) -> tuple[int, ...]:
    return state.free, state.leased, state.cooling


async def test_a_number_is_free_leased_or_cooling_at_every_moment(desk: Desk) -> None:
    await desk.load(accounts())
    pools = Pools(desk.store)

    async def seen() -> list[tuple[int, ...]]:
        return [counts(state) for state in await pools.states("a0")]

    assert await seen() == [(3, 0, 0)]
    await desk.ask("a0", PAGE)
    desk.clock.advance(1)
    await desk.ask("a0", PAGE)
    assert await seen() == [(1, 2, 0)]
    desk.clock.advance(1799 - 0.001)
    assert await seen() == [(1, 2, 0)]
    desk.clock.advance(0.001)  # nobody has put the first lease's number back
    assert await seen() == [(1, 1, 1)]
    desk.clock.advance(1)
    await desk.ask("a0", PAGE)  # and this one puts them back
    assert await seen() == [(0, 1, 2)]
    desk.clock.advance(900 - 1 - 0.001)
    assert await seen() == [(0, 1, 2)]
    desk.clock.advance(0.001)
    assert await seen() == [(1, 1, 1)]
    desk.clock.advance(1)
    assert await seen() == [(2, 1, 0)]
    desk.clock.advance(86_400)
    assert await seen() == [(3, 0, 0)]


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        ({}, "original"),
        ({"overflow": "shared", "shared_number": "+493015983009"}, "shared"),
        ({"overflow": "recycle"}, "recycled"),
    ],
)
async def test_what_finds_no_free_number_is_counted_for_an_hour(desk: Desk, settings: dict[str, str], how: str) -> None:
    await desk.load(accounts(**settings, cooldown="0", idle_ttl="24h"))
    pools = Pools(desk.store)

    async def overflowed() -> dict[str, int]:
        (state,) = await pools.states("a0")
        assert state.overflowed == state.original + state.shared + state.recycled
        return {name: count for name in ("original", "shared", "recycled") if (count := getattr(state, name))}

    desk.clock.now -= desk.clock.now % 3_600_000
    for _ in range(3):
        await desk.ask("a0", PAGE)
    await desk.ask("a0", PAGE, bare=True)
    assert not await desk.redis.exists(keys.overflow("a0"))  # while there are free ones nothing is written
    for _ in range(2):
        await desk.ask("a0", PAGE)
    assert await overflowed() == {how: 2}
    desk.clock.advance(3599)
    await desk.ask("a0", PAGE)
    assert await overflowed() == {how: 3}
    desk.clock.advance(301)
    assert await overflowed() == {how: 1}
    desk.clock.advance(3600)
    assert await overflowed() == {}
    assert 0 < await desk.redis.pttl(keys.overflow("a0")) <= 65 * 60_000
    for _ in range(100):  # whatever happens, a pool's entry stays small
        desk.clock.advance(301)
        await desk.ask("a0", PAGE)
    assert await desk.redis.hstrlen(keys.overflow("a0"), "p") < 13 * 20
    assert await overflowed() == {how: 13}


async def test_a_clock_that_was_ahead_leaves_no_counts_for_later(desk: Desk) -> None:
    await desk.load(accounts(idle_ttl="24h"))
    for _ in range(4):
        await desk.ask("a0", PAGE)
    desk.clock.advance(-86_400)
    await desk.ask("a0", PAGE)
    (state,) = await Pools(desk.store).states("a0")
    assert state.original == 1
    desk.clock.advance(86_400)
    assert (await Pools(desk.store).states("a0"))[0].original == 0


# Metrics --------------------------------------------------------------------------------------------------------------


LABELS = ("account", "pool", "state", "how")


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Samples about pools, by name, account, pool, and state or how."""
    return {
        (sample.name, *(sample.labels[name] for name in LABELS if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("edgeproxy_pool")
    }


async def test_metrics_name_account_and_pool(store_url: str, desk: Desk, clock: Clock) -> None:
    async with serving(store_url, clock=clock) as edge:
        for _ in range(3):
            await desk.ask("shared", "+442079460010")
        async with edge.client.get(f"{edge.manage}/metrics") as response:
            found = samples(await response.text())
    assert found["edgeproxy_pools",] == 4
    assert found["edgeproxy_pool_numbers", "demo", "berlin", "free"] == 40
    assert found["edgeproxy_pool_numbers", "shared", "london", "leased"] == 2
    assert found["edgeproxy_pool_numbers", "shared", "london", "free"] == 0
    assert found["edgeproxy_pool_overflowed", "shared", "london", "shared"] == 1
    assert found["edgeproxy_pool_overflowed", "tiny", "london", "original"] == 0


def test_so_many_pools_are_told_by_name_those_nearest_to_empty_first() -> None:
    many = [PoolState("a", f"p{index}", index, 1, 0, 0, 0, 0) for index in range(POOLS_TOLD + 1)]
    found = samples(pools_exposition(many[::-1]).decode())
    assert found["edgeproxy_pools",] == POOLS_TOLD + 1
    assert len(found) == 1 + 6 * POOLS_TOLD
    assert ("edgeproxy_pool_numbers", "a", f"p{POOLS_TOLD}", "free") not in found


async def test_the_pools_of_all_accounts_come_with_the_emptiest_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools_module, "_POOLS_AT_ONCE", 1)
    await desk.load(accounts(40))
    await desk.load(DEMO)
    for _ in range(5):
        await desk.ask("a7", PAGE)
    for _ in range(3):
        await desk.ask("a3", PAGE)
    await desk.ask("a20", PAGE)
    found = await Pools(desk.store).look()
    assert len(found) == 44
    monkeypatch.setattr(metrics, "POOLS_TOLD", 3)
    told = samples(pools_exposition(found).decode())
    assert {account for _, account, *rest in (key for key in told if len(key) > 1)} == {"a7", "a3", "a20"}


async def test_a_look_that_takes_too_long_is_gone_on_with_by_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools_module, "_ACCOUNTS_AT_ONCE", 4)
    monkeypatch.setattr(pools_module, "_FRESH_S", 0)
    monkeypatch.setattr(pools_module, "_LOOK_S", 0.3)
    await desk.load(accounts(10))
    pools, asked = Pools(desk.store), 0
    states = pools.states

    async def slow(name: str) -> list[PoolState]:
        nonlocal asked
        asked += 1
        if asked > 6:
            await asyncio.sleep(10)
        return await states(name)

    monkeypatch.setattr(pools, "states", slow)
    first = {state.account for state in await pools.look()}
    assert len(first) == 6
    asked = 0
    assert {f"a{index}" for index in range(10)} == {state.account for state in await pools.look()}


async def test_of_a_store_that_is_away_nothing_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_module, "_FRESH_S", 0)
    await desk.load(accounts())
    pools = Pools(desk.store)
    assert len(await pools.look()) == 1

    async def away(*_: Any) -> Any:
        raise ConnectionError("away")

    monkeypatch.setattr(desk.store.client(keys.ACCOUNTS), "smembers", away)
    assert not await pools.look()


# The command ----------------------------------------------------------------------------------------------------------


def run(url: str, *arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, arguments, env={"EDGEPROXY_STORE_URL": url})


def test_pool_status_shows_one_account_or_all(store_url: str) -> None:
    assert run(store_url, "load", str(DEMO)).exit_code == 0
    lines = [re.split(" +", line) for line in run(store_url, "pool", "status").stdout.splitlines()]
    assert lines[0] == ["account", "pool", "numbers", "free", "leased", "cooling", "original", "shared", "recycled"]
    assert [line[:2] for line in lines[1:]] == [
        ["demo", "berlin"], ["recycle", "london"], ["shared", "london"], ["tiny", "london"],
    ]  # fmt: skip
    one = run(store_url, "pool", "status", "tiny")
    assert re.split(" +", one.stdout.splitlines()[1]) == ["tiny", "london", "3", "3", "0", "0", "0", "0", "0"]
    assert len(one.stdout.splitlines()) == 2
    nobody = run(store_url, "pool", "status", "nobody")
    assert (nobody.exit_code, nobody.stderr) == (1, "there is no account nobody\n")
