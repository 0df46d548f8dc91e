"""What a call is told about its visit: first touch, last page, dimensions of all pages; and whose visit it is."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from edgeproxy.accounts.account import CLICK_IDS
from edgeproxy.partner.resources.cdrs import CDR_EXTENDED
from edgeproxy.store import Ask, keys, visits
from edgeproxy.store.calls import Calls
from edgeproxy.store.erasure import erase
from edgeproxy.store.visits import UTM, Visit
from tests.calls.test_handler import ACCOUNT, NUMBER, PAGE, Api, api, cdrs, kept
from tests.conftest import BROWSER, Desk, far, web_request

__all__ = ["api"]  # a fixture

OTHER_BROWSER = BROWSER.replace("140", "141")
CLICK = "https://example.com/?utm_source=google&utm_medium=cpc&gclid=Cj0K"
FIRST: dict[str, Any] = {
    "fullUrl": CLICK,
    "fullReferrer": "https://www.google.com/",
    "parameters": {"custnr": "1", "plan": "basic"},
}
LATER: dict[str, Any] = {"fullUrl": "https://example.com/prices", "fullReferrer": CLICK, "parameters": {}}
LAST: dict[str, Any] = {"fullUrl": "https://example.com/contact", "fullReferrer": "", "parameters": {"plan": "gold"}}


async def match_of(api: Api, at: str = "") -> Any:
    (match,) = (await api.lookup(NUMBER, at))["matches"]
    return match


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


# Custom dimensions ----------------------------------------------------------------------------------------------------


async def visit_of(desk: Desk, session: str) -> Visit:
    (visit,) = await Calls(desk.store, None).visits(await desk.account("x"), [session])
    assert visit is not None
    return visit


def page_of(parameters: dict[str, str], *, address: str = "203.0.113.0", agent: str = BROWSER, url: str = "") -> bytes:
    """A visit's JSON as the gateway writes it."""
    return orjson.dumps(
        {
            "userAgent": agent, "requestIpAddress": address, "parameters": parameters, "type": "web",
            "trackingId": "me", "fullUrl": url, "fullReferrer": "",
        }
    )  # fmt: skip


async def turn(desk: Desk, session: str, *pages: bytes) -> str:
    """Pages of one session, in one batch."""
    account = await desk.account("x")
    asks = [Ask(desk.fresh_ip(), session, "", False, ((PAGE, 0),), page) for page in pages]
    return (await asyncio.gather(*(desk.store.resolve(account, ask, far()) for ask in asks)))[0].session_id


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


# One visitor, one number ----------------------------------------------------------------------------------------------

MANY = """
accounts:
  x:
    secrets: [s]
    region: DE
    static: {site: "1", tokens: [x-token-x]}
    pools: {p: {replaces: [+4930111], numbers: [+493015981400..+493015981439]}}
"""
Views = Callable[..., Awaitable[tuple[str, str | None]]]


@pytest.fixture
async def view(api: Api, desk: Desk) -> Views:
    """A page view: its session, and the number that it shows."""
    await desk.load(MANY)
    desk.store.forget("x")

    async def look(**changes: Any) -> tuple[str, str | None]:
        body = web_request(advId="x", **{"numbers": PAGE, "trackingId": "me"} | changes)
        _, answer, _ = await api.edge.post(body, "s")
        numbers = answer["numbers"]
        return answer["sessionId"], numbers[0]["replace_with"]["e164"] if numbers else None

    return look


async def test_five_page_views_that_lose_their_cookies_take_one_number(api: Api, view: Views, desk: Desk) -> None:
    seen = set()
    for _ in range(5):
        seen.add(await view())
        api.clock.advance(60)
    assert len(seen) == 1
    assert await desk.redis.zcard(keys.pool("x", "p")[1]) == 1
    assert api.edge.board.total("event:joined") == 4
    assert "edgeproxy_sessions_joined_total 4.0" in api.edge.board.exposition().decode()
    match = await match_of(api)
    assert match["last_page"]["at"] > match["first_touch"]["at"]


async def test_page_views_at_once_take_one_number(api: Api, view: Views, desk: Desk) -> None:
    assert len(set(await asyncio.gather(*(view() for _ in range(5))))) == 1
    assert await desk.redis.zcard(keys.pool("x", "p")[1]) == 1
    api.clock.advance(60)
    assert len(set(await asyncio.gather(*(view(sessionId=session) for session in ("", "x", "1" * 36, ""))))) == 1
    assert api.edge.board.total("event:joined") == 8


