"""What a call is told about its visit: first touch, last page, dimensions of all pages; and records of two releases."""

import random

import orjson

from edgeproxy.accounts.account import CLICK_IDS
from edgeproxy.partner.resources.cdrs import CDR_EXTENDED
from edgeproxy.store import keys, visits
from edgeproxy.store.visits import UTM
from tests.calls.api import ACCOUNT, NUMBER, PAGE, Api, cdrs, kept
from tests.calls.pages import CLICK, FIRST, LAST, LATER, MANY, match_of, page_of, turn, visit_of
from tests.conftest import BROWSER, Desk

# First touch and last page --------------------------------------------------------------------------------------------


async def test_the_first_touch_is_kept_beside_the_last_page(api: Api) -> None:
    session = await api.visit(**FIRST)
    begin = (await match_of(api))["begin"]
    api.clock.advance(60)
    await api.visit(**LATER, sessionId=session)
    api.clock.advance(60)
    await api.visit(**LAST, sessionId=session)
    match = await match_of(api)
    assert match["first_touch"] == {
        "at": begin,
        "fullUrl": CLICK,
        "fullReferrer": "https://www.google.com/",
        "utm": {"utm_source": "google", "utm_medium": "cpc"},
        "click_ids": {"gclid": "Cj0K"},
        "parameters": FIRST["parameters"],
    }
    assert match["last_page"] == {
        "at": (await api.lookup(NUMBER))["at"],
        "fullUrl": "https://example.com/contact",
        "fullReferrer": "",
        "utm": {},
        "click_ids": {},
        "parameters": {"plan": "gold"},
        "after_call": False,
    }
    assert (match["fullUrl"], match["fullReferrer"]) == ("https://example.com/contact", "")
    assert match["parameters"] == {"custnr": "1", "plan": "gold"}


async def test_the_first_page_is_the_last_one_too_while_there_is_no_other(api: Api) -> None:
    await api.visit(**FIRST)
    match = await match_of(api)
    assert match["last_page"] == match["first_touch"] | {"after_call": False}


async def test_the_campaign_of_a_url_that_is_longer_than_is_kept_is_kept(api: Api) -> None:
    url = f"https://example.com/?{'x' * 2100}&gclid=Cj0K&utm_source=google"
    await api.visit(fullUrl=url)
    match = await match_of(api)
    assert match["fullUrl"] == url[:2048]
    for page in ("first_touch", "last_page"):
        assert (match[page]["click_ids"], match[page]["utm"]) == ({"gclid": "Cj0K"}, {"utm_source": "google"})


async def test_a_page_that_came_after_the_call_is_said_to_be_later(api: Api) -> None:
    session = await api.visit(**FIRST)
    at = (await match_of(api))["begin"]
    api.clock.advance(0.001)
    await api.visit(**LAST, sessionId=session)
    assert (await match_of(api))["last_page"]["after_call"] is False
    assert (await match_of(api, at))["last_page"]["after_call"] is True
    await api.event("late", "started", number=NUMBER, at=at)  # told after the visitor had gone on
    (match,) = (await api.event("late", "started", number=NUMBER))["matches"]
    assert match["last_page"]["after_call"] is True


async def test_a_call_that_has_started_goes_on_with_what_was_known_then(api: Api, desk: Desk) -> None:
    session = await api.visit(**FIRST)
    started = await api.event("c", "started", number=NUMBER)
    api.clock.advance(10)
    await api.visit(**LAST, sessionId=session)
    assert await api.event("c", "started", number=NUMBER) == started
    await api.event("c", "answered")
    await api.event("c", "ended")
    (record,) = await cdrs(desk)
    at = str(api.clock.now - 10_000)
    assert {name: record[name] for name in visits.FIELDS} == {
        "first_at": at,
        "first_url": CLICK,
        "first_referrer": "https://www.google.com/",
        "first_parameters": '{"custnr":"1","plan":"basic"}',
        **dict.fromkeys((*UTM, *CLICK_IDS)),
        "utm_source": "google",
        "utm_medium": "cpc",
        "gclid": "Cj0K",
        "last_at": at,
        "last_url": CLICK,
        "last_referrer": "https://www.google.com/",
        "last_after_call": "0",
        "parameters": '{"custnr":"1","plan":"basic"}',
    }
    assert set(visits.FIELDS) <= set(CDR_EXTENDED)
    events = [orjson.loads(fields["call"]) for _, fields in await desk.redis.xrange(keys.calls("x"))]
    assert [event["event"] for event in events] == ["started", "answered", "ended"]
    for event in events:
        assert (event["first_at"], event["last_after_call"], event["gclid"]) == (int(at), False, "Cj0K")
        assert event["parameters"] == event["first_parameters"] == FIRST["parameters"]
        assert visits.texts(event) == {name: record[name] for name in visits.FIELDS}


