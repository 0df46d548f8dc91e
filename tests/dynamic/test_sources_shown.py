"""Sources in `POST /api`: a page number that is a source's destination, without a pool, is replaced by its number."""

from typing import Any

from edgeproxy.store.partner import Partner, Record
from tests.conftest import Clock, Desk, serving, web_request

DAY = 86_400
ACCOUNT = """
accounts:
  x:
    secrets: [s]
    region: DE
    numbers: [+493015981300..+493015981304]
"""
POOL = "    pools: {p: {replaces: [+4930111], numbers: [+493015981400]}}\n"


async def shown(edge: Any, numbers: str, **changes: Any) -> tuple[int, dict[str, str]]:
    status, answer, _ = await edge.post(web_request(advId="x", numbers=numbers, **changes), "s")
    entries = answer.get("numbers", [])
    return status, {entry["number_on_page"]: entry["replace_with"]["e164"] for entry in entries}


async def source(desk: Desk, **fields: str | None) -> Record:
    account, partner = await desk.account("x"), Partner(desk.store, None)
    if await partner.get(account, "customers", "1") is None:
        await partner.create_customer(account, {"name": "c", "custnr": "1"})
    record: Record = {"customer_id": "1", "name": "s", "timestamp": None, **fields}
    return await partner.create_source(account, record, "")


async def test_a_source_s_number_replaces_its_destination(store_url: str, desk: Desk, clock: Clock) -> None:
    async with serving(store_url, clock=clock) as edge:
        await desk.load(ACCOUNT)
        assert await shown(edge, "030 222") == (501, {})
        first = await source(desk, destnr="+4930222")
        second = await source(desk, destnr="+4930222")
        assert await shown(edge, "030 2 22, 030 333") == (200, {"030 2 22": first["phonenr"]})
        await Partner(desk.store, None).change_source(await desk.account("x"), str(first["source_id"]), "delete", {})
        assert await shown(edge, "030 2 22") == (200, {"030 2 22": second["phonenr"]})


async def test_a_pool_comes_before_a_source(store_url: str, desk: Desk, clock: Clock) -> None:
    async with serving(store_url, clock=clock) as edge:
        await desk.load(ACCOUNT + POOL)
        await source(desk, destnr="+4930111")
        made = await source(desk, destnr="+4930222")
        both = {"030 111": "+493015981400", "030 222": made["phonenr"]}
        _, answer, _ = await edge.post(web_request(advId="x", numbers="030 111,030 222"), "s")
        assert {n["number_on_page"]: n["replace_with"]["e164"] for n in answer["numbers"]} == both
        assert await shown(edge, "030 222,030 111", sessionId=answer["sessionId"]) == (200, both)
        (entry,) = await desk.redis.xrevrange("ep1:{x}:visits", count=1)
        assert f'"+4930222":["{made["phonenr"]}","source"]' in entry[1]["visits"]
        assert edge.board.total("event:source") == 2
        # The pool is empty: its page stays as it is, the source's number is shown to everybody.
        assert await shown(edge, "030 111,030 222") == (200, {"030 222": made["phonenr"]})


async def test_a_source_serves_to_the_millisecond_whether_or_not_anybody_looks(
    store_url: str, desk: Desk, clock: Clock
) -> None:
    async with serving(store_url, clock=clock) as edge:
        await desk.load(ACCOUNT)
        start, end = clock.now + DAY * 1000, clock.now + 2 * DAY * 1000
        made = await source(desk, destnr="+4930222", timestamp=str(start), expire=str(end))
        for now, there in ((start - 1, False), (start, True), (end - 1, True), (end, False)):
            clock.now = now
            expected = {"030 222": made["phonenr"]} if there else {}
            assert await shown(edge, "030 222") == (200, expected)


async def test_crawlers_and_dry_runs_are_shown_sources_too(store_url: str, desk: Desk, clock: Clock) -> None:
    async with serving(store_url, clock=clock) as edge:
        await desk.load(ACCOUNT)
        made = await source(desk, destnr="+4930222")
        assert await shown(edge, "030 222", dryRun=True) == (200, {"030 222": made["phonenr"]})
        assert not await desk.redis.exists("ep1:{x}:visits")


async def test_a_destination_with_many_sources_that_do_not_serve_yet(store_url: str, desk: Desk, clock: Clock) -> None:
    async with serving(store_url, clock=clock) as edge:
        await desk.load(ACCOUNT)
        later = str(clock.now + 1000)
        waiting = [await source(desk, destnr="+4930222", timestamp=later) for _ in range(4)]
        assert await shown(edge, "030 222") == (200, {})
        serves = await source(desk, destnr="+4930222")
        assert await shown(edge, "030 222") == (200, {"030 222": serves["phonenr"]})
        clock.advance(1)
        assert await shown(edge, "030 222") == (200, {"030 222": waiting[0]["phonenr"]})
