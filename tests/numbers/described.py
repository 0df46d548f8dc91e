"""Requests of the static numbers API whose answers must be as the OpenAPI document has them."""

from typing import Any

import orjson

from edgeproxy.http.openapi.tree import RATE_LIMITS, RETRY_AFTER
from edgeproxy.numbers import handler as numbers_handler
from tests.conftest import Edge
from tests.numbers.bodies import reserve
from tests.openapi import DOCUMENT, resolved, validator

STATIC_NUMBER, FREE = "79990000001", "79990000006"


SENT_WHOLE = reserve(ignoreEarlyMedia=False) | {
    "displayOptions": dict.fromkeys(("source", "medium", "campaign", "content", "keyword"), "x"),
    "poolName": "x",
}


def static_operation(method: str) -> Any:
    return DOCUMENT["paths"][numbers_handler.PATH + method]["post"]


async def ask_static(edge: Edge, method: str, sent: Any, ip: str = "", **headers: str) -> tuple[int, bytes, Any]:
    """Ask as the demo's site unless `headers` (token, site) say otherwise; what was answered is as described."""
    login = {"Access-Token": headers.get("token", "demo-token"), "SiteId": headers.get("site", "1001")}
    raw = sent if isinstance(sent, bytes) else orjson.dumps(sent)
    login["X-Forwarded-For"] = ip or edge.fresh_ip()
    url = edge.manage + numbers_handler.PATH + method
    async with edge.client.post(url, data=raw, headers=login) as response:
        answer, content = await response.read(), response.headers.get("Content-Type")
        described = resolved(static_operation(method)["responses"][str(response.status)])
        documented = described.get("headers", {})
        assert {name for name in (*RATE_LIMITS, *RETRY_AFTER) if name in response.headers} <= documented.keys()
        assert {name for name, about in documented.items() if about.get("required")} <= set(response.headers)
        if "content" in described:
            validator(described["content"][content]["schema"]).validate(orjson.loads(answer))
        else:
            assert answer == b""
        return response.status, answer, response.headers
