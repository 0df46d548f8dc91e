"""What is forgotten of visitors, callers and sessions, and what the stream of calls tells."""

import asyncio

import orjson
import pytest

from edgeproxy.store import Ask, keys
from tests.calls.api import ACCOUNT, NUMBER, SHARED_PAGE, Api, cdrs, kept
from tests.conftest import Desk, far


async def test_the_stream_of_calls_tells_each_event_once(api: Api, desk: Desk) -> None:
    await api.visit()
    for event in ("started", "started", "ended"):
        await api.event("c", event, number=NUMBER, caller="+49301234567")
    entries = [orjson.loads(fields["call"]) for _, fields in await desk.redis.xrange(keys.calls("x"))]
    assert [entry["event"] for entry in entries] == ["started", "ended"]
    assert "1234567" not in str(entries)
    assert 0 < await desk.redis.pttl(keys.calls("x")) <= 3_600_000


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
        Ask(desk.fresh_ip(), "", name, False, ((SHARED_PAGE, 1),), page=orjson.dumps({"trackingId": name}))
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
