"""Events of calls over HTTP: where a call goes, and what its record says."""

import asyncio
import itertools
from typing import Any

import orjson
import pytest

from edgeproxy.store import keys
from tests.calls.api import ACCOUNT, LOGIN, NUMBER, PAGE, Api, cdrs
from tests.conftest import Clock, Desk, serving
from tests.servers import configured


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
