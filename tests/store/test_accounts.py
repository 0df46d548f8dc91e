"""Account files brought into the store: what changes, when gateways see it, and who owns a number."""

import asyncio
import hashlib
import time
from typing import Any

import orjson
import pytest

from edgeproxy.accounts import file as account_file
from edgeproxy.errors import PartlyDoneError, StoreError
from edgeproxy.store import Store, inventory, keys
from edgeproxy.store.facts import facts_of
from edgeproxy.store.lua_libraries import libraries
from edgeproxy.store.numbers import StaticNumbers
from tests.conftest import DEMO, Desk, far
from tests.servers import admin_url, on_primaries

PAGE = "+493015981100"


def accounts(**pools: str) -> str:
    lines = ["accounts:", "  x:", "    secrets: [first]", "    region: DE", "    pools:"]
    return "\n".join([*lines, *(f"      {name}: {{replaces: all, numbers: {of}}}" for name, of in pools.items())])


async def inventory_of(desk: Desk, account: str) -> dict[str, str]:
    held: dict[str, str] = await desk.redis.hgetall(keys.numbers(account))
    return held


async def test_loading_is_idempotent(desk: Desk) -> None:
    assert [change.account for change in await desk.load(DEMO)] == ["demo", "tiny", "shared", "recycle"]
    assert await desk.load(DEMO) == []
    assert (await desk.account("demo")).version == 1
    assert await desk.redis.zcard(keys.pool("demo", "berlin")[0]) == 40


async def test_a_setting_that_an_earlier_release_did_not_know_is_no_change(desk: Desk) -> None:
    text = accounts(p="[+493015981151]")
    await desk.load(text)
    config = orjson.loads(await desk.redis.hget(keys.account("x"), "config"))
    del config["crawlers"]
    await desk.redis.hset(keys.account("x"), "config", orjson.dumps(config))
    desk.store.forget("x")
    assert (await desk.account("x")).crawlers == ()
    assert await desk.load(text) == []
    (change,) = await desk.load(text.replace("region: DE", "region: DE\n    crawlers: {add: [monitor]}"))
    assert change.names() == ["crawlers"]


async def test_what_changes_is_told_without_secrets(desk: Desk) -> None:
    await desk.load(accounts(p="[+493015981151..+493015981155]", q="[+493015981160]"))
    (change,) = await desk.load(
        accounts(p="[+493015981153..+493015981157]", r="[+493015981160]")
        .replace("[first]", "[hunter2, first]")
        .replace("region: DE", "region: DE\n    points: {daily: 7}")
    )
    assert change.lines == (
        "secrets change",
        "points_daily: 1000000 → 7",
        "pool p: +2 numbers, −2 numbers, their leases end",
        "pool q: is removed, −1 numbers, their leases end",
        "pool r: is created, +1 numbers",
    )
    assert "hunter2" not in repr(change)
    assert await inventory_of(desk, "x") == {
        **{f"+4930159811{n}": "pool:p" for n in range(53, 58)},
        "+493015981160": "pool:r",
    }


async def test_a_lease_outlives_a_change_that_leaves_its_number(desk: Desk) -> None:
    await desk.load(accounts(p="[+493015981151, +493015981152]"))
    first, second = await desk.ask("x", PAGE), await desk.ask("x", PAGE)
    await desk.load(accounts(p="[+493015981152, +493015981153]"))
    desk.store.forget("x")
    assert (await desk.ask("x", PAGE, second.session_id)).numbers == ["+493015981152"]
    moved = await desk.ask("x", PAGE, first.session_id)
    assert (moved.session_id, moved.numbers) == (first.session_id, ["+493015981153"])


async def test_a_number_that_changes_pools_keeps_its_cooldown(desk: Desk) -> None:
    desk.clock.now = int(time.time() * 1000)  # saving goes by the store's own time
    await desk.load(accounts(p="[+493015981151, +493015981152]"))
    await desk.ask("x", PAGE)
    await desk.load(accounts(q="[+493015981151, +493015981152]"))
    desk.store.forget("x")
    assert [(await desk.ask("x", PAGE)).numbers[0] for _ in range(2)] == ["+493015981152", False]
    desk.clock.advance(905)
    assert (await desk.ask("x", PAGE)).numbers == ["+493015981151"]


ONE, OTHER = "+493015981151", "+493015981161"
PLACES = ("a pool", "another pool", "no pool", "another account", "another account's free numbers")