async def test_page_views_in_one_batch_take_one_number(desk: Desk) -> None:
    await desk.load(MANY)
    account = await desk.account("x")
    asks = [Ask(desk.fresh_ip(), "", "me", False, ((PAGE, 0),), page_of({})) for _ in range(5)]
    found = await asyncio.gather(*(desk.store.resolve(account, ask, far()) for ask in asks))
    assert len({(resolution.session_id, *resolution.numbers) for resolution in found}) == 1
    entries = [orjson.loads(fields["visits"]) for _, fields in await desk.redis.xrange(keys.visits("x"))]
    assert [[visit["new"] for visit in entry] for entry in entries] == [[True, False, False, False, False]]


async def test_a_session_that_was_lost_is_joined_whatever_id_is_sent(view: Views) -> None:
    mine = await view()
    assert await view(sessionId="11111111-1111-4111-8111-111111111111") == mine
    assert await view(sessionId=mine[0]) == mine


@pytest.mark.parametrize(
    "changes",
    [
        {"requestIpAddress": "198.51.100.7"},
        {"requestIpAddress": "2001:db8::1"},
        {"userAgent": OTHER_BROWSER},
        {"trackingId": "another"},
        {"trackingId": ""},
    ],
    ids=lambda changes: next(iter(changes.items())),
)
async def test_nobody_else_s_session_is_joined(view: Views, changes: dict[str, str]) -> None:
    mine, other = await view(), await view(**changes)
    assert mine[0] != other[0]
    assert mine[1] != other[1]
    assert await view() == mine


@pytest.mark.parametrize(
    "nobody",
    [
        {"type": "app", "userAgent": ""},
        {"type": "app", "requestIpAddress": ""},
        {"requestIpAddress": "hidden"},
    ],
    ids=["no browser", "no address", "an address that is none"],
)
async def test_who_does_not_tell_both_browser_and_network_joins_nobody(view: Views, nobody: dict[str, str]) -> None:
    assert len({await view(**nobody) for _ in range(3)}) == 3


async def test_one_id_for_everybody_merges_no_strangers(api: Api, view: Views) -> None:
    """A partner sends the same `trackingId` for all: those of one network with one browser are told apart too, once
    more come at once than are one person.
    """
    strangers = [
        {"trackingId": "everybody", "requestIpAddress": f"198.51.{network}.7", "userAgent": f"{BROWSER} {browser}"}
        for network, browser in itertools.product(range(5), range(3))
    ]
    seen = [await view(**stranger) for stranger in strangers]
    assert len(set(seen)) == len(strangers)
    assert len({number for _, number in seen}) == len(strangers)
    again = [await view(**stranger) for stranger in strangers]
    assert not set(again) & set(seen)
    api.clock.advance(3600)
    assert await view(**strangers[0]) != await view(**strangers[0])


async def test_an_id_that_was_several_people_s_may_be_one_person_s_again_after_a_day(api: Api, view: Views) -> None:
    for network in range(6):
        await view(requestIpAddress=f"198.51.{network}.7")
    api.clock.advance(86_400)
    first = await view()
    assert await view() == first


LISTED = [f"+49301598{number}" for number in range(2000, 2300)]
LISTINGS = [",".join(LISTED[first : first + 50]) for first in range(0, 300, 50)]
DIRECTORY = MANY.replace("[+4930111]", f"[+4930111, {', '.join(LISTED)}]").replace("1439]", "1799]")


async def test_an_id_stays_several_people_s_however_many_numbers_they_are_shown(
    api: Api, view: Views, desk: Desk
) -> None:
    await desk.load(DIRECTORY)
    desk.store.forget("x")
    for network in range(5):
        await view(requestIpAddress=f"198.51.{network}.7")
    for listing in LISTINGS:
        api.clock.advance(1)
        await view(numbers=listing)
    for _ in range(2):
        api.clock.advance(1)
        assert await view() != await view()


async def test_an_id_stays_several_people_s_when_one_of_them_is_erased(api: Api, view: Views, desk: Desk) -> None:
    seen = [await view(requestIpAddress=f"198.51.{network}.7") for network in range(5)]
    account = await desk.account("x")
    for session, _ in seen:
        await erase(Calls(desk.store), account, session_id=session)
    api.clock.advance(1)
    assert await view() != await view()


async def test_a_visitor_may_have_some_browsers_and_networks(api: Api, view: Views) -> None:
    places = [{"requestIpAddress": f"198.51.{network}.7", "userAgent": agent}
              for network, agent in itertools.product(range(2), (BROWSER, OTHER_BROWSER))]  # fmt: skip
    seen = [await view(**place) for place in places]
    assert len(set(seen)) == 4
    assert [await view(**place) for place in places] == seen
    for network in range(10, 14):  # the oldest are forgotten: an hour later they are no crowd
        api.clock.advance(3601)
        await view(requestIpAddress=f"198.51.{network}.7")
    assert await view(requestIpAddress="198.51.13.7") == await view(requestIpAddress="198.51.13.7")


