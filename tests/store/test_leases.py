"""Sessions and leases: who is shown which number, for how long, and who is next (`dynamic/README.md`, *Leases*)."""

import asyncio
import random
from typing import Any

import orjson
import pytest

from edgeproxy.store import Ask, Resolution, Store, keys
from tests.conftest import DEMO, Clock, Desk, far

PAGE, OTHER_PAGE = "+493015981100", "+493015981101"


def pool(**settings: Any) -> str:
    settings = {"replaces": "all", "numbers": ["+493015981151..+493015981153"]} | settings
    return orjson.dumps(
        {"accounts": {"x": {"secrets": ["s"], "region": "DE", "pools": {"p": settings}}}}
    ).decode()  # fmt: skip


def last(resolution: Resolution) -> str | bool:
    """The last two digits of the one number shown; False if the page's number stays."""
    (number,) = resolution.numbers
    return number if isinstance(number, bool) else number[-2:]


async def test_a_session_keeps_its_number_as_long_as_it_asks(desk: Desk) -> None:
    await desk.load(pool())
    first = await desk.ask("x", PAGE)
    for _ in range(10):
        desk.clock.advance(1799)
        again = await desk.ask("x", PAGE, first.session_id)
        assert (again.session_id, again.numbers) == (first.session_id, first.numbers)


async def test_a_lease_ends_after_the_idle_time_and_its_number_cools_down(desk: Desk) -> None:
    await desk.load(pool(numbers=["+493015981151"]))
    first = await desk.ask("x", PAGE)
    desk.clock.advance(1800 - 0.001)
    assert last(await desk.ask("x", PAGE)) is False
    desk.clock.advance(0.001)  # the lease ends; the number cools down for 15 minutes
    assert last(await desk.ask("x", PAGE)) is False
    desk.clock.advance(900 - 0.001)
    assert last(await desk.ask("x", PAGE)) is False
    desk.clock.advance(0.001)
    second = await desk.ask("x", PAGE)
    assert last(second) == "51"
    assert second.session_id != first.session_id


async def test_a_lease_has_ended_for_its_own_session_too(desk: Desk) -> None:
    await desk.load(pool(numbers=["+493015981151"]))
    first = await desk.ask("x", PAGE)
    desk.clock.advance(1800 - 0.001)
    assert last(await desk.ask("x", PAGE, first.session_id)) == "51"
    desk.clock.advance(1800)
    late = await desk.ask("x", PAGE, first.session_id)
    assert (late.session_id, last(late)) == (first.session_id, False)


async def test_a_lease_ends_at_its_longest_life_however_busy_the_session(desk: Desk) -> None:
    await desk.load(pool(max_ttl="2h", numbers=["+493015981151", "+493015981152"]))
    first = await desk.ask("x", PAGE)
    for _ in range(5):
        desk.clock.advance(1200)
        assert last(await desk.ask("x", PAGE, first.session_id)) == "51"
    desk.clock.advance(1200)
    moved = await desk.ask("x", PAGE, first.session_id)
    assert (moved.session_id, last(moved)) == (first.session_id, "52")
    assert last(await desk.ask("x", PAGE)) is False


async def test_each_number_on_the_page_has_its_own_lease(desk: Desk) -> None:
    await desk.load(pool())
    first = await desk.ask("x", [PAGE, OTHER_PAGE])
    assert first.numbers == ["+493015981151", "+493015981152"]
    again = await desk.ask("x", [OTHER_PAGE, PAGE], first.session_id)
    assert again.numbers == ["+493015981152", "+493015981151"]
    desk.clock.advance(1000)
    assert last(await desk.ask("x", PAGE, first.session_id)) == "51"
    desk.clock.advance(1000)  # one of the two was asked for in time
    third = await desk.ask("x", [PAGE, OTHER_PAGE], first.session_id)
    assert third.numbers == ["+493015981151", "+493015981153"]


async def test_a_number_that_stands_twice_on_the_page_is_leased_once(desk: Desk) -> None:
    await desk.load(pool())
    assert (await desk.ask("x", [PAGE, PAGE])).numbers == ["+493015981151"] * 2


@pytest.mark.parametrize("session", ["", "11111111-1111-4111-8111-111111111111"], ids=["none", "unknown"])
async def test_without_a_session_a_new_one_is_issued(desk: Desk, session: str) -> None:
    await desk.load(pool())
    first = await desk.ask("x", PAGE, session)
    assert first.session_id not in ("", session)
    assert len(first.session_id) == 36