def placed(place: str | None) -> str:
    """Two accounts, with the number ONE in that place, or nowhere."""
    pools = {"x": {"p": [OTHER], "q": ["+493015981162"]}, "y": {"p": ["+493015981163"]}}
    loose: dict[str, list[str]] = {"x": [], "y": []}
    match place:
        case "a pool":
            pools["x"]["p"] = [ONE]
        case "another pool":
            pools["x"]["q"] = [ONE]
        case "no pool":
            loose["x"] = [ONE]
        case "another account":
            pools["y"]["p"] = [ONE]
        case "another account's free numbers":
            loose["y"] = [ONE]
    tree = {
        name: {"secrets": ["s"], "region": "DE", "numbers": loose[name]}
        | {"pools": {pool: {"replaces": "all", "numbers": of} for pool, of in pools[name].items()}}
        for name in pools
    }
    return orjson.dumps({"accounts": tree}).decode()


@pytest.mark.parametrize("ended_s", [0, 600], ids=["leased", "cooling down"])
@pytest.mark.parametrize(
    ("between", "place"),
    [
        (between, place)
        for between in ([], [None], ["no pool"], [None, "no pool", None])
        for place in PLACES
        if between or place != "a pool"
    ],
    ids=str,
)
async def test_a_number_keeps_its_cooldown_wherever_it_goes(
    desk: Desk, ended_s: int, between: list[str | None], place: str
) -> None:
    await desk.load(placed("a pool"))
    await desk.ask("x", PAGE)
    desk.clock.advance(30 * 60 + ended_s if ended_s else 60)
    ready = desk.clock.now + (15 * 60 - ended_s) * 1000
    for at in [*between, place]:
        await desk.load(placed(at))
    name, pool = ("y", "p") if "account" in place else ("x", {"a pool": "p"}.get(place, "q"))
    free = keys.free(name) if "no pool" in place or "free" in place else keys.pool(name, pool)[0]
    assert await desk.redis.zscore(free, ONE) == ready
    if await desk.redis.exists(keys.LEFT):
        assert 0 < await desk.redis.pttl(keys.LEFT) <= 15 * 60_000


async def test_accounts_that_exchange_numbers_keep_their_cooldowns(desk: Desk) -> None:
    two = "accounts: {%s: {secrets: [s], region: DE, pools: {p: {replaces: all, numbers: [%s], cooldown: %s}}},"
    two += " %s: {secrets: [s], region: DE, pools: {p: {replaces: all, numbers: [%s], cooldown: %s}}}}"
    await desk.load(two % ("a", ONE, "5m", "b", OTHER, "10m"))
    await desk.ask("a", PAGE)
    await desk.ask("b", PAGE)
    await desk.load(two % ("a", OTHER, "5m", "b", ONE, "10m"))
    for name in "ab":
        desk.store.forget(name)
    assert await desk.redis.zscore(keys.pool("a", "p")[0], OTHER) == desk.clock.now + 600_000
    assert await desk.redis.zscore(keys.pool("b", "p")[0], ONE) == desk.clock.now + 300_000
    assert (await desk.ask("a", PAGE)).numbers == (await desk.ask("b", PAGE)).numbers == [False]
    desk.clock.advance(300)
    assert (await desk.ask("b", PAGE)).numbers == [ONE]
    assert (await desk.ask("a", PAGE)).numbers == [False]


async def test_cooldowns_of_numbers_that_left_are_kept_no_longer_than_they_last(desk: Desk) -> None:
    await desk.load(placed("a pool"))
    await desk.ask("x", PAGE)
    await desk.load(placed(None))
    assert await desk.redis.zrange(keys.LEFT, 0, -1) == [ONE]
    desk.clock.advance(900)
    await desk.load(placed("another account"))
    await desk.load(placed(None))
    assert not await desk.redis.exists(keys.LEFT)


async def test_a_changed_account_is_seen_by_the_next_batch(desk: Desk) -> None:
    await desk.load(accounts(p="[+493015981151]"))
    before = await desk.account("x")
    await desk.load(accounts(p="[+493015981151]").replace("first", "second"))
    assert (await desk.ask(before, PAGE)).moved
    desk.store.forget("x")
    assert (await desk.account("x")).secrets == (b"second",)


def followers(client: Any) -> list[Any]:
    return [pair for reply in on_primaries(client, "PUBSUB NUMSUB", keys.CHANGED) for pair in reply]


async def test_gateways_are_told_at_once(desk: Desk, store_url: str) -> None:
    async with Store(store_url) as other:
        await desk.load(accounts(p="[+493015981151]"))
        async with asyncio.timeout(5):
            with desk.servers() as client:
                while sum(int(found[1]) for found in followers(client)) < 2:  # both stores follow
                    await asyncio.sleep(0.01)
            assert await other.account("x", far()) is not None
            await desk.load(accounts(p="[+493015981151]").replace("first", "second"))
            while other.known_account("x"):
                await asyncio.sleep(0.005)
            assert await other.account("demo", far()) is None
            await desk.load(accounts(p="[+493015981152]").replace("x:", "demo:"))
            while await other.account("demo", far()) is None:
                await asyncio.sleep(0.005)


async def test_an_empty_store_is_a_store_that_lost_its_data(desk: Desk) -> None:
    with pytest.raises(Exception, match="STORE_UNAVAILABLE"):
        await desk.store.account("demo", far())


