"""Accounts listed, shown and removed, with all that they have; and what loads that were cut off leave behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import click.testing
import pytest

from edgeproxy.accounts import file as account_file
from edgeproxy.commands import main
from edgeproxy.errors import PartlyDoneError, StoreError
from edgeproxy.store import Store, holdings, inventory, keys, leftovers, removal
from edgeproxy.store.inventory import cluster, one_server, saving
from edgeproxy.store.numbers import StaticNumbers
from edgeproxy.store.partner import Partner
from edgeproxy.store.users import User, Users
from tests.conftest import BROWSER, DEMO, Clock, Desk, Edge, serving, web_request
from tests.servers import client_of

LOGIN = {"Access-Token": "x-token-x"}
PAGE = "+4930111"
POOLED = [f"+4930159814{last:02}" for last in range(10)]
ACCOUNT = """
accounts:
  x:
    secrets: [hunter2]
    region: DE
    numbers: [+493015981300..+493015981304]
    static: {site: "1", tokens: [x-token-x]}
    pools:
      p: {replaces: [+4930111], numbers: [+493015981400..+493015981409]}
      few: {replaces: [+4930222], numbers: [+493015981410], overflow: shared, shared_number: +493015981419}
"""


@pytest.fixture(autouse=True)
def _no_last_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_LAST_REQUESTS_S", 0)


@pytest.fixture
async def edge(store_url: str, clock: Clock, desk: Desk) -> AsyncIterator[Edge]:
    """A gateway with an account x that has one of everything, beside the demo's accounts."""
    async with serving(store_url, clock=clock) as edge:
        await desk.load(ACCOUNT)
        for browser in (BROWSER, f"{BROWSER} 2"):
            await visit(edge, browser)
        account, partner = await desk.account("x"), Partner(desk.store, None)
        await Users(desk.store).save("ann", User("x", {"MD5": "0"}))
        await Users(desk.store).save("bob", User("demo", {"MD5": "0"}))
        customer = str((await partner.create_customer(account, {"name": "a", "custnr": "1"}))["customer_id"])
        for number in ("+493015981300", "+493015981301"):
            source = {"customer_id": customer, "name": "s", "timestamp": None, "destnr": "+4930123"}
            made = await partner.create_source(account, source, number)
        await partner.change_source(account, str(made["source_id"]), "delete", {})
        await StaticNumbers(desk.store, None).change(account, "create", "+493015981302", {})
        for event in ("started", "ended"):
            body = {"call_id": "c1", "event": event, "number": POOLED[0], "caller": "+4917012345678"}
            async with edge.client.post(f"{edge.manage}/calls", json=body, headers=LOGIN) as response:
                assert response.status == 200
        yield edge


async def visit(edge: Edge, browser: str = BROWSER) -> tuple[int, Any]:
    request = web_request(advId="x", numbers=f"{PAGE},+4930222", trackingId="her-id", userAgent=browser)
    status, answer, _ = await edge.post(request, "hunter2")
    return status, answer


async def everything(desk: Desk) -> list[str]:
    """All keys, and all fields and values of hashes and members of sets, of the whole store."""
    found: list[bytes] = []
    with client_of(desk.store._url, decoded=False) as client:
        for key in client.scan_iter(count=1000):
            found.append(key)
            match client.type(key):
                case b"hash":
                    found += [text for pair in client.hgetall(key).items() for text in pair]
                case b"set":
                    found += client.smembers(key)
    return [text.decode(errors="replace") for text in found]


# Removing -------------------------------------------------------------------------------------------------------------


async def test_with_an_account_all_that_it_has_goes_and_nothing_of_others(edge: Edge, desk: Desk) -> None:
    before = await everything(desk)
    assert any("{x}" in text for text in before)
    found = await holdings.holdings(desk.store, "x")
    assert found.numbers == {
        "free": 2, "pool few": 1, "pool p": 10, "quarantined": 1, "source": 1, "static": 1,
    }  # fmt: skip
    assert (found.claimed, found.tokens, found.users, found.secrets) == (17, 1, ("ann",), 1)
    assert (found.customers, found.sources, found.calls, found.leases) == (1, 2, 1, 3)
    assert "hunter2" not in repr(found)
    assert await removal.remove(desk.store, found) > 10
    after = await everything(desk)
    assert [text for text in after if "{x}" in text or text in ("x", "ann")] == []
    assert '"account":"x"' not in " ".join(after)
    theirs = [text for text in before if "{x}" not in text and text != "x"]
    assert {text for text in theirs if text.startswith("ep1:{")} <= set(after)
    assert (await desk.redis.hkeys(keys.USERS), await desk.redis.scard(keys.ACCOUNTS)) == (["bob"], 4)
    status, answer = await visit(edge)
    assert (status, answer["error"]) == (403, "Invalid signature")
    async with edge.client.get(f"{edge.manage}/calls/lookup?number=%2B493015981400", headers=LOGIN) as response:
        assert response.status == 401
    assert not await holdings.holdings(desk.store, "x")