async def test_another_accounts_session_is_not_adopted(desk: Desk) -> None:
    await desk.load(DEMO)
    theirs = await desk.ask("shared", "+442079460010")
    ours = await desk.ask("recycle", "+442079460020", theirs.session_id)
    assert ours.session_id != theirs.session_id
    assert last(await desk.ask("shared", "+442079460010", theirs.session_id)) == "11"


async def test_an_expired_session_is_not_adopted(desk: Desk) -> None:
    await desk.load(pool())
    first = await desk.ask("x", PAGE)
    desk.clock.advance(1800 * 1.1 + 1)
    assert (await desk.ask("x", PAGE, first.session_id)).session_id != first.session_id


async def test_a_session_without_a_number_is_a_session(desk: Desk) -> None:
    await desk.load(pool())
    first = await desk.ask("x")
    assert (await desk.ask("x", PAGE, first.session_id)).session_id == first.session_id


async def test_free_numbers_are_given_longest_released_first(desk: Desk) -> None:
    await desk.load(pool(cooldown="0s"))
    sessions = [await desk.ask("x", PAGE) for _ in range(3)]
    assert [last(session) for session in sessions] == ["51", "52", "53"]
    for index in (1, 2, 0):  # renewed in this order, released in this order
        desk.clock.advance(60)
        await desk.ask("x", PAGE, sessions[index].session_id)
    desk.clock.advance(3600)
    assert [last(await desk.ask("x", PAGE)) for _ in range(3)] == ["52", "53", "51"]


async def test_never_used_numbers_come_before_released_ones(desk: Desk) -> None:
    await desk.load(pool(cooldown="0s"))
    assert last(await desk.ask("x", PAGE)) == "51"
    desk.clock.advance(3600)
    assert [last(await desk.ask("x", PAGE)) for _ in range(3)] == ["52", "53", "51"]


async def test_original_leaves_the_number_on_the_page(desk: Desk) -> None:
    await desk.load(pool(overflow="original"))
    assert [last(await desk.ask("x", PAGE)) for _ in range(5)] == ["51", "52", "53", False, False]


async def test_shared_shows_the_overflow_number_until_one_is_free(desk: Desk) -> None:
    await desk.load(pool(overflow="shared", shared_number="+493015981199", cooldown="0s"))
    sessions = [await desk.ask("x", PAGE) for _ in range(5)]
    assert [last(session) for session in sessions] == ["51", "52", "53", "99", "99"]
    assert last(await desk.ask("x", PAGE, sessions[4].session_id)) == "99"
    desk.clock.advance(1000)
    for index in (1, 2):
        await desk.ask("x", PAGE, sessions[index].session_id)
    assert last(await desk.ask("x", PAGE, sessions[4].session_id)) == "99"
    desk.clock.advance(1000)
    assert last(await desk.ask("x", PAGE, sessions[4].session_id)) == "51"


async def test_recycle_ends_the_oldest_lease_early(desk: Desk) -> None:
    await desk.load(pool(overflow="recycle"))
    first, second, third = [await desk.ask("x", PAGE) for _ in range(3)]
    desk.clock.advance(60)
    await desk.ask("x", PAGE, first.session_id)  # renewing makes a lease no younger
    fourth = await desk.ask("x", PAGE)
    assert last(fourth) == "51"
    assert last(await desk.ask("x", PAGE, second.session_id)) == "52"
    moved = await desk.ask("x", PAGE, first.session_id)  # takes the next oldest in turn
    assert (moved.session_id, last(moved)) == (first.session_id, "52")
    assert last(await desk.ask("x", PAGE, third.session_id)) == "53"


async def test_recycle_takes_a_cooling_number_where_no_lease_is_left(desk: Desk) -> None:
    await desk.load(pool(overflow="recycle", numbers=["+493015981151", "+493015981152"]))
    first, second = await desk.ask("x", PAGE), await desk.ask("x", PAGE)
    desk.clock.advance(10)
    await desk.ask("x", PAGE, first.session_id)
    desk.clock.advance(1801)
    assert last(await desk.ask("x", PAGE)) == last(second)


async def test_recycle_takes_no_number_of_the_session_itself(desk: Desk) -> None:
    await desk.load(pool(overflow="recycle", numbers=["+493015981151", "+493015981152"]))
    pages = [f"+49301598110{n}" for n in range(4)]
    first = await desk.ask("x", pages)
    assert first.numbers == ["+493015981151", "+493015981152", False, False]
    assert (await desk.ask("x", pages[::-1], first.session_id)).numbers == [False, False, *first.numbers[1::-1]]
    account = await desk.account("x")
    one, two = await asyncio.gather(*(desk.ask(account, pages[:1], first.session_id), desk.ask(account, pages[1:3])))
    assert (one.numbers, two.numbers) == ([first.numbers[0]], ["+493015981151", "+493015981152"])


