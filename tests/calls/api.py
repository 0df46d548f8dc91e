"""The calls API of one account, and what the store keeps of its calls."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from edgeproxy.store.partner import Partner, Record
from tests.conftest import Clock, Desk, Edge, serving, web_request
from tests.servers import configured

LOGIN = {"Access-Token": "x-token-x"}


PAGE, SHARED_PAGE = "+4930111", "+4930222"


NUMBER = "+493015981400"


ACCOUNT = """
accounts:
  x:
    secrets: [s]
    region: DE
    numbers: [+493015981300..+493015981304]
    static: {site: "1", tokens: [x-token-x]}
    pools:
      p: {replaces: [+4930111], numbers: [+493015981400], on_call: %s}
      few: {replaces: [+4930222], numbers: [+493015981410], overflow: shared, shared_number: +493015981419}
"""


@dataclass
class Api:
    """The calls API of account x."""

    edge: Edge
    clock: Clock

    async def send(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else None
        async with self.edge.client.request(
            method, self.edge.manage + target, data=raw, headers=LOGIN if headers is None else headers
        ) as response:
            return response.status, orjson.loads(await response.read())

    async def lookup(self, number: str, at: str = "") -> Any:
        query = f"?number={number.replace('+', '%2B')}" + (f"&at={at}" if at else "")
        status, tree = await self.send("GET", "/calls/lookup" + query)
        assert status == 200, tree
        return tree

    async def event(self, call_id: str, event: str, **fields: Any) -> Any:
        status, tree = await self.send("POST", "/calls", {"call_id": call_id, "event": event, **fields})
        assert status == 200, tree
        return tree

    async def visit(self, numbers: str = PAGE, **changes: Any) -> str:
        _, answer, _ = await self.edge.post(web_request(advId="x", numbers=numbers, **changes), "s")
        return str(answer["sessionId"])


@contextlib.asynccontextmanager
async def account_served(store_url: str, clock: Clock, desk: Desk) -> AsyncIterator[Edge]:
    """A gateway whose store holds the account, and whose moments are the clock's."""
    async with serving(store_url, clock=clock) as edge:
        with configured(store_url, appendfsync="always"):  # or each write waits for the second to turn
            await desk.load(ACCOUNT % "keep")
            yield edge


async def cdrs(desk: Desk) -> list[Record]:
    account = await desk.account("x")
    found = await Partner(desk.store, None).cdrs(
        account, {}, from_ms=None, to_ms=None, skip=0, most=1000, newest_first=False
    )
    return found.records


async def kept(desk: Desk, which: str = "*") -> str:
    """All keys of the account, and what is in them; or those whose names are such."""
    found: list[Any] = []
    async for key in desk.redis.scan_iter(f"ep1:{{x}}:{which}"):
        match await desk.redis.type(key):
            case "stream":
                value = await desk.redis.xrange(key)
            case "hash":
                value = await desk.redis.execute_command("HGETALL", key, NEVER_DECODE=True)
            case "zset":
                value = await desk.redis.zrange(key, 0, -1, withscores=True)
            case _:
                value = await desk.redis.execute_command("GET", key, NEVER_DECODE=True)  # msgpack, some
        found.append((key, value))
    return str(found)