async def test_a_number_belongs_to_one_account(desk: Desk) -> None:
    await desk.load(DEMO)
    with pytest.raises(StoreError, match=r"\+493015981151 belongs to account demo"):
        await desk.load(accounts(p="[+493015981151, +493015981191]"))
    assert await desk.store.account("x", far()) is None
    assert await desk.redis.hget(keys.OWNERS, "+493015981191") is None
    await desk.load(accounts(p="[+493015981191]"))
    await desk.load(accounts(p="[+493015981192]"))
    assert await desk.redis.hget(keys.OWNERS, "+493015981191") is None


async def test_a_number_moves_between_accounts_in_one_load(desk: Desk) -> None:
    two = "accounts: {%s: {secrets: [s], region: DE, pools: {p: {replaces: all, numbers: [%s]}}},"
    two += " %s: {secrets: [s], region: DE, pools: {p: {replaces: all, numbers: [%s]}}}}"
    await desk.load(two % ("a", "+493015981151", "b", "+493015981152"))
    await desk.load(two % ("a", "+493015981152", "b", "+493015981151"))
    assert await inventory_of(desk, "a") == {"+493015981152": "pool:p"}
    assert await desk.redis.hgetall(keys.OWNERS) == {"+493015981151": "b", "+493015981152": "a"}


async def test_a_load_that_ends_half_way_tells_what_it_changed_and_gives_up_what_that_no_longer_has(desk: Desk) -> None:
    if not desk.store.servers.spread:
        pytest.skip("on one server, a load changes all accounts or none")
    first, second = "+4930159811", "+4930159812"
    one = "{secrets: [s], region: DE, numbers: [%s]}"
    two = f"accounts: {{first: {one}, second: {one}}}"
    await desk.load(two % (f"{first}51, {first}52", f"{second}51, {second}52"))
    changes = await inventory.compare(desk.store, account_file.parse((two % (f"{first}52", f"{second}52")).encode()))
    await StaticNumbers(desk.store, None).change(await desk.account("second"), "create", f"{second}51", {})
    with pytest.raises(PartlyDoneError, match=r"second was changed .* \(changed before that: first\)"):
        await inventory.apply(desk.store, changes)
    assert await inventory_of(desk, "first") == {f"{first}52": "free"}
    assert await inventory_of(desk, "second") == {f"{second}51": "static", f"{second}52": "free"}
    with pytest.raises(StoreError, match="belongs to account second"):
        await desk.load(accounts(p=f"[{second}51]"))
    await desk.load(accounts(p=f"[{first}51]"))
    assert await inventory_of(desk, "x") == {f"{first}51": "pool:p"}


async def test_of_two_writers_one_is_refused_and_nothing_is_lost(desk: Desk) -> None:
    file = account_file.parse(accounts(p="[+493015981151]").encode())
    other = account_file.parse(accounts(p="[+493015981152]").encode())
    first, second = await inventory.compare(desk.store, file), await inventory.compare(desk.store, other)
    await inventory.apply(desk.store, first)
    with pytest.raises(StoreError, match="load again"):
        await inventory.apply(desk.store, second)
    assert await inventory_of(desk, "x") == {"+493015981151": "pool:p"}
    assert await desk.redis.hgetall(keys.OWNERS) == {"+493015981151": "x"}


async def test_functions_of_another_release_stand_beside_ours(desk: Desk) -> None:
    await desk.load(DEMO)
    other = "#!lua name=ep1_resolve_0\nredis.register_function('ep1_resolve_0', function() return 'x' end)"
    with desk.servers() as client:
        on_primaries(client, "FUNCTION LOAD", other)
        on_primaries(client, "FUNCTION DELETE", libraries()[0].name)
    for facts in await facts_of(desk.store.servers):
        assert facts.functions == {library.name: library is not libraries()[0] for library in libraries()}
        assert facts.others == ("ep1_resolve_0",)
    await desk.store.load_functions()
    for facts in await facts_of(desk.store.servers):
        assert (all(facts.functions.values()), facts.others) == (True, ("ep1_resolve_0",))
    async with Store(admin_url(desk.store._url)) as owner:  # of a store that no other release uses
        await owner.load_functions(alone=True)
    for facts in await facts_of(desk.store.servers):
        assert (all(facts.functions.values()), facts.others) == (True, ())


def test_a_librarys_name_changes_with_its_code() -> None:
    for library in libraries():
        text = library.code.partition("\n")[2]
        for function, name in library.functions.items():
            for before in ("register_function('", "{function_name = '"):
                text = text.replace(f"{before}{name}'", f"{before}{function}'")
        version = hashlib.sha256(text.encode()).hexdigest()[:8]
        assert library.name == f"ep1_{library.subject}_{version}"
        assert set(library.functions.values()) == {f"{function}_{version}" for function in library.functions}
