"""Calls over HTTP: who was shown a number, where a call goes, what its record says, and what is forgotten."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from edgeproxy.store import Ask, keys
from edgeproxy.store.partner import Partner, Record
from tests.conftest import Clock, Desk, Edge, far, serving, web_request
from tests.servers import configured

LOGIN = {"Access-Token": "x-token-x"}
PAGE, SHARED_PAGE = "+4930111", "+4930222"
NUMBER = "+493015981400"
ACCOUNT = """
accounts:
  x:
    secrets: [s]
    region: DE
    numbers: [+493015981300..+493015981304]
    static: {site: "1", tokens: [x-token-x]}
    pools:
      p: {replaces: [+4930111], numbers: [+493015981400], on_call: %s}
      few: {replaces: [+4930222], numbers: [+493015981410], overflow: shared, shared_number: +493015981419}
"""


@dataclass
class Api:
    """The calls API of account x."""

    edge: Edge
    clock: Clock

    async def send(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else None
        async with self.edge.client.request(
            method, self.edge.manage + target, data=raw, headers=LOGIN if headers is None else headers
        ) as response:
            return response.status, orjson.loads(await response.read())

    async def lookup(self, number: str, at: str = "") -> Any:
        query = f"?number={number.replace('+', '%2B')}" + (f"&at={at}" if at else "")
        status, tree = await self.send("GET", "/calls/lookup" + query)
        assert status == 200, tree
        return tree

    async def event(self, call_id: str, event: str, **fields: Any) -> Any:
        status, tree = await self.send("POST", "/calls", {"call_id": call_id, "event": event, **fields})
        assert status == 200, tree
        return tree

    async def visit(self, numbers: str = PAGE, **changes: Any) -> str:
        _, answer, _ = await self.edge.post(web_request(advId="x", numbers=numbers, **changes), "s")
        return str(answer["sessionId"])


@pytest.fixture
async def api(store_url: str, clock: Clock, desk: Desk) -> AsyncIterator[Api]:
    async with serving(store_url, clock=clock) as edge:
        with configured(store_url, appendfsync="always"):
            await desk.load(ACCOUNT % "keep")
            yield Api(edge, clock)


async def cdrs(desk: Desk) -> list[Record]:
    account = await desk.account("x")
    found = await Partner(desk.store, None).cdrs(
        account, {}, from_ms=None, to_ms=None, skip=0, most=1000, newest_first=False
    )
    return found.records


# Lookup ---------------------------------------------------------------------------------------------------------------


async def test_a_call_within_the_lease_leads_to_the_visit(api: Api) -> None:
    session = await api.visit(trackingId="me", fullUrl="https://example.com/1")
    api.clock.advance(60)
    await api.visit(trackingId="me", fullUrl="https://example.com/2", sessionId=session)
    tree = await api.lookup(NUMBER)
    assert tree["certainty"] == "exact"
    (match,) = tree["matches"]
    assert (match["how"], match["sessionId"], match["trackingId"]) == ("lease", session, "me")
    assert (match["fullUrl"], match["parameters"]) == ("https://example.com/2", {"custnr": "1412"})
    assert (match["number_on_page"], match["pool"]) == (PAGE, "p")


async def test_of_a_long_url_as_much_is_kept_as_there_is_room_for(api: Api) -> None:
    url = "https://example.com/?" + "x" * 3000
    await api.visit(fullUrl=url, fullReferrer="r" + url, userAgent="Mozilla/5.0 " + "y" * 3000)
    (match,) = (await api.lookup(NUMBER))["matches"]
    assert (match["fullUrl"], match["fullReferrer"]) == (url[:2048], ("r" + url)[:2048])


async def test_a_call_within_the_cooldown_is_likely_and_later_nobody_s(api: Api) -> None:
    session = await api.visit()
    api.clock.advance(30 * 60)
    tree = await api.lookup(NUMBER)
    assert (tree["certainty"], [match["how"] for match in tree["matches"]]) == ("likely", ["cooldown"])
    assert tree["matches"][0]["sessionId"] == session
    api.clock.advance(15 * 60)
    assert (await api.lookup(NUMBER))["matches"] == []
    assert (await api.lookup(NUMBER))["certainty"] == "none"


async def test_a_moment_in_the_past(api: Api) -> None:
    moment = "2026-05-28T12:10:00Z"
    session = await api.visit()
    api.clock.advance(24 * 3600)
    await api.visit()
    at = (await api.lookup(NUMBER))["matches"][0]["begin"]
    assert at.endswith("Z")
    past = await api.lookup(NUMBER, "2026-05-28T12:10:00%2B00:00")
    assert past["at"] == moment.replace("Z", ".000Z")
    expected = [session] if api.clock.now - 24 * 3_600_000 <= 1_779_970_200_000 else []
    assert [match["sessionId"] for match in past["matches"]] == expected


async def test_a_recycled_number_has_two_candidates_in_order(api: Api, desk: Desk) -> None:
    await desk.load((ACCOUNT % "keep").replace("on_call: keep", "overflow: recycle"))
    desk.store.forget("x")
    first = await api.visit()
    api.clock.advance(60)
    second = await api.visit()
    tree = await api.lookup(NUMBER)
    assert tree["certainty"] == "ambiguous"
    assert [(m["how"], m["sessionId"]) for m in tree["matches"]] == [("lease", second), ("cooldown", first)]


async def test_a_shared_number_is_told_to_be_nobody_s(api: Api) -> None:
    await api.visit(SHARED_PAGE)
    await api.visit(SHARED_PAGE)
    tree = await api.lookup("+493015981419")
    assert (tree["certainty"], [match["how"] for match in tree["matches"]]) == ("none", ["shared"])
    assert tree["matches"][0]["pool"] == "few"


async def test_sources_and_static_numbers(api: Api, desk: Desk) -> None:
    account, partner = await desk.account("x"), Partner(desk.store, None)
    await partner.create_customer(account, {"name": "c", "custnr": "1"})
    record: Record = {
        "customer_id": "1",
        "name": "Flyer",
        "media": "Print",
        "class": "0",
        "timestamp": None,
        "destnr": "+4930999",
    }
    source = await partner.create_source(account, record, "+493015981300")
    (match,) = (await api.lookup("+493015981300"))["matches"]
    assert (match["how"], match["source_id"], match["name"]) == ("source", "1", "Flyer")
    await partner.change_source(account, str(source["source_id"]), "delete", {})
    (match,) = (await api.lookup("+493015981300"))["matches"]
    assert (match["how"], match["status"]) == ("source", "quarantined")
    assert (await api.event("a", "started", number="+493015981300"))["route"]["destination"] is None
    free = await api.lookup("+493015981301")
    assert (free["matches"], free["certainty"]) == ([], "none")


UNREADABLE = [b" ", b"{", b"[]", b'"x"', b"{}", b'{"source_id":"1","status":"active","timestamp":"soon"}',
              b'{"redirectOptions":{}}', b'{"redirectOptions":[1]}', b"\x80",
              *(b'{"source_id":"1","status":"active","timestamp":"0","destnr":%b}' % it for it in (b"5", b"[]", b"{}")),
              *(b'{"redirectOptions":{"ptsnOptions":{"redirectNumber":%b},"reserveRedirect":%b}}' % pair for pair in (
                  (b"5", b"null"), (b"{}", b"null"),
                  (b'"+4930999"', b'{"reserveNumber":5,"reserveTimeOut":20,"ignoreEarlyMedia":true}'),
                  (b'"+4930999"', b'{"reserveNumber":"+4930999","reserveTimeOut":"x","ignoreEarlyMedia":true}'),
              ))]  # fmt: skip


@pytest.mark.parametrize("record", UNREADABLE)
async def test_a_record_that_cannot_be_read_is_left_out_of_a_call_s_answer(
    api: Api, desk: Desk, record: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    account, partner = await desk.account("x"), Partner(desk.store, None)
    await partner.create_customer(account, {"name": "c", "custnr": "1"})
    in_an_hour = str(api.clock.now + 3_600_000)
    for number, expire in (("+493015981300", in_an_hour), ("+493015981301", None)):
        fields: Record = {"customer_id": "1", "timestamp": None, "expire": expire, "destnr": "+4930999"}
        await partner.create_source(account, fields, number)
    client = desk.store.client(keys.account("x"))
    await client.hset(keys.records("x", "sources")[0], "1", record)
    await client.hset(keys.numbers("x"), "+493015981302", "static")
    await client.hset(keys.statics("x"), "+493015981302", record)
    api.clock.advance(2 * 3600)  # the source's end, too, is looked for in its record
    for number in ("+493015981300", "+493015981302"):
        started = await api.event(number, "started", number=number)
        assert started["route"]["destination"] is None
        assert (await api.lookup(number))["number"] == number
    assert (await api.event("c", "started", number="+493015981301"))["route"]["destination"] == "+4930999"
    assert "cannot be read" in caplog.text


async def test_a_source_that_an_earlier_release_let_end_past_the_year_9999_is_told_to_end_with_it(
    api: Api, desk: Desk
) -> None:
    account, partner = await desk.account("x"), Partner(desk.store, None)
    await partner.create_customer(account, {"name": "c", "custnr": "1"})
    fields: Record = {"customer_id": "1", "timestamp": None, "expire": "253402300801000", "destnr": "+4930999"}
    await partner.create_source(account, fields, "+493015981300")
    (match,) = (await api.lookup("+493015981300"))["matches"]
    assert match["end"] == "9999-12-31T23:59:59.999Z"
    assert (await api.event("c", "started", number="+493015981300"))["route"]["destination"] == "+4930999"


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("", 400, "number: is required"),
        ("?number=x", 400, "number: is not a phone number"),
        ("?number=%2B4930111&at=yesterday", 400, "at: must be a time"),
        ("?number=%2B4930111&at=0001-01-01", 400, "at: must be a time from 1970 to 9998"),
        ("?number=%2B4930111&at=9999-12-31T23:59:61Z", 400, "at: must be a time such as"),
        ("?number=%2B4930111&at=9999-12-31T23:59:59-01:00", 400, "at: must be a time"),
        ("?number=%2B4930111&colour=red", 400, "colour: there is no such parameter"),
        ("?number=%2B4930111", 404, "number: +4930111 is none of this account's"),
    ],
)
async def test_a_lookup_that_cannot_be(api: Api, query: str, status: int, error: str) -> None:
    answered, tree = await api.send("GET", "/calls/lookup" + query)
    assert answered == status
    assert tree["errors"][0].startswith(error)


async def test_who_may_ask(api: Api) -> None:
    for headers in ({}, {"Access-Token": "wrong-token"}, {"Access-Token": ""}):
        assert (await api.send("GET", "/calls/lookup?number=1", headers=headers))[0] == 401
    assert (await api.send("GET", "/calls"))[0] == 405
    assert (await api.send("POST", "/calls/lookup"))[0] == 405
    assert (await api.send("GET", "/calls/nothing"))[0] == 404


# Events ---------------------------------------------------------------------------------------------------------------


async def test_a_call_from_start_to_record(api: Api, desk: Desk) -> None:
    session = await api.visit(trackingId="me")
    answer = await api.event("c1", "started", number=NUMBER, caller="+49301234567")
    assert answer["route"] == {
        "destination": PAGE, "alternatives": [], "reserve": None, "timeout_s": None, "ignore_early_media": True,
    }  # fmt: skip
    assert (answer["certainty"], answer["matches"][0]["sessionId"]) == ("exact", session)
    api.clock.advance(5)
    await api.event("c1", "answered")
    api.clock.advance(65.9)
    ended = await api.event("c1", "ended")
    (cdr,) = await cdrs(desk)
    assert ended == {"call_id": "c1", "cdr_id": cdr["cdr_id"]}
    shown = {
        name: cdr[name]
        for name in ("anum", "bnum", "cnum", "duration", "answered", "custnr", "session_id", "tracking_id")
    }
    assert shown == {
        "anum": "+49301234xxx", "bnum": NUMBER, "cnum": PAGE, "duration": "65", "answered": "1", "custnr": "1412",
        "session_id": session, "tracking_id": "me",
    }  # fmt: skip
    everything = str(
        [await desk.redis.get(key) for key in await desk.redis.keys("ep1:{x}:c*") if ":call:" in key or ":cdr:" in key]
    )
    assert "1234567" not in everything


async def test_events_in_any_order_and_any_number_make_one_record(store_url: str, clock: Clock, desk: Desk) -> None:
    async with serving(store_url, clock=clock) as edge:
        await desk.load(ACCOUNT % "keep")
        api = Api(edge, clock)
        await api.visit()
        events: list[tuple[str, dict[str, Any]]] = [
            ("started", {"number": NUMBER, "caller": "+49301234567", "at": "2026-05-28T12:00:00Z"}),
            ("answered", {"at": "2026-05-28T12:00:10Z"}),
            ("ended", {"at": "2026-05-28T12:01:10Z"}),
        ]
        for turn, order in enumerate(itertools.permutations(events)):
            for event, fields in [*order, *order]:
                await api.event(f"call-{turn}", event, **fields)
        records = await cdrs(desk)
        assert [(record["answered"], record["duration"]) for record in records] == [("1", "60")] * 6


async def test_events_at_once_lose_none_and_make_one_record(api: Api, desk: Desk) -> None:
    await api.visit()
    calls = []
    for turn in range(5):
        for event in ("started", "ended", "answered"):
            fields = {"number": NUMBER} if event == "started" else {}
            calls += [api.event(f"call-{turn}", event, **fields) for _ in range(3)]
    await asyncio.gather(*calls)
    assert len(await cdrs(desk)) == 5


async def test_an_answer_that_is_told_after_the_end_is_in_the_record(api: Api, desk: Desk) -> None:
    await api.event("c", "started", number=NUMBER, at="2026-05-28T12:00:00Z")
    ended = await api.event("c", "ended", at="2026-05-28T12:01:10Z")
    (before,) = await cdrs(desk)
    assert (before["answered"], before["duration"]) == ("0", "0")
    assert await api.event("c", "answered", at="2026-05-28T12:00:10Z") == ended
    (after,) = await cdrs(desk)
    assert (after["cdr_id"], after["answered"], after["duration"]) == (before["cdr_id"], "1", "60")


async def test_an_event_that_is_not_durable_is_not_acknowledged_however_often_it_comes(
    store_url: str, clock: Clock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeproxy.store.functions._DURABLE_MS", 50)
    async with serving(store_url, clock=clock, durable_replicas=9) as edge:
        await desk.load(ACCOUNT % "keep")
        for _ in range(3):
            status, tree = await Api(edge, clock).send(
                "POST", "/calls", {"call_id": "c", "event": "started", "number": NUMBER}
            )
            assert (status, tree["errors"]) == (503, ["taken in, but not known to be safe on disk: send it again"])
    async with serving(store_url, clock=clock) as edge:
        with configured(store_url, appendfsync="always"):
            await Api(edge, clock).event("c", "started", number=NUMBER)
    assert await desk.redis.xlen(keys.calls("x")) == 1


async def test_a_repeated_start_is_answered_as_the_first_was(api: Api) -> None:
    await api.visit()
    first = await api.event("c", "started", number=NUMBER)
    api.clock.advance(3600)
    assert await api.event("c", "started", number=NUMBER) == first
    status, tree = await api.send("POST", "/calls", {"call_id": "c", "event": "ended", "number": "+493015981410"})
    assert (status, tree["errors"]) == (400, ["number: the call c is on another number"])


async def test_an_unknown_number_is_answered_honestly(api: Api) -> None:
    answer = await api.event("c", "started", number="+4930555")
    assert (answer["certainty"], answer["matches"], answer["route"]["destination"]) == ("none", [], None)


async def test_a_static_number_s_scenario_routes_the_call(api: Api) -> None:
    headers = LOGIN | {"SiteId": "1"}
    redirect = {
        "redirectType": "PSTN", "ptsnOptions": {"redirectNumber": "74951234567"},
        "reserveRedirect": {"reserveNumber": "74957654321", "reserveTimeOut": 30, "ignoreEarlyMedia": False},
    }  # fmt: skip
    path = "/phone-service/v1/api/calltracking/ad-platform/phone/create"
    body = {"phoneNumber": "493015981301", "redirectOptions": redirect, "displayOptions": {"source": "google"}}
    async with api.edge.client.post(api.edge.manage + path, data=orjson.dumps(body), headers=headers) as response:
        assert response.status == 200
    answer = await api.event("c", "started", number="+493015981301")
    assert answer["matches"][0]["displayOptions"]["source"] == "google"
    assert answer["route"] == {
        "destination": "+74951234567", "alternatives": [], "reserve": "+74957654321", "timeout_s": 30,
        "ignore_early_media": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", "malformed JSON"),
        ({}, "call_id: "),
        ({"call_id": "c", "event": "rang"}, "event: "),
        ({"call_id": "c", "event": "started"}, "number: is required when a call has started"),
        ({"call_id": "c d", "event": "ended"}, "call_id: must be 1 to 255 characters that a SIP Call-ID or base64"),
        ({"call_id": "c", "event": "started", "number": "x"}, "number: is not a phone number"),
        ({"call_id": "c", "event": "ended", "at": "soon"}, "at: must be a time"),
        ({"call_id": "c" * 256, "event": "ended"}, "call_id: "),
        ({"call_id": "c;d", "event": "ended"}, "call_id: "),
        ({"call_id": "c", "event": "ended", "at": 20260131}, "at: must be a time"),
        ({"call_id": "c", "event": "ended", "at": True}, "at: must be a time"),
        ({"call_id": "c", "event": "ended", "at": []}, "at: must be a time"),
        ({"call_id": "c", "event": "ended", "at": "9999-12-31T23:59:59Z"}, "at: must be a time from 1970 to 9998"),
        ({"call_id": "c", "event": "ended", "at": "2027-01-01"}, "at: is more than a day ahead"),
        ({"call_id": "c", "event": "ended", "colour": "red"}, "colour: "),
    ],
)
async def test_an_event_that_cannot_be(api: Api, body: Any, error: str) -> None:
    status, tree = await api.send("POST", "/calls", body)
    assert status == 400
    assert tree["errors"][0].startswith(error)


@pytest.mark.parametrize(
    "call_id",
    [
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6@foo.bar.com",  # RFC 3261
        "3848276298220188511@[2001:db8::1]:5060",
        "".join(map(chr, range(0x21, 0x7F))).translate(dict.fromkeys(map(ord, "#$&,;^|"))),
        "MTc2OTkwMzk5OS4xMjM+Pz8/Pj4+AAECAwQFBgc=",
        "1769903999.4711",  # Asterisk's
        "c" * 255,
    ],
)
async def test_a_call_has_the_id_that_its_carrier_gave_it(api: Api, call_id: str) -> None:
    assert (await api.event(call_id, "started", number=NUMBER))["call_id"] == call_id
    assert (await api.event(call_id, "ended"))["cdr_id"] is not None


@pytest.mark.parametrize(
    "at",
    [
        "2026-05-28T12:00:10Z", "2026-05-28T14:00:10+02:00", "2026-05-28 14:00:10", "2026-05-28T14:00:10.000",
        "1779969610", "1779969610000", "1779969610.0", 1779969610, 1779969610.0, 1779969610000,
    ],
)  # fmt: skip
async def test_a_moment_is_taken_in_every_form_in_the_account_s_time_zone(api: Api, desk: Desk, at: Any) -> None:
    await desk.load(ACCOUNT % "keep" + "    timezone: Europe/Berlin\n")
    desk.store.forget("x")
    session = await api.visit()
    api.clock.advance(60)
    started = await api.event("c", "started", number=NUMBER, at=at)
    assert started["at"] == "2026-05-28T12:00:10.000Z"
    assert started["matches"][0]["sessionId"] == session
    asked = str(at)
    for sent in (asked, asked.replace("+", "%2B")):  # one that did not escape it sends a space
        assert (await api.lookup(NUMBER, sent))["at"] == "2026-05-28T12:00:10.000Z"


@pytest.mark.parametrize(("on_call", "minutes_left"), [("keep", 20), ("extend", 30), ("release", 0)])
async def test_what_a_call_does_to_the_lease(api: Api, desk: Desk, on_call: str, minutes_left: int) -> None:
    await desk.load(ACCOUNT % on_call)
    desk.store.forget("x")
    session = await api.visit()
    api.clock.advance(10 * 60)
    await api.event("c", "started", number=NUMBER)
    (match,) = (await api.lookup(NUMBER))["matches"]
    ends = api.clock.now + minutes_left * 60_000
    leased = await desk.redis.zscore(keys.pool("x", "p")[1], f"{NUMBER}:{session}")
    assert leased == (ends if minutes_left else None)
    assert match["how"] == ("lease" if minutes_left else "cooldown")
    api.clock.advance(minutes_left * 60 + 15 * 60)
    assert await api.visit() != session
    assert (await api.lookup(NUMBER))["certainty"] == "exact"


# Streams and erasure --------------------------------------------------------------------------------------------------


async def test_the_stream_of_calls_tells_each_event_once(api: Api, desk: Desk) -> None:
    await api.visit()
    for event in ("started", "started", "ended"):
        await api.event("c", event, number=NUMBER, caller="+49301234567")
    entries = [orjson.loads(fields["call"]) for _, fields in await desk.redis.xrange(keys.calls("x"))]
    assert [entry["event"] for entry in entries] == ["started", "ended"]
    assert "1234567" not in str(entries)
    assert 0 < await desk.redis.pttl(keys.calls("x")) <= 3_600_000


async def kept(desk: Desk, which: str = "*") -> str:
    """All keys of the account, and what is in them; or those whose names are such."""
    found: list[Any] = []
    async for key in desk.redis.scan_iter(f"ep1:{{x}}:{which}"):
        match await desk.redis.type(key):
            case "stream":
                value = await desk.redis.xrange(key)
            case "hash":
                value = await desk.redis.execute_command("HGETALL", key, NEVER_DECODE=True)
            case "zset":
                value = await desk.redis.zrange(key, 0, -1, withscores=True)
            case _:
                value = await desk.redis.execute_command("GET", key, NEVER_DECODE=True)  # msgpack, some
        found.append((key, value))
    return str(found)


async def test_a_visitor_is_forgotten_everywhere_and_others_are_not(api: Api, desk: Desk) -> None:
    mine = await api.visit(trackingId="me", fullUrl="https://example.com/secret")
    other = await api.visit(SHARED_PAGE, trackingId="other")
    for call_id, number in (("mine", NUMBER), ("others", "+493015981410")):
        for event in ("started", "ended"):
            await api.event(call_id, event, number=number, caller="+49301234567")
    status, receipt = await api.send("POST", "/calls/erase", {"trackingId": "me"})
    assert status == 200
    assert receipt["erased"] == {"sessions": 1, "leases": 1, "visits": 3, "visitors": 1, "calls": 1}
    everything = await kept(desk)
    assert mine not in everything
    assert "/secret" not in everything
    assert other in everything
    records = {record["bnum"]: record for record in await cdrs(desk)}
    assert (records[NUMBER]["session_id"], records[NUMBER]["anum"]) == (None, None)
    assert records["+493015981410"]["session_id"] == other
    assert (await api.lookup(NUMBER))["matches"] == []
    assert (await api.lookup("+493015981410"))["matches"][0]["trackingId"] == "other"


async def test_a_caller_and_a_session_are_forgotten(api: Api, desk: Desk) -> None:
    session = await api.visit()
    for event in ("started", "ended"):
        await api.event("c", event, number=NUMBER, caller="030 1234567")
    _, receipt = await api.send("POST", "/calls/erase", {"caller": "+49 30 1234567"})
    assert receipt["erased"] == {"sessions": 0, "leases": 0, "visits": 2, "visitors": 0, "calls": 1}
    assert (await cdrs(desk))[0]["anum_md5"] is None
    _, receipt = await api.send("POST", "/calls/erase", {"sessionId": session})
    assert receipt["erased"]["leases"] == 1
    _, receipt = await api.send("POST", "/calls/erase", {"sessionId": session})
    assert set(receipt["erased"].values()) == {0}
    for body in ({}, {"caller": "1234567", "sessionId": "x"}, {"caller": "x"}):
        assert (await api.send("POST", "/calls/erase", body))[0] == 400


async def test_erasures_at_once_forget_each_visitor_and_leave_every_other_visit_once(api: Api, desk: Desk) -> None:
    account = await desk.account("x")
    visitors = [f"visitor-{i:02}" for i in range(12)]
    asks = [
        Ask(desk.fresh_ip(), "", name, False, ((SHARED_PAGE, 1),), orjson.dumps({"trackingId": name}))
        for name in visitors
    ]
    await asyncio.gather(*(desk.store.resolve(account, ask, far()) for ask in asks))
    assert await desk.redis.xlen(keys.visits("x")) == 1  # all stand in one entry
    forgotten, others = visitors[:8], visitors[8:]
    receipts = await asyncio.gather(*(api.send("POST", "/calls/erase", {"trackingId": name}) for name in forgotten))
    assert [(status, receipt["erased"]["visits"]) for status, receipt in receipts] == [(200, 1)] * 8
    left = [
        visit["visit"]["trackingId"]
        for _, fields in await desk.redis.xrange(keys.visits("x"))
        for visit in orjson.loads(fields["visits"])
    ]
    assert left == others
    everything = await kept(desk)
    assert [name for name in forgotten if name in everything] == []


@pytest.mark.parametrize("erased", ["first", "second"])
async def test_of_a_call_with_two_candidates_the_erased_one_is_forgotten_and_the_other_stays(
    api: Api, desk: Desk, erased: str
) -> None:
    await desk.load((ACCOUNT % "keep").replace("on_call: keep", "overflow: recycle"))
    desk.store.forget("x")
    sessions = {}
    for name in ("first", "second"):
        sessions[name] = await api.visit(
            trackingId=f"{name}-visitor", fullUrl=f"https://{name}.example", parameters={"custnr": f"{name}-custnr"}
        )
        api.clock.advance(60)
    before = await api.event("c", "started", number=NUMBER)
    assert (before["certainty"], len(before["matches"])) == ("ambiguous", 2)
    await api.event("c", "ended")
    status, _ = await api.send("POST", "/calls/erase", {"trackingId": f"{erased}-visitor"})
    assert status == 200
    everything = await kept(desk)
    assert [text for text in (sessions[erased], f"{erased}-visitor", f"{erased}.ex", f"{erased}-custnr")
            if text in everything] == []  # fmt: skip
    other = [match for match in before["matches"] if match["sessionId"] != sessions[erased]]
    assert (await api.event("c", "started", number=NUMBER))["matches"] == other


async def test_a_call_whose_caller_is_erased_while_it_lasts_has_one_record_without_the_caller(
    api: Api, desk: Desk
) -> None:
    caller = "+49301234567"
    await api.visit()
    await api.event("c", "started", number=NUMBER, caller=caller)
    assert "+49301234xxx" in await kept(desk)
    assert (await api.send("POST", "/calls/erase", {"caller": caller}))[0] == 200
    for event in ("ended", "started", "ended", "answered"):
        await api.event("c", event, number=NUMBER, caller=caller)
    (record,) = await cdrs(desk)
    assert (record["anum"], record["anum_md5"], record["bnum"]) == (None, None, NUMBER)
    assert "+49301234" not in await kept(desk)


@pytest.mark.parametrize("later", ["", "another"])
async def test_a_visitor_is_forgotten_whose_session_went_on_under_another_name(
    api: Api, desk: Desk, later: str
) -> None:
    session = await api.visit(trackingId="me")
    assert await api.visit(trackingId=later, sessionId=session) == session
    _, receipt = await api.send("POST", "/calls/erase", {"trackingId": "me"})
    assert receipt["erased"] | {"visitors": 1} == {"sessions": 1, "leases": 1, "visits": 2, "visitors": 1, "calls": 0}
    assert session not in await kept(desk)


async def test_a_session_is_forgotten_whose_lease_had_ended_and_its_number_rests_no_longer(
    api: Api, desk: Desk
) -> None:
    session = await api.visit()
    free, leased, _ = keys.pool("x", "p")
    ends = await desk.redis.zscore(leased, f"{NUMBER}:{session}")
    api.clock.advance(40 * 60)
    assert ends < api.clock.now
    assert (await api.send("POST", "/calls/erase", {"sessionId": session}))[0] == 200
    assert session not in await kept(desk)
    assert await desk.redis.zscore(free, NUMBER) == ends + 15 * 60_000