async def test_a_call_that_leads_to_nobody_for_sure_has_no_visit_in_its_record(api: Api, desk: Desk) -> None:
    await api.event("c", "started", number=NUMBER)
    await api.event("c", "ended")
    (record,) = await cdrs(desk)
    assert {record[name] for name in visits.FIELDS} == {None}


async def test_every_entry_of_the_stream_of_visits_tells_when_its_session_began(api: Api, desk: Desk) -> None:
    begun = api.clock.now
    session = await api.visit(**FIRST)
    api.clock.advance(60)
    await api.visit(**LAST, sessionId=session)
    entries = [fields["visits"] for _, fields in await desk.redis.xrange(keys.visits("x"))]
    told = [visit for entry in entries for visit in orjson.loads(entry)]
    assert [(visit["new"], visit["first_at"]) for visit in told] == [(True, begun), (False, begun)]


async def test_an_erased_visitor_s_first_touch_goes_too(api: Api, desk: Desk) -> None:
    session = await api.visit(trackingId="me", **FIRST)
    await api.visit(trackingId="", **LAST, sessionId=session)
    await api.event("c", "started", number=NUMBER)
    assert (await match_of(api))["trackingId"] == "me"
    await api.event("c", "ended")
    await desk.redis.delete(keys.visits("x"), keys.visitor_prefix("x") + "me")  # as they are in an hour, or in a month
    status, receipt = await api.send("POST", "/calls/erase", {"trackingId": "me"})
    assert (status, receipt["erased"]["sessions"], receipt["erased"]["calls"]) == (200, 1, 1)
    everything = await kept(desk)
    assert [text for text in (session, "Cj0K", "example.com", "google", "gold") if text in everything] == []


async def test_a_later_page_adds_dimensions_and_takes_none_away(desk: Desk) -> None:
    """Random pages, some in one batch: every dimension has the value that it had last."""
    await desk.load(ACCOUNT % "keep")
    chance = random.Random(3)
    nasty = ["", '"', '},"type":', '{"parameters":{}', "\\", "ä\n", ',"userAgent":"', "\U0001f600"]
    for _ in range(60):
        session, first = "", None
        expected: dict[str, str] = {}
        for _ in range(chance.randint(1, 4)):
            several = chance.randint(1, 3) if session else 1
            pages = [
                {chance.choice("abc"): chance.choice([*nasty, "1", "2"]) for _ in range(chance.choice([0, 0, 1, 2]))}
                for _ in range(several)
            ]
            session = await turn(desk, session, *map(page_of, pages))
            for parameters in pages:
                first = parameters if first is None else first
                expected |= parameters
            visit = await visit_of(desk, session)
            assert visit.first is not None
            assert (visit.parameters, visit.first.parameters) == (expected, first)
            assert visit.last.parameters == pages[-1]


async def test_the_dimensions_of_a_visit_are_bounded(desk: Desk) -> None:
    await desk.load(ACCOUNT % "keep")
    session = ""
    for serial in range(70):
        session = await turn(desk, session, page_of({f"name-{serial}": "x" * 100}))
    visit = await visit_of(desk, session)
    assert len(visit.between) == 50
    assert {"name-0", "name-1", "name-69"} <= visit.parameters.keys()
    for serial in range(30):
        await turn(desk, session, page_of({"name-1": str(serial) + "y" * 2000, f"name-{serial}": "z" * 2000}))
    assert await desk.redis.strlen(keys.session_prefix("x") + session) < 24_000
    assert (await visit_of(desk, session)).parameters["name-1"][:2] == "29"


# Two releases ---------------------------------------------------------------------------------------------------------

# What the release before has of a session's record: its end, its last visit, its leases.
OLD_RECORD = """
return redis.call('SET', KEYS[1], cmsgpack.pack({
  tonumber(ARGV[1]), ARGV[2], '+4930111', 'p', '+493015981400', tonumber(ARGV[3])
}), 'PX', 100000000)
"""


OLD_VISIT = {
    "type": "web", "trackingId": "me", "fullUrl": "https://example.com/old", "fullReferrer": "",
    "parameters": {"custnr": "7"}, "userAgent": BROWSER, "requestIpAddress": "203.0.113.0",
}  # fmt: skip


