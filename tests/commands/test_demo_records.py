"""What the demo has in store: filled once, and again without harm whatever became of it."""

from typing import Any

import pytest

from edgeproxy.commands import demo_records as demo
from edgeproxy.errors import RefusedError
from edgeproxy.store.calls import Calls
from edgeproxy.store.erasure import erase
from edgeproxy.store.functions import Functions
from edgeproxy.store.numbers import StaticNumbers
from edgeproxy.store.partner import Partner, Record
from tests.conftest import DEMO, Desk


async def contents(desk: Desk) -> dict[str, Any]:
    account, partner = await desk.account("demo"), Partner(desk.store)
    found: dict[str, Any] = {}
    for resource in ("customers", "sources", "greetings"):
        found[resource] = (await partner.find(account, resource, {})).records
    cdrs = await partner.cdrs(account, {}, from_ms=None, to_ms=None, skip=0, most=100, newest_first=False)
    found["cdrs"] = cdrs.records
    found["static"] = await StaticNumbers(desk.store).in_use(account)
    return found


@pytest.fixture
async def filled(desk: Desk) -> Desk:
    await desk.load(DEMO)
    await demo.fill(desk.store)
    return desk


async def test_filling_again_changes_nothing(filled: Desk) -> None:
    before = await contents(filled)
    assert {name: len(records) for name, records in before.items()} == {
        "customers": 2, "sources": 4, "greetings": 1, "cdrs": 20, "static": 5,
    }  # fmt: skip
    await demo.fill(filled.store)
    assert await contents(filled) == before


async def test_it_is_filled_again_after_its_sources_and_a_customer_were_deleted(filled: Desk) -> None:
    account, partner = await filled.account("demo"), Partner(filled.store, None)
    for source_id in ("643967", "643968"):
        await partner.change_source(account, source_id, "delete", {})
    await partner.delete_customer(account, "1")
    await demo.fill(filled.store)
    found = await contents(filled)
    assert {customer["customer_id"] for customer in found["customers"]} == {"1", "407390"}
    sources = {source["source_id"]: source["status"] for source in found["sources"]}
    assert sources == {"643967": "quarantined", "643968": "quarantined", "643969": "active", "643970": "active"}
    assert len(found["greetings"]) == 1


async def test_it_is_filled_again_around_what_users_made_of_its_numbers(filled: Desk) -> None:
    account = await filled.account("demo")
    partner, static = Partner(filled.store, None), StaticNumbers(filled.store, None)
    await partner.update_customer(account, "1", {"name": "Mine"})
    await static.change(account, "delete", "+79990000001", {}, free_of_charge=True)
    source: Record = {"name": "x", "customer_id": "1", "destnr": "+493012345609"}
    await partner.create_source(account, source, "+79990000001")
    await static.change(account, "update", "+79990000002", {"poolName": "Mine"}, free_of_charge=True)
    await demo.fill(filled.store)
    found = await contents(filled)
    assert [customer["name"] for customer in found["customers"] if customer["customer_id"] == "1"] == ["Mine"]
    assert found["static"].keys() == {f"+7999000000{last}" for last in range(2, 6)}
    assert found["static"]["+79990000002"]["poolName"] == "Mine"


async def test_an_erased_caller_does_not_come_back(filled: Desk) -> None:
    account = await filled.account("demo")
    receipt = await erase(Calls(filled.store), account, caller="+493090182000")
    assert receipt.calls == 3
    before = await contents(filled)
    await demo.fill(filled.store)
    assert await contents(filled) == before


@pytest.mark.parametrize("after", [1, 3, 7, 10, 20, 28, 30])
async def test_what_a_crashed_filling_left_out_is_made_up_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    await desk.load(DEMO)
    write, written = Functions.write, 0

    async def crashes(self: Functions, *arguments: Any) -> dict[str, Any]:
        nonlocal written
        written += 1
        if written > after:
            raise KeyboardInterrupt
        return await write(self, *arguments)

    monkeypatch.setattr(Functions, "write", crashes)
    with pytest.raises(KeyboardInterrupt):
        await demo.fill(desk.store)
    monkeypatch.undo()
    await demo.fill(desk.store)
    assert [len(records) for records in (await contents(desk)).values()] == [2, 4, 1, 20, 5]


async def test_a_refusal_that_no_user_can_cause_is_not_passed_over(filled: Desk) -> None:
    await filled.load(DEMO.read_text().replace("+79990000001..+79990000010", "+79990000001..+79990000005"))
    account = await filled.account("demo")
    static = StaticNumbers(filled.store, None)
    await static.change(account, "delete", "+79990000005", {}, free_of_charge=True)
    await filled.load(DEMO.read_text().replace("+79990000001..+79990000010", "+79990000001..+79990000004"))
    with pytest.raises(RefusedError, match="missing"):
        await demo.fill(filled.store)
