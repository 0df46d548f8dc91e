"""Sources in the store: one inventory of numbers, and statuses that go by the clock."""

import asyncio
import random

import pytest

from edgeproxy.accounts import file as account_file
from edgeproxy.errors import RefusedError, StoreError
from edgeproxy.store import inventory, keys
from edgeproxy.store.numbers import StaticNumbers
from edgeproxy.store.partner import Record
from tests.store.office import DAY, FIRST, Office, accounts

# Numbers --------------------------------------------------------------------------------------------------------------


async def test_two_at_once_never_get_the_same_number(office: Office) -> None:
    customer = await office.customer()
    made = await asyncio.gather(*(office.source(customer) for _ in range(50)), return_exceptions=True)
    numbers = [record["phonenr"] for record in made if isinstance(record, dict)]
    assert sorted(str(number) for number in numbers) == [f"+49301598130{last}" for last in range(5)]
    refused = [error for error in made if isinstance(error, RefusedError)]
    assert {error.why for error in refused} == {"no number"}
    assert len(refused) == 45
    assert (await office.partner.find(office.account, "sources", {})).total == 5


async def test_a_named_number_goes_to_one(office: Office) -> None:
    customer = await office.customer()
    made = await asyncio.gather(*(office.source(customer, FIRST) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(record, dict) for record in made) == 1
    assert {error.why for error in made if isinstance(error, RefusedError)} == {"taken"}
    with pytest.raises(RefusedError, match="number"):
        await office.source(customer, "+4930999999")


async def test_a_refused_source_takes_no_number_and_no_id(office: Office) -> None:
    before = await office.states()
    for record in ({"customer_id": "9"}, {"vm_greeting_id": "9"}, {"expire": office.at(-1)}):
        customer = await office.customer()
        with pytest.raises(RefusedError):
            await office.source(customer, FIRST, **record)
    assert await office.states() == before
    assert (await office.source(customer))["source_id"] == "1"


async def test_numbers_are_taken_longest_free_first_and_rest_in_quarantine(office: Office) -> None:
    customer = await office.customer()
    sources = [await office.source(customer) for _ in range(5)]
    assert await office.states() == {str(s["phonenr"]): f"source:{s['source_id']}" for s in sources}
    for source in (sources[3], sources[1]):
        office.desk.clock.advance(1)
        assert (await office.change(source, "delete"))["status"] == "quarantined"
    assert (await office.states())[str(sources[3]["phonenr"])] == f"quarantined:{sources[3]['source_id']}"
    with pytest.raises(RefusedError, match="no number"):
        await office.source(customer)
    office.desk.clock.advance(60 * DAY)
    assert (await office.source(customer))["phonenr"] == sources[3]["phonenr"]
    assert (await office.source(customer))["phonenr"] == sources[1]["phonenr"]
    assert await office.status(sources[3]) == "archived"


async def test_no_number_is_lost_whatever_happens(office: Office) -> None:
    """A random walk over everything that moves numbers: each stays in one state, and the indexes tell the records."""
    chance = random.Random(7)
    customers = [await office.customer(str(n)) for n in range(3)]
    sources: list[Record] = []
    for _ in range(300):
        office.desk.clock.advance(chance.choice([0, 1, DAY, 20 * DAY]))
        try:
            if chance.random() < 0.4:
                made: Record = {
                    "destnr": chance.choice(["+491", "+492", None]),
                    "class": chance.choice("012"),
                    "expire": chance.choice([None, office.at(30 * DAY)]),
                    "timestamp": chance.choice([None, office.at(DAY)]),
                    "reserve_number": chance.choice("01"),
                }
                sources.append(await office.source(chance.choice(customers), **made))
            elif sources:
                what = chance.choice(["update", "delete", "reactivate", "extend"])
                fields: Record = {"expire": office.at(40 * DAY)} if what == "extend" else {}
                if what == "update":
                    fields = {"destnr": chance.choice(["+493", None]), "reserve_number": "0"}
                await office.change(chance.choice(sources), what, **fields)
        except RefusedError:
            pass
        await office.partner.find(office.account, "sources", {})
        await _holds(office)


async def _holds(office: Office) -> None:
    records = (await office.partner.find(office.account, "sources", {})).records
    expected = {f"+49301598130{last}": "free" for last in range(5)}
    for record in records:
        if record["status"] != "archived":
            kind = "quarantined" if record["status"] == "quarantined" else "source"
            assert expected[str(record["phonenr"])] == "free", "two sources hold one number"
            expected[str(record["phonenr"])] = f"{kind}:{record['source_id']}"
    assert await office.states() == expected
    free = await office.desk.redis.zrange(keys.free("x"), 0, -1)
    assert sorted(free) == sorted(number for number, state in expected.items() if state == "free")
    for field in ("status", "class", "destnr", "customer_id"):
        for value in {record.get(field) for record in records} - {None}:
            found = await office.partner.find(office.account, "sources", {field: [str(value)]})
            assert [r["source_id"] for r in found.records] == [r["source_id"] for r in records if r.get(field) == value]
    serving = {
        f"{r['destnr']}\0{int(str(r['source_id'])):012d}\0{r['phonenr']}\0{r['timestamp']}\0{r.get('expire') or ''}"
        for r in records
        if r.get("destnr") and r["status"] in ("active", "extended", "upcoming")
    }
    assert set(await office.desk.redis.zrange(keys.destinations("x"), 0, -1)) == serving


async def test_an_account_file_cannot_take_a_number_from_a_source(office: Office) -> None:
    customer = await office.customer()
    await office.source(customer, FIRST)
    pool = ", pools: {p: {replaces: all, numbers: [+493015981300]}}"
    for file in (accounts("[+493015981301]"), accounts("[+493015981301]", pool)):
        with pytest.raises(StoreError, match=r"\+493015981300 is in use \(source:1\)"):
            await office.desk.load(file)
    assert (await office.states())[FIRST] == "source:1"
    (change,) = await office.desk.load(accounts("[+493015981300, +493015981305]"))
    assert change.lines == ("numbers in no pool: +1, −4",)


async def test_a_number_moves_between_a_pool_and_the_free_ones(office: Office) -> None:
    pool = ", pools: {p: {replaces: all, numbers: [+493015981300]}}"
    await office.desk.load(accounts("[+493015981301]", pool))
    assert await office.states() == {FIRST: "pool:p", "+493015981301": "free"}
    assert (await office.desk.ask("x", "+4930777")).numbers == [FIRST]
    await office.desk.load(accounts("[+493015981300, +493015981301]"))
    assert await office.states() == {FIRST: "free", "+493015981301": "free"}
    customer = await office.customer()
    office.desk.clock.advance(15 * 60 - 1)  # its lease ended there and then; it cools down for 15 minutes
    with pytest.raises(RefusedError, match="taken"):
        await office.source(customer, FIRST)
    office.desk.clock.advance(1)
    assert (await office.source(customer, FIRST))["phonenr"] == FIRST


async def test_a_load_and_a_source_at_once(office: Office) -> None:
    """A number that a source took since the file was compared stays the source's, and the load changes nothing."""
    customer = await office.customer()
    changes = await inventory.compare(office.desk.store, account_file.parse(accounts("[+493015981301]").encode()))
    await office.source(customer, FIRST)
    with pytest.raises(StoreError, match="load again"):
        await inventory.apply(office.desk.store, changes)
    assert (await office.states())[FIRST] == "source:1"


# Sources in time ------------------------------------------------------------------------------------------------------


async def test_a_source_goes_through_its_statuses_by_the_clock(office: Office) -> None:
    customer = await office.customer()
    source = await office.source(customer, timestamp=office.at(DAY), expire=office.at(3 * DAY))
    expected = [(0, "upcoming"), (1, "active"), (2, "quarantined"), (59.9, "quarantined"), (0.1, "archived")]
    for days, status in expected:
        office.desk.clock.advance(days * DAY)
        assert await office.status(source) == status
        by_status = await office.partner.find(office.account, "sources", {"status": [status]})
        assert [record["source_id"] for record in by_status.records] == [source["source_id"]]


async def test_what_time_has_changed_is_true_for_everybody(office: Office) -> None:
    """Nobody has asked for the source since it ended: its number is free for static numbers and loads all the same."""
    customer = await office.customer()
    await office.source(customer, FIRST, expire=office.at(DAY))
    office.desk.clock.advance(70 * DAY)
    static = StaticNumbers(office.desk.store, None)
    (shown,), _ = await static.read(office.account, [FIRST])
    assert shown == {}
    await static.change(office.account, "create", FIRST, {"poolName": "p"})
    second = await office.source(customer, "+493015981301", expire=office.at(DAY))
    office.desk.clock.advance(70 * DAY)
    await office.desk.load(accounts("[+493015981300, +493015981302]"))
    assert await office.states() == {FIRST: "static", "+493015981302": "free"}
    assert await office.status(second) == "archived"
    third = await office.source(customer, expire=office.at(DAY))
    office.desk.clock.advance(2 * DAY)
    await office.partner.delete_customer(office.account, customer)
    assert await office.status(third) == "quarantined"


async def test_a_thousand_sources_end_at_one_moment(office: Office) -> None:
    await office.desk.load(accounts("[+493015970000..+493015971000]"))
    customer, end = await office.customer(), office.at(DAY)
    made = [await office.source(customer, expire=end) for _ in range(1001)]
    office.desk.clock.advance(DAY)
    with pytest.raises(RefusedError, match="status"):
        await office.change(made[-1], "extend", expire=office.at(DAY))
    found = await office.partner.find(office.account, "sources", {"status": ["quarantined"]}, most=1)
    assert found.total == 1001


async def test_a_reserved_number_serves_once_it_is_not_reserved_any_more(office: Office) -> None:
    source = await office.source(await office.customer(), reserve_number="1")
    assert source["status"] == "reserved"
    assert await office.desk.redis.zcard(keys.destinations("x")) == 0
    assert (await office.change(source, "update", reserve_number="0"))["status"] == "active"
    assert await office.desk.redis.zcard(keys.destinations("x")) == 1


async def test_extending_needs_an_expiry_and_a_later_one(office: Office) -> None:
    customer = await office.customer()
    source = await office.source(customer, expire=office.at(DAY))
    for expire in (office.at(DAY), office.at(DAY / 2), office.at(-1)):
        with pytest.raises(RefusedError, match="expire"):
            await office.change(source, "extend", expire=expire)
    extended = await office.change(source, "extend", expire=office.at(2 * DAY))
    assert extended["status"] == "extended"
    office.desk.clock.advance(1.5 * DAY)
    assert await office.status(source) == "extended"
    office.desk.clock.advance(0.5 * DAY)
    assert await office.status(source) == "quarantined"
    with pytest.raises(RefusedError, match="status"):
        await office.change(source, "extend", expire=office.at(9 * DAY))
    with pytest.raises(RefusedError, match="endless"):
        await office.change(await office.source(customer), "extend", expire=office.at(DAY))


async def test_a_quarantined_source_can_be_reactivated_and_an_archived_one_cannot(office: Office) -> None:
    source = await office.source(await office.customer(), expire=office.at(DAY))
    with pytest.raises(RefusedError, match="status"):
        await office.change(source, "reactivate")
    office.desk.clock.advance(2 * DAY)
    with pytest.raises(RefusedError, match="status"):
        await office.change(source, "update", name="other")
    back = await office.change(source, "reactivate")
    assert (back["status"], back["expire"], back["phonenr"]) == ("active", None, source["phonenr"])
    await office.change(source, "delete")
    office.desk.clock.advance(60 * DAY)
    for what in ("reactivate", "delete", "update"):
        with pytest.raises(RefusedError, match="status"):
            await office.change(source, what)