@pytest.mark.parametrize("overflow", ["original", "recycle"])
async def test_a_session_s_number_is_shown_for_one_page_though_it_was_another_s_before(
    desk: Desk, overflow: str
) -> None:
    await desk.load(pool(overflow=overflow, numbers=["+493015981151"], cooldown="0s"))
    first = await desk.ask("x", PAGE)
    if overflow == "recycle":
        await desk.ask("x", PAGE)
    else:
        desk.clock.advance(30 * 60)
    again = await desk.ask("x", [OTHER_PAGE, PAGE], first.session_id)
    assert (again.session_id, again.numbers) == (first.session_id, ["+493015981151", False])
    assert (await desk.ask("x", [PAGE, OTHER_PAGE], first.session_id)).numbers == [False, "+493015981151"]


async def test_recycle_passes_over_the_session_s_own_leases_to_the_oldest_of_another(desk: Desk) -> None:
    numbers = [f"+4930159811{n}" for n in range(51, 61)]
    await desk.load(pool(overflow="recycle", numbers=[f"{numbers[0]}..{numbers[-1]}"]))
    pages = [f"+49301598120{n}" for n in range(10)]
    first = await desk.ask("x", pages[:7])
    desk.clock.advance(1)
    others = [await desk.ask("x", PAGE) for _ in range(3)]
    more = await desk.ask("x", pages, first.session_id)
    assert more.numbers == [*first.numbers, *(other.numbers[0] for other in others)]
    assert (await desk.ask("x", pages[0])).numbers == numbers[:1]


async def test_recycle_within_one_batch(desk: Desk) -> None:
    await desk.load(pool(overflow="recycle"))
    account = await desk.account("x")
    batch = await asyncio.gather(*(desk.ask(account, PAGE) for _ in range(7)))
    assert [last(resolution) for resolution in batch] == ["51", "52", "53", "51", "52", "53", "51"]
    members = await desk.redis.zrange(keys.pool("x", "p")[1], 0, -1)
    assert sorted(members) == sorted(
        f"{batch[i].numbers[0]}:{batch[i].session_id}" for i in (4, 5, 6)
    )  # fmt: skip


async def test_a_returning_visitor_gets_the_previous_number_if_it_is_free(desk: Desk) -> None:
    await desk.load(pool(cooldown="1m"))
    await desk.ask("x", PAGE, visitor="someone")
    first = await desk.ask("x", PAGE, visitor="me")
    assert last(first) == "52"
    desk.clock.advance(1830)
    assert last(await desk.ask("x", PAGE, visitor="me")) == "53"  # 52 cools down
    desk.clock.advance(3600)
    assert last(await desk.ask("x", PAGE, visitor="me")) == "53"
    assert last(await desk.ask("x", PAGE, visitor="someone")) == "51"
    assert last(await desk.ask("x", PAGE, visitor="me")) == "52"  # 53 is leased to the other session of mine


async def test_a_visitor_is_remembered_page_by_page(desk: Desk) -> None:
    await desk.load(pool(cooldown="0s"))
    first = await desk.ask("x", PAGE, visitor="me")
    await desk.ask("x", OTHER_PAGE, first.session_id, visitor="me")
    desk.clock.advance(3600)
    again = await desk.ask("x", PAGE, visitor="me")
    assert last(again) == "51"
    desk.clock.advance(3600)
    assert last(await desk.ask("x", OTHER_PAGE, visitor="me")) == "52"


async def test_a_page_without_a_lease_does_not_make_a_visitor_forgotten(desk: Desk) -> None:
    await desk.load(pool(cooldown="0s"))
    await desk.ask("x", PAGE, visitor="someone")
    await desk.ask("x", PAGE, visitor="me")
    desk.clock.advance(3600)
    blog = await desk.ask("x", visitor="me")
    assert last(await desk.ask("x", PAGE, blog.session_id, visitor="me")) == "52"


