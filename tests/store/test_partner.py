"""Customers, greetings, call records and logins in the store: no lost writes."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from edgeproxy.accounts import file as account_file
from edgeproxy.errors import Fault, NotDurableError, RefusedError, UncertainError
from edgeproxy.store import Store, connections, functions, inventory, keys
from edgeproxy.store.calls import Calls
from edgeproxy.store.calls import Record as CallRecord
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.partner import Partner, Record
from tests.conftest import far
from tests.servers import calls, on_primaries, tells_what_is_on_disk
from tests.store.office import DAY, Office, accounts

# Customers and their greetings ----------------------------------------------------------------------------------------


async def test_concurrent_changes_of_different_fields_lose_neither(office: Office) -> None:
    customer = await office.customer()
    fields = [f"custom_{n}" for n in range(1, 21)]
    await asyncio.gather(
        *(office.partner.update_customer(office.account, customer, {field: field}) for field in fields)
    )
    record = await office.partner.get(office.account, "customers", customer)
    assert record is not None
    assert [record[field] for field in fields] == fields


async def test_a_customer_with_sources_in_use_stays(office: Office) -> None:
    customer = await office.customer()
    source = await office.source(customer)
    greeting = await office.partner.create_greeting(office.account, {"customer_id": customer, "name": "g"}, b"AAAA")
    with pytest.raises(RefusedError, match="in use"):
        await office.partner.delete_customer(office.account, customer)
    await office.change(source, "delete")
    await office.partner.delete_customer(office.account, customer)
    assert await office.partner.get(office.account, "customers", customer) is None
    assert await office.partner.get(office.account, "greetings", str(greeting["vm_greeting_id"])) is None
    assert await office.desk.redis.exists(keys.sounds("x")) == 0
    assert await office.status(source) == "quarantined"
    with pytest.raises(RefusedError, match="missing"):
        await office.partner.update_customer(office.account, customer, {"name": "b"})


async def test_a_source_comes_back_only_to_a_customer_and_without_a_greeting_that_is_gone(office: Office) -> None:
    customer = await office.customer()
    greeting = await office.partner.create_greeting(office.account, {"customer_id": customer, "name": "g"}, b"AAAA")
    source = await office.source(customer, vm_greeting_id=str(greeting["vm_greeting_id"]))
    await office.change(source, "delete")
    await office.partner.delete_greeting(office.account, customer, str(greeting["vm_greeting_id"]))
    assert (await office.change(source, "reactivate"))["vm_greeting_id"] is None
    await office.change(source, "delete")
    await office.partner.delete_customer(office.account, customer)
    with pytest.raises(RefusedError, match="customer"):
        await office.change(source, "reactivate")


async def test_an_account_keeps_as_much_as_it_may(office: Office) -> None:
    await office.desk.load(accounts(more=", most: {customers: 2, sources: 1, sound_mb: 1}"))
    office.desk.store.forget("x")
    office.account = await office.desk.account("x")
    customer = await office.customer()
    await office.customer()
    with pytest.raises(RefusedError, match="full"):
        await office.customer()
    source = await office.source(customer)
    await office.change(source, "delete")
    with pytest.raises(RefusedError, match="full"):
        await office.source(customer)
    record: Record = {"customer_id": customer, "name": "g"}
    big = await office.partner.create_greeting(office.account, record, b"A" * 900_000)
    with pytest.raises(RefusedError, match="full"):
        await office.partner.create_greeting(office.account, record, b"A" * 100_001)
    small = await office.partner.create_greeting(office.account, record, b"A" * 100_000)
    changed = ("vm_greeting_id", b"A" * 100_001)
    with pytest.raises(RefusedError, match="full"):
        await office.partner.update_greeting(office.account, customer, str(small[changed[0]]), {}, changed[1])
    await office.partner.delete_greeting(office.account, customer, str(big["vm_greeting_id"]))
    await office.partner.update_greeting(office.account, customer, str(small[changed[0]]), {}, changed[1])
    await office.partner.delete_customer(office.account, customer)
    assert await office.desk.redis.hget(keys.ids("x"), "sound_bytes") == "0"


async def test_a_greeting_belongs_to_its_customer_and_stays_while_a_source_uses_it(office: Office) -> None:
    mine, other = await office.customer("1"), await office.customer("2")
    greeting = await office.partner.create_greeting(office.account, {"customer_id": mine, "name": "g"}, b"AAAA")
    greeting_id = str(greeting["vm_greeting_id"])
    for call in (
        office.partner.delete_greeting(office.account, other, greeting_id),
        office.partner.update_greeting(office.account, other, greeting_id, {"name": "h"}, None),
    ):
        with pytest.raises(RefusedError, match="missing"):
            await call
    with pytest.raises(RefusedError, match="greeting"):
        await office.source(other, vm_greeting_id=greeting_id)
    source = await office.source(mine, vm_greeting_id=greeting_id)
    with pytest.raises(RefusedError, match="in use"):
        await office.partner.delete_greeting(office.account, mine, greeting_id)
    await office.change(source, "delete")
    await office.partner.delete_greeting(office.account, mine, greeting_id)


async def test_a_customer_has_a_hundred_greetings_at_most(office: Office) -> None:
    record: Record = {"customer_id": await office.customer(), "name": "g"}
    for _ in range(100):
        await office.partner.create_greeting(office.account, record, b"AAAA")
    with pytest.raises(RefusedError, match="many"):
        await office.partner.create_greeting(office.account, record, b"AAAA")


# Lists ----------------------------------------------------------------------------------------------------------------


async def test_pages_of_ten_thousand_customers_cost_as_much_as_pages_of_a_hundred(office: Office) -> None:
    async def commands(skip: int) -> int:
        with office.desk.servers() as client:
            on_primaries(client, "CONFIG RESETSTAT")
            found = await office.partner.find(office.account, "customers", {}, skip=skip, most=50)
            assert len(found.records) == 50
            return calls(client)

    for n in range(100):
        await office.customer(str(n))
    few = await commands(0)
    for start in range(100, 10_000, 500):
        await asyncio.gather(*(office.customer(str(n)) for n in range(start, min(start + 500, 10_000))))
    assert {await commands(skip) for skip in (0, 5_000, 9_950)} == {few}
    found = await office.partner.find(office.account, "customers", {}, skip=9_990, most=1000)
    assert [record["customer_id"] for record in found.records] == [str(n) for n in range(9_991, 10_001)]
    assert found.total == 10_000


async def test_filters_find_by_any_of_a_field_s_values_and_by_all_fields(office: Office) -> None:
    customers = [await office.customer(str(n)) for n in range(2)]
    made = [
        await office.source(customers[n % 2], destnr="+491" if n < 3 else "+492", **{"class": str(n % 3)})
        for n in range(5)
    ]

    async def find(*, skip: int = 0, most: int = 1000, **filters: list[str]) -> tuple[int, list[int]]:
        found = await office.partner.find(office.account, "sources", filters, skip=skip, most=most)
        return found.total, [made.index(record) for record in found.records]

    assert await find(customer_id=[customers[0]]) == (3, [0, 2, 4])
    assert await find(destnr=["+491"], customer_id=[customers[0]]) == (2, [0, 2])
    assert await find(destnr=["+491"], customer_id=[customers[0]], skip=1, most=1) == (2, [2])
    assert await find(customer_id=customers, skip=2, most=2) == (5, [4, 1])
    assert await find(customer_id=[]) == (0, [])
    assert await find(destnr=["+49"]) == (0, [])
    assert await find(status=["active", "extended"], destnr=["+492"]) == (2, [3, 4])


async def test_several_filters_look_through_the_narrowest_in_pieces(office: Office) -> None:
    await office.desk.load(accounts("[+493015970000..+493015970249]"))
    customer = await office.customer()
    made = [
        await office.source(customer, destnr="+491" if n % 2 else "+492", **{"class": str(n % 3)}) for n in range(250)
    ]
    filters = {"destnr": ["+491"], "class": ["0", "1"], "status": ["active"]}
    expected = [record for record in made if record["destnr"] == "+491" and record["class"] != "2"]
    found = await office.partner.find(office.account, "sources", filters)
    assert (found.total, found.records) == (len(expected), expected)
    page = await office.partner.find(office.account, "sources", filters, skip=80, most=2)
    assert (page.total, page.records) == (len(expected), expected[80:82])


# Call records ---------------------------------------------------------------------------------------------------------


async def call(office: Office, start: float, **fields: str) -> str:
    calls = Calls(office.desk.store, None)
    caller = await calls.caller(office.account, fields.pop("caller", "+49301234567"))
    record: Record = {"customer_id": "1", "source_id": "2", "custnr": "c", **caller, **fields}
    cdr_id = await calls.next_cdr_id(office.account)
    done = CallRecord(int(office.at(start)), record)
    before = await calls.known(office.account, f"call-{cdr_id}")
    assert await calls.put(office.account, before, {"cdr_id": cdr_id}, record=done)
    return cdr_id


async def test_call_records_by_time_and_by_what_they_belong_to(office: Office) -> None:
    ids = [await call(office, -hours * 3600, source_id=str(hours % 2)) for hours in range(6, 0, -1)]

    async def find(
        skip: int = 0, most: int = 1000, newest: bool = False, **filters: Any
    ) -> tuple[int, list[str | None]]:
        start, end = filters.pop("start", None), filters.pop("end", None)
        found = await office.partner.cdrs(
            office.account, filters,
            from_ms=start and int(office.at(start)), to_ms=end and int(office.at(end)),
            skip=skip, most=most, newest_first=newest,
        )  # fmt: skip
        return found.total, [record["cdr_id"] for record in found.records]

    assert await find() == (6, ids)
    assert await find(newest=True) == (6, ids[::-1])
    assert await find(skip=1, most=2) == (6, ids[1:3])
    assert await find(skip=1, most=2, newest=True) == (6, [ids[4], ids[3]])
    assert await find(skip=9) == (6, [])
    assert await find(start=-5 * 3600, end=-2 * 3600) == (3, ids[1:4])
    assert await find(source_id="1") == (3, ids[1::2])
    assert await find(source_id="1", custnr="c", start=-4 * 3600) == (2, [ids[3], ids[5]])
    assert await find(source_id="1", custnr="c", newest=True, most=1) == (3, [ids[5]])
    assert await find(source_id="1", custnr="d") == (0, [])


async def test_a_call_record_holds_the_caller_masked_and_as_a_salted_hash(office: Office) -> None:
    first, again, other = await call(office, -3), await call(office, -2), await call(office, -1, caller="+49301234568")
    records = [await office.partner.cdr(office.account, cdr_id) for cdr_id in (first, again, other)]
    assert [record and record["anum"] for record in records] == ["+49301234xxx"] * 3
    hashes = [record and record["anum_md5"] for record in records]
    assert hashes[0] == hashes[1] != hashes[2]
    everything = str([await office.desk.redis.get(key) for key in await office.desk.redis.keys("*cdr:*")])
    assert "1234567" not in everything
    assert len(await office.desk.redis.hget(keys.account("x"), "salt")) == 32


async def test_call_records_are_kept_as_long_as_the_account_says(office: Office) -> None:
    old = await call(office, -89 * DAY)
    assert 0 < await office.desk.redis.pttl(keys.cdr("x", old)) <= DAY * 1000
    await call(office, -91 * DAY)
    assert (await office.desk.redis.zrange(keys.cdrs("x"), 0, -1)) == [old]
    office.desk.clock.advance(2 * DAY)
    recent = await call(office, 0)
    assert (await office.desk.redis.zrange(keys.cdrs("x"), 0, -1)) == [recent]
    assert await office.desk.redis.pttl(keys.cdrs("x")) > 89 * DAY * 1000


# Durability, faults ---------------------------------------------------------------------------------------------------


async def test_a_write_waits_for_the_disk(office: Office) -> None:
    with office.desk.servers() as client:
        if not tells_what_is_on_disk(client):
            pytest.skip("this server cannot tell what is on disk")
        on_primaries(client, "CONFIG RESETSTAT")
        durable = Partner(office.desk.store)
        await durable.create_customer(office.account, {"name": "a", "custnr": "1"})
        assert calls(client, "waitaof") == 1


async def test_a_write_that_too_few_replicas_have_is_told_apart(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "_DURABLE_MS", 50)
    wanting = Partner(office.desk.store, 9)
    with pytest.raises(NotDurableError):
        await wanting.create_customer(office.account, {"name": "a", "custnr": "1"})
    assert (await office.partner.find(office.account, "customers", {})).total == 1


async def test_a_write_whose_reply_is_lost_is_not_said_to_have_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE_S", 0.3)
    with EmbeddedStore(tmp_path) as embedded:
        async with Store(embedded.url) as store:
            await inventory.apply(store, await inventory.compare(store, account_file.parse(accounts().encode())))
            account = await store.account("x", far())
            assert account is not None
            partner = Partner(store, None)
            pid = embedded.pid
            os.kill(pid, signal.SIGSTOP)
            try:
                with pytest.raises(UncertainError):
                    await partner.create_customer(account, {"name": "a", "custnr": "1"})
                with pytest.raises(Fault):
                    await partner.find(account, "customers", {})
            finally:
                os.kill(pid, signal.SIGCONT)
            while (await partner.find(account, "customers", {})).total != 1:
                await asyncio.sleep(0.01)


async def test_functions_that_the_store_lost_are_loaded_again(office: Office) -> None:
    await office.desk.redis.function_flush()
    assert await office.customer() == "1"
