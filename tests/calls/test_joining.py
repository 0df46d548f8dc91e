"""One visitor, one number: page views without their session join it, and sessions of many networks are nobody's."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from edgeproxy.store import Ask, keys
from edgeproxy.store.calls import Calls
from edgeproxy.store.erasure import erase
from tests.calls.api import NUMBER, PAGE, Api, cdrs
from tests.calls.pages import MANY, OTHER_BROWSER, match_of, page_of
from tests.conftest import BROWSER, Desk, far, web_request

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
    asks = [Ask(desk.fresh_ip(), "", "me", False, ((PAGE, 0),), **page_of({})) for _ in range(5)]
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
    ask = Ask(desk.fresh_ip(), session, "me", True, ((PAGE, 0),), **page_of({}), admitted=3, joining=True)
    beside = Ask(desk.fresh_ip(), "", "another", False, ((PAGE, 0),), **page_of({}))
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