async def test_a_number_of_another_pool_is_told_with_its_pool(desk: Desk) -> None:
    pools = {name: {"replaces": "all", "numbers": [number]} for name, number in
             (("p", "+493015981151"), ("q", "+493015981152"))}  # fmt: skip
    await desk.load(orjson.dumps({"accounts": {"x": {"secrets": ["s"], "region": "DE", "pools": pools}}}).decode())
    first = await desk.ask("x", PAGE, pool=1)
    assert first.numbers == ["+493015981152"]
    assert (await desk.ask("x", PAGE, first.session_id, pool=0)).numbers == ["+493015981152/2"]


async def test_a_pool_that_begins_to_recycle_again_ends_no_lease_but_a_live_one(desk: Desk) -> None:
    await desk.load(pool(overflow="recycle", cooldown="0s"))
    for _ in range(3):
        await desk.ask("x", PAGE)
    desk.clock.advance(3600)
    await desk.load(pool(overflow="original", cooldown="0s"))
    desk.store.forget("x")
    for _ in range(3):
        await desk.ask("x", PAGE)
    await desk.load(pool(overflow="recycle", cooldown="0s"))
    desk.store.forget("x")
    assert await desk.redis.zcard(keys.pool("x", "p")[2]) == 0
    await desk.ask("x", PAGE)
    members = await desk.redis.zrange(keys.pool("x", "p")[1], 0, -1)
    assert len({member.split(":")[0] for member in members}) == len(members) == 3


async def test_a_lease_granted_again_does_not_make_the_visitor_s_other_pages_forgotten(desk: Desk) -> None:
    await desk.load(
        """
accounts:
  x:
    secrets: [s]
    region: DE
    pools:
      short: {replaces: [+493015981100], numbers: [+493015981161], idle_ttl: 1m, cooldown: 0s}
      long: {replaces: all, numbers: [+493015981151..+493015981153]}
"""
    )

    async def ask(session: str, *pages: str) -> Resolution:
        account = await desk.account("x")
        visit = Ask(desk.fresh_ip(), session, "me", False, tuple((page, int(page != PAGE)) for page in pages))
        return await desk.store.resolve(account, visit, far())

    await desk.ask("x", OTHER_PAGE, pool=1)  # takes 51
    assert (await ask("", PAGE, OTHER_PAGE)).numbers == ["+493015981161", "+493015981152"]
    desk.clock.advance(60)
    second = await ask("", PAGE)
    desk.clock.advance(60)  # its lease has ended, the session lives
    assert (await ask(second.session_id, PAGE)).numbers == ["+493015981161"]
    desk.clock.advance(45 * 60)
    assert (await ask("", OTHER_PAGE)).numbers == ["+493015981152"]


async def test_a_visitors_number_that_another_has_is_not_taken_away(desk: Desk) -> None:
    await desk.load(pool(numbers=["+493015981151", "+493015981152"], cooldown="0s"))
    await desk.ask("x", PAGE, visitor="me")
    desk.clock.advance(1801)
    assert [last(await desk.ask("x", PAGE)) for _ in range(2)] == ["52", "51"]
    assert last(await desk.ask("x", PAGE, visitor="me")) is False


async def test_crawlers_and_dry_runs_spend_no_number(desk: Desk) -> None:
    await desk.load(pool())
    assert last(await desk.ask("x", PAGE, bare=True, visitor="me")) is False
    first = await desk.ask("x", PAGE)
    assert last(first) == "51"
    desk.clock.advance(1000)
    assert last(await desk.ask("x", PAGE, first.session_id, bare=True)) == "51"
    desk.clock.advance(1000)  # and renew none
    assert last(await desk.ask("x", PAGE, first.session_id)) == "52"
    assert await desk.redis.xlen(keys.visits("x")) == 2


async def test_a_dry_run_does_not_lengthen_a_session(desk: Desk) -> None:
    await desk.load(pool(idle_ttl="30m", max_ttl="2h"))
    first = await desk.ask("x", PAGE)
    desk.clock.advance(600)
    record = await desk.redis.dump(keys.session_prefix("x") + first.session_id)
    assert last(await desk.ask("x", PAGE, first.session_id, bare=True)) == "51"
    assert await desk.redis.dump(keys.session_prefix("x") + first.session_id) == record
    assert last(await desk.ask("x", PAGE, first.session_id)) == "51"
    assert await desk.redis.dump(keys.session_prefix("x") + first.session_id) != record