async def test_a_session_is_joined_only_while_it_holds_a_lease(api: Api, view: Views) -> None:
    session, number = await view()
    api.clock.advance(30 * 60 - 0.001)
    assert await view() == (session, number)
    api.clock.advance(30 * 60)
    assert (await view())[0] != session


async def test_a_join_takes_one_place_in_the_window_and_one_point(api: Api, view: Views, desk: Desk) -> None:
    await view()
    await view()
    assert await desk.redis.hget(keys.points("x"), "spent") == "2"
    statuses = [
        (await api.edge.post(web_request(advId="x", numbers=PAGE, trackingId="me"), "s", ip="192.0.2.9"))[0]
        for _ in range(7)
    ]
    assert statuses == [200] * 5 + [403] * 2
    assert await desk.redis.hget(keys.points("x"), "spent") == "7"


async def test_what_is_left_of_the_window_is_told_of_a_join_too(api: Api, view: Views) -> None:
    left = []
    for _ in range(3):
        _, _, headers = await api.edge.post(web_request(advId="x", numbers=PAGE, trackingId="me"), "s", ip="192.0.2.9")
        left.append(headers["RateLimit"].partition(",")[0])
    assert left == ['"ip";r=4;t=1', '"ip";r=3;t=1', '"ip";r=2;t=1']


async def test_a_dry_run_joins_no_session(view: Views) -> None:
    mine = await view()
    session, number = await view(dryRun=True)
    assert session != mine[0]
    assert number is None


async def test_who_is_a_crawler_by_the_time_of_the_join_is_shown_what_the_session_holds(
    view: Views, desk: Desk
) -> None:
    """Between the two times that a join asks the store, the account may be loaded with another list of crawlers."""
    session, number = await view()
    account = await desk.account("x")
    ask = Ask(desk.fresh_ip(), session, "me", True, ((PAGE, 0),), page_of({}), admitted=3, joining=True)
    beside = Ask(desk.fresh_ip(), "", "another", False, ((PAGE, 0),), page_of({}))
    joined, other = await asyncio.gather(*(desk.store.resolve(account, asked, far()) for asked in (ask, beside)))
    assert (joined.refused, joined.session_id, list(joined.numbers)) == (None, session, [number])
    assert other.refused is None


async def test_an_account_may_have_nobody_join(view: Views, desk: Desk) -> None:
    await desk.load(MANY.replace("region: DE", "region: DE\n    join: false"))
    assert len({await view() for _ in range(3)}) == 3


# Many networks --------------------------------------------------------------------------------------------------------


async def pages_from(api: Api, networks: int, seconds: float) -> Any:
    """A session's pages, one from each network; what a call then leads to."""
    session = ""
    for network in range(networks):
        session = await api.visit(sessionId=session, requestIpAddress=f"198.51.{network}.7")
        api.clock.advance(seconds)
    for _ in range(3):
        await api.visit(sessionId=session, requestIpAddress="198.51.0.7")
    return await api.lookup(NUMBER)


async def test_a_session_of_many_networks_at_once_is_nobody_s_for_sure(api: Api, desk: Desk) -> None:
    found = await pages_from(api, 5, 60)
    assert found["certainty"] == "ambiguous"
    (match,) = found["matches"]
    assert match["many_networks"] is True
    assert "many networks at once" in match["why"]
    await api.event("c", "started", number=NUMBER)
    await api.event("c", "ended")
    (record,) = await cdrs(desk)
    assert (record["certainty"], record["session_id"], record["first_url"]) == ("ambiguous", None, None)


async def test_a_session_stays_nobody_s_however_many_numbers_it_is_shown(api: Api, view: Views, desk: Desk) -> None:
    await desk.load(DIRECTORY)
    desk.store.forget("x")
    session = ""
    for network in range(5):
        session, number = await view(sessionId=session, requestIpAddress=f"198.51.{network}.7")
    for listing in LISTINGS:
        api.clock.advance(1)
        await view(sessionId=session, requestIpAddress="198.51.4.7", numbers=listing)
    assert number is not None
    assert (await api.lookup(number))["matches"][0]["many_networks"] is True


@pytest.mark.parametrize(("networks", "seconds"), [(4, 1), (12, 300)], ids=["some", "one after another"])
async def test_a_visitor_on_the_move_is_one_visitor(api: Api, networks: int, seconds: float) -> None:
    found = await pages_from(api, networks, seconds)
    assert (found["certainty"], found["matches"][0]["many_networks"]) == ("exact", False)


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
