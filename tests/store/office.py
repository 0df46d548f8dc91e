"""An account of the partner API, and short words for what tests do with it."""

from typing import Any

from edgeproxy.accounts.account import Account
from edgeproxy.store import keys
from edgeproxy.store.partner import Partner, Record
from tests.conftest import Desk

DAY = 86_400


FIRST = "+493015981300"


def accounts(numbers: str = "[+493015981300..+493015981304]", more: str = "") -> str:
    return f"accounts: {{x: {{secrets: [s], region: DE, numbers: {numbers}, quarantine: 60d, calls_kept: 90d{more}}}}}"


class Office:
    """An account with a customer, and short words for what tests do with it."""

    def __init__(self, desk: Desk, account: Account) -> None:
        self.desk = desk
        self.account = account
        self.partner = Partner(desk.store, None)

    async def customer(self, custnr: str = "1", **fields: str) -> str:
        record: Record = {"name": "a", "custnr": custnr, **fields}
        return str((await self.partner.create_customer(self.account, record))["customer_id"])

    async def source(self, customer: str, number: str = "", /, **fields: str | None) -> Record:
        record: Record = {"customer_id": customer, "name": "s", "timestamp": None, "destnr": "+4930123", **fields}
        return await self.partner.create_source(self.account, record, number)

    async def change(self, source: Record, what: Any, **fields: str | None) -> Record:
        return await self.partner.change_source(self.account, str(source["source_id"]), what, fields)

    async def status(self, source: Record) -> str | None:
        record = await self.partner.get(self.account, "sources", str(source["source_id"]))
        assert record is not None
        return record["status"]

    async def states(self) -> dict[str, str]:
        return dict(await self.desk.redis.hgetall(keys.numbers("x")))

    def at(self, seconds: float) -> str:
        """A moment so many seconds from now, as records hold it."""
        return str(self.desk.clock.now + round(seconds * 1000))