async def test_numbers_of_a_removed_account_rest_as_they_would_have(edge: Edge, desk: Desk) -> None:
    await removal.remove(desk.store, await holdings.holdings(desk.store, "x"))
    numbers = "+493015981300..+493015981304, +493015981400..+493015981410, +493015981419"
    await desk.load(f"accounts: {{y: {{secrets: [s], region: DE, numbers: [{numbers}], quarantine: 60d}}}}")
    ready = {
        str(number): round((at - desk.clock.now) / 60_000)
        for number, at in await desk.redis.zrange(keys.free("y"), 0, -1, withscores=True)
        if at > desk.clock.now
    }
    assert ready == {
        POOLED[0]: 15, POOLED[1]: 15, "+493015981410": 15, "+493015981300": 60 * 1440, "+493015981301": 60 * 1440,
    }  # fmt: skip


async def test_a_removal_that_was_cut_off_goes_on_and_nothing_is_loaded_in_between(
    edge: Edge, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(*_: object) -> int:
        raise ConnectionError("cut off")

    with monkeypatch.context() as context:
        context.setattr(removal, "_unlink", cut_off)
        with pytest.raises(ConnectionError):
            await removal.remove(desk.store, await holdings.holdings(desk.store, "x"))
    assert (await visit(edge))[0] == 403
    with pytest.raises(StoreError, match="x is being removed"):
        await desk.load(ACCOUNT)
    with pytest.raises(StoreError, match=r"\+493015981400 belongs to account x"):
        await desk.load("accounts: {y: {secrets: [s], region: DE, numbers: [+493015981400]}}")
    assert [entry.state for entry in await holdings.entries(desk.store) if entry.account == "x"] == ["removed"]
    assert (await leftovers.find(desk.store)).removals == ["x"]
    found = await holdings.holdings(desk.store, "x")
    assert (found.state, found.users) == ("removed", ())
    await removal.remove(desk.store, found)
    assert [text for text in await everything(desk) if "{x}" in text or text == "x"] == []
    await desk.load(ACCOUNT)
    assert (await visit(edge))[0] == 200


async def test_a_load_that_compared_before_a_removal_is_refused(desk: Desk) -> None:
    await desk.load(ACCOUNT)
    file = account_file.parse(ACCOUNT.replace("region: DE", "region: GB").encode())
    changes = await inventory.compare(desk.store, file)
    found = await holdings.holdings(desk.store, "x")
    await desk.load(ACCOUNT.replace("hunter2", "hunter3"))
    with pytest.raises(StoreError, match="x was changed by somebody else"):
        await removal.remove(desk.store, found)
    await removal.remove(desk.store, await holdings.holdings(desk.store, "x"))
    with pytest.raises(StoreError, match="x was changed by somebody else"):
        await inventory.apply(desk.store, changes)
    assert await desk.redis.hlen(keys.OWNERS) == 0


async def test_a_load_that_knew_of_no_account_is_refused_while_one_is_removed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(*_: object) -> int:
        raise ConnectionError("cut off")

    changes = await inventory.compare(desk.store, account_file.parse(ACCOUNT.encode()))
    await desk.load(ACCOUNT)
    with monkeypatch.context() as context:
        context.setattr(removal, "_unlink", cut_off)
        with pytest.raises(ConnectionError):
            await removal.remove(desk.store, await holdings.holdings(desk.store, "x"))
    with pytest.raises(StoreError, match="x was changed by somebody else"):
        await inventory.apply(desk.store, changes)
    assert (await holdings.holdings(desk.store, "x")).version == ""


async def test_what_goes_on_writing_to_an_account_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.load(ACCOUNT)
    monkeypatch.setattr(removal, "_PASSES_MOST", 3)
    unlink = removal._unlink

    async def written_to(store: Store, name: str) -> int:
        await store.client(keys.account(name)).hset(keys.points(name), "day", "1")
        return await unlink(store, name)

    with monkeypatch.context() as context:
        context.setattr(removal, "_unlink", written_to)
        with pytest.raises(PartlyDoneError, match="remove it again"):
            await removal.remove(desk.store, await holdings.holdings(desk.store, "x"))
    await removal.remove(desk.store, await holdings.holdings(desk.store, "x"))


async def test_large_accounts_go_in_pieces(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_SOME", 7)
    monkeypatch.setattr(leftovers, "_SOME", 7)
    await desk.load(
        ACCOUNT.replace("+493015981409", "+493015981408").replace("1300..+493015981304", "2000..+493015982999")
    )
    await asyncio.gather(*(desk.ask("x", PAGE, visitor=f"v{index}") for index in range(40)))
    await removal.remove(desk.store, await holdings.holdings(desk.store, "x"))
    assert [text for text in await everything(desk) if "{x}" in text or text == "x"] == []
    assert await desk.redis.zcard(keys.LEFT) == 9


# What loads leave -----------------------------------------------------------------------------------------------------


async def cut_off(desk: Desk, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Load, and fail between the claim and what is to follow."""

    async def fails(*_: object) -> None:
        raise ConnectionError("cut off")

    with monkeypatch.context() as context:
        for way in (one_server, cluster):
            context.setattr(way, "save", fails)
        with pytest.raises(ConnectionError):
            await desk.load(text)


async def test_numbers_that_a_load_claimed_before_it_was_cut_off_are_free_for_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.load(DEMO)
    await cut_off(desk, monkeypatch, ACCOUNT)
    assert await desk.redis.hget(keys.OWNERS, POOLED[0]) == "x"
    await desk.load(f"accounts: {{y: {{secrets: [s], region: DE, numbers: [{POOLED[0]}]}}}}")
    assert await desk.redis.hget(keys.OWNERS, POOLED[0]) == "y"
    with pytest.raises(StoreError, match="belongs to account y"):
        await desk.load(ACCOUNT)
    await desk.load(ACCOUNT.replace("+493015981400..", "+493015981401.."))


async def test_leftovers_are_found_and_freed_and_nothing_that_is_used(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.load(DEMO)
    await desk.load(ACCOUNT)
    before = await everything(desk)
    assert not await leftovers.find(desk.store)
    await cut_off(desk, monkeypatch, ACCOUNT.replace("+493015981409", "+493015981408").replace("1300", "1299"))
    await cut_off(desk, monkeypatch, "accounts: {z: {secrets: [s], region: DE, numbers: [+493015981500]}}")
    await desk.redis.hset(keys.TOKENS, "0" * 64, "x")
    await desk.redis.sadd(keys.ACCOUNTS, "z")
    found = await leftovers.find(desk.store)
    assert (found.numbers, found.names) == ({"x": ["+493015981299"], "z": ["+493015981500"]}, ["z"])
    assert list(found.tokens) == ["0" * 64]
    assert "0000" not in repr(found)
    await leftovers.free(desk.store, found)
    assert sorted(await everything(desk)) == sorted(before)
    assert not await leftovers.find(desk.store)


async def test_a_load_whose_claims_were_freed_meanwhile_changes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = saving.check_claims

    async def freed(client: Any, change: inventory.Change) -> None:
        await leftovers.free(desk.store, await leftovers.find(desk.store))
        await check(client, change)

    with monkeypatch.context() as context:
        context.setattr(saving, "check_claims", freed)
        with pytest.raises(StoreError, match="load again"):
            await desk.load(ACCOUNT)
    assert await everything(desk) == []
    await desk.load(ACCOUNT)


async def test_loads_of_many_accounts_at_once_do_not_stop_one_another(desk: Desk) -> None:
    file = "accounts: {a%d: {secrets: [s], region: DE, numbers: [+4930159815%02d]}}"
    await asyncio.gather(*(desk.load(file % (index, index)) for index in range(10)))
    assert await desk.redis.scard(keys.ACCOUNTS) == 10


# The commands ---------------------------------------------------------------------------------------------------------


def run(url: str, *arguments: str, said: str = "") -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, arguments, env={"EDGEPROXY_STORE_URL": url}, input=said)


def audits(result: click.testing.Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]


def test_accounts_are_listed_and_shown_without_secrets(store_url: str) -> None:
    assert run(store_url, "account", "list").stdout == ""
    assert run(store_url, "load", str(DEMO)).exit_code == 0
    assert run(store_url, "user", "add", "ann", "--account", "demo", said="a-password\n").exit_code == 0
    assert run(store_url, "account", "list").stdout.splitlines() == [
        "demo: 1 pool, 60 numbers, 1 user",
        "recycle: 1 pool, 2 numbers, 0 users",
        "shared: 1 pool, 2 numbers, 0 users",
        "tiny: 1 pool, 3 numbers, 0 users",
    ]
    shown = run(store_url, "account", "show", "demo").stdout
    for line in (
        "version: 1", "secrets: 1", "region: DE", "pools.berlin.cooldown_ms: 900000",
        "pool berlin numbers: 40", "free numbers: 20", "users of the partner API: 1", "access tokens: 1",
    ):  # fmt: skip
        assert line in shown.splitlines()
    assert "freespee" not in shown
    for name in ("nobody", "*", "a b"):
        result = run(store_url, "account", "show", name)
        assert (result.exit_code, result.stderr) == (1, f"there is no account {name}\n")


def test_an_account_is_removed_only_when_its_name_is_typed(store_url: str) -> None:
    assert run(store_url, "load", str(DEMO)).exit_code == 0
    for said in ("", "tiny\n", "y\n"):
        result = run(store_url, "account", "remove", "demo", said=said)
        assert result.exit_code == 1
        assert "pool berlin numbers: 40" in result.stdout
        assert audits(result) == []
    result = run(store_url, "account", "remove", "demo", said="demo\n")
    assert result.exit_code == 0, result.output
    (line,) = audits(result)
    assert (line["audit"], line["account"], line["ended"]) == ("accounts.remove", "demo", "done")
    assert "demo is removed: " in result.stdout
    assert run(store_url, "account", "remove", "tiny", "--yes").exit_code == 0
    result = run(store_url, "account", "remove", "tiny", "--yes")
    assert (result.exit_code, result.stderr) == (1, "there is no account tiny\n")
    with client_of(store_url) as client:
        assert [key for key in client.scan_iter() if "demo" in key or "tiny" in key] == []


def test_check_tells_what_loads_left_and_repair_frees_it(store_url: str) -> None:
    assert run(store_url, "load", str(DEMO)).exit_code == 0
    assert run(store_url, "check").exit_code == 0
    with client_of(store_url) as client:
        client.hset(keys.OWNERS, mapping={"+493015981500": "demo", "+493015981501": "gone"})
        result = run(store_url, "check")
        assert result.exit_code == 1
        assert "2 numbers are claimed for accounts that do not use them" in result.stdout
        assert audits(result) == []
        result = run(store_url, "check", "--repair")
        assert result.exit_code == 0, result.output
        (line,) = audits(result)
        assert (line["audit"], line["account"], line["ended"]) == ("claims.free", "demo,gone", "done")
        assert client.hmget(keys.OWNERS, "+493015981500", "+493015981501", "+493015981151") == [None, None, "demo"]
    result = run(store_url, "check", "--repair")
    assert (result.exit_code, audits(result)) == (0, [])


def test_check_tells_of_removals_that_were_cut_off(store_url: str) -> None:
    assert run(store_url, "load", str(DEMO)).exit_code == 0
    with client_of(store_url) as client:
        client.hdel(keys.account("tiny"), "version")
        client.hset(keys.account("tiny"), "removed", "1")
    for arguments in (("check",), ("check", "--repair")):
        result = run(store_url, *arguments)
        assert result.exit_code == 1
        assert "account tiny: its removal was cut off (edgeproxy account remove tiny)" in result.stdout
        assert audits(result) == []
    assert "its removal, or its first load, was cut off" in run(store_url, "account", "list").stdout
    assert "london" not in run(store_url, "pool", "status", "tiny").stdout
    assert run(store_url, "account", "remove", "tiny", "--yes").exit_code == 0
    assert run(store_url, "check").exit_code == 0