# What that release does with a record: it looks for a page's lease, renews it, forgets the oldest beyond 256, and puts
# leases to what the visitor had.
OLD_READER = """
local function place_of(record, page, first, width)
  for at = first, #record, width do
    if record[at] == page then return at end
  end
end
local function bound(record, first, width)
  local count = (#record - first + 1) / width
  if count <= 256 then return record end
  local begun = {}
  for at = first, #record, width do begun[#begun + 1] = {at, record[at + 3]} end
  table.sort(begun, function(a, b) if a[2] ~= b[2] then return a[2] < b[2] end return a[1] < b[1] end)
  local kept = {unpack(record, 1, first - 1)}
  for i = count - 256 + 1, count do
    for at = begun[i][1], begun[i][1] + width - 1 do kept[#kept + 1] = record[at] end
  end
  return kept
end
local record = cmsgpack.unpack(redis.call('GET', KEYS[1]))
local found = {}
for i = 2, #ARGV do
  local at = place_of(record, ARGV[i], 3, 4)
  found[#found + 1] = at and record[at + 2] or ''
end
local had = cmsgpack.unpack(redis.call('GET', KEYS[2]) or cmsgpack.pack({}))
local place = {}
for at = 1, #had, 5 do place[had[at]] = at end
for from = 3, #record, 4 do
  local to = place[record[from]] or #had + 1
  for i = 0, 3 do had[to + i] = record[from + i] end
  had[to + 4] = KEYS[1]:match('[^:]*$')
end
redis.call('SET', KEYS[2], cmsgpack.pack(bound(had, 1, 5)), 'PX', 100000000)
record = bound(record, 3, 4)
record[2] = ARGV[1]
redis.call('SET', KEYS[1], cmsgpack.pack(record), 'PX', 100000000)
return found
"""


async def test_a_session_of_the_release_before_goes_on_without_a_first_touch(api: Api, desk: Desk) -> None:
    session = "11111111-1111-4111-8111-111111111111"
    key, now = keys.session_prefix("x") + session, api.clock.now
    fresh = await api.visit()  # so that the lease is there
    await desk.redis.zrem(keys.pool("x", "p")[1], f"{NUMBER}:{fresh}")
    await desk.redis.zadd(keys.pool("x", "p")[1], {f"{NUMBER}:{session}": now + 60_000})
    await desk.redis.eval(OLD_RECORD, 1, key, now + 1_800_000, orjson.dumps(OLD_VISIT), now)
    visit = await visit_of(desk, session)
    assert (visit.first, visit.last.at_ms, visit.parameters) == (None, None, {"custnr": "7"})
    assert visits.fields(visit, now)["last_after_call"] is None
    for page in (FIRST, LAST):
        assert await api.visit(sessionId=session, **page) == session
    visit = await visit_of(desk, session)
    assert (visit.first, visit.last.at_ms) == (None, now)
    assert visit.last.sent["fullUrl"] == "https://example.com/contact"
    assert visit.parameters == {"custnr": "1", "plan": "gold"}


async def test_the_release_before_reads_and_writes_our_sessions(api: Api, desk: Desk) -> None:
    await desk.load(MANY)
    session = await api.visit(trackingId="me", **FIRST)
    for page in (LATER, LAST):
        await api.visit(trackingId="me", **page, sessionId=session)
    for network in range(4):
        await api.visit(trackingId="me", **LAST, sessionId=session, requestIpAddress=f"198.51.{network}.7")
    names = keys.session_prefix("x") + session, keys.visitor_prefix("x") + "me"
    assert await desk.redis.eval(OLD_READER, 2, *names, orjson.dumps(OLD_VISIT), PAGE, "", "+4930999") == [
        NUMBER,
        "",
        "",
    ]
    visit = await visit_of(desk, session)
    assert visit.first is not None
    assert (visit.first.sent["fullUrl"], visit.last.sent["fullUrl"]) == (CLICK, "https://example.com/old")
    api.clock.advance(30 * 60)  # the lease ends: the visitor's record, as that release left it, is read and written
    assert await api.visit(trackingId="me", **LAST, sessionId=session) == session
    assert await api.visit(trackingId="me", **LAST) == session
    (match,) = (await api.lookup(f"{NUMBER[:-1]}1"))["matches"]
    assert (match["sessionId"], match["first_touch"]["fullUrl"]) == (session, CLICK)
