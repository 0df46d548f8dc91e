"""Lookups over HTTP: who was shown a number, by which lease, source or static number."""

import pytest

from edgeproxy.store import keys
from edgeproxy.store.partner import Partner, Record
from tests.calls.api import ACCOUNT, NUMBER, PAGE, SHARED_PAGE, Api
from tests.conftest import Desk


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