async def test_the_stream_of_visits_lives_as_long_as_it_is_written_to(desk: Desk) -> None:
    await desk.load(pool())
    kept_ms = (await desk.account("x")).visits_kept_ms
    for _ in range(3):
        await desk.ask("x", PAGE)
        desk.clock.advance(kept_ms / 1000 * 0.1)
        await desk.redis.pexpire(keys.visits("x"), kept_ms)  # what is left of a life and a tenth
    await desk.ask("x", PAGE)
    assert await desk.redis.pttl(keys.visits("x")) > kept_ms
    await desk.redis.delete(keys.visits("x"))  # as a store short of memory may
    await desk.ask("x", PAGE)
    assert await desk.redis.pttl(keys.visits("x")) > kept_ms
    await desk.redis.delete(keys.points("x"))
    await desk.ask("x", PAGE)
    assert await desk.redis.pttl(keys.points("x")) > 0


async def test_of_many_new_sessions_at_once_none_shares_a_number(store_url: str) -> None:
    async with Store(store_url) as one, Store(store_url) as other:
        await one.load_functions()
        desks = [Desk(store, Clock(), iter(())) for store in (one, other)]
        await desks[0].load(DEMO)
        resolutions = await asyncio.gather(*(desks[i % 2].ask("demo", PAGE, ip=f"192.0.2.{i}") for i in range(100)))
        numbers = [resolution.numbers[0] for resolution in resolutions if resolution.numbers[0]]
        assert len(numbers) == len(set(numbers)) == 40


async def test_a_long_random_life_never_doubles_or_loses_a_number(desk: Desk) -> None:
    """Many sessions over many hours, in batches: at no time do two sessions hold one number."""
    await desk.load(pool(numbers=["+493015981151..+493015981160"], cooldown="5m", overflow="recycle"))
    account = await desk.account("x")
    chance = random.Random(1)
    known: list[str] = []
    free_key, leased_key, granted_key = keys.pool("x", "p")
    for _ in range(150):
        desk.clock.advance(chance.choice([0, 1, 60, 400, 1000, 2500]))
        asks = [
            desk.ask(
                account, chance.choice([PAGE, OTHER_PAGE]), chance.choice([*known, ""]), visitor=chance.choice("abc")
            )
            for _ in range(chance.randint(1, 15))
        ]  # fmt: skip
        resolutions = await asyncio.gather(*asks)
        known = [resolution.session_id for resolution in resolutions]
        leased = await desk.redis.zrange(leased_key, 0, -1)
        free = await desk.redis.zrange(free_key, 0, -1)
        numbers = [*free, *(member.split(":")[0] for member in leased)]
        assert sorted(numbers) == [f"+4930159811{n}" for n in range(51, 61)]
        assert set(await desk.redis.zrange(granted_key, 0, -1)) == set(leased)
        held = {resolution.numbers[0]: resolution.session_id for resolution in resolutions}
        for member in leased:
            number, session = member.split(":")
            assert held.get(number, session) == session


async def test_what_was_shown_is_recorded(desk: Desk) -> None:
    await desk.load(pool(numbers=["+493015981151"], overflow="shared", shared_number="+493015981199"))
    first = await desk.ask("x", PAGE)
    desk.clock.advance(1)
    await desk.ask("x", PAGE, first.session_id)
    desk.clock.advance(1)
    third = await desk.ask("x", [PAGE, OTHER_PAGE])
    entries = await desk.redis.xrange(keys.visits("x"))
    begun = desk.clock.now - 2000
    told = {"userAgent": "", "requestIpAddress": "", "parameters": {}, "type": "web"}
    lease = {"first_at": begun, "numbers": {PAGE: ["+493015981151", "lease"]}, "visit": told}
    assert [visit for _, fields in entries for visit in orjson.loads(fields["visits"])] == [
        {"session": first.session_id, "new": True, **lease},
        {"session": first.session_id, "new": False, **lease},
        {
            "session": third.session_id,
            "new": True,
            "first_at": desk.clock.now,
            "numbers": {PAGE: ["+493015981199", "shared"], OTHER_PAGE: ["+493015981199", "shared"]},
            "visit": told,
        },
    ]


async def test_a_session_remembers_a_bounded_number_of_leases(desk: Desk) -> None:
    await desk.load(pool(numbers=["+493015981000..+493015981399"]))
    session = ""
    for first in range(0, 300, 50):
        pages = [f"+4930{first + offset:08d}" for offset in range(50)]
        desk.clock.advance(1)
        session = (await desk.ask("x", pages, session)).session_id
    assert await desk.redis.strlen(keys.session_prefix("x") + session) < 20_000
    assert (await desk.ask("x", pages, session)).numbers == [f"+49301598{n}" for n in range(1250, 1300)]
