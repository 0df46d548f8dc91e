"""Requests for every row of the table of statuses."""

from typing import Any

from edgeproxy.store import Store
from tests.conftest import Clock, Desk, Edge, web_request
from tests.servers import configured

TINY = {"advId": "tiny", "numbers": "+442079460000"}


async def blocked(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    for _ in range(5):
        await edge.post(web_request(), ip="192.0.2.5")
    return await edge.post(web_request(), ip="192.0.2.5", **options)


async def exhausted(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    for _ in range(20):
        assert (await edge.post(web_request(**TINY), "tiny-key"))[0] == 200
    return await edge.post(web_request(**TINY), "tiny-key", **options)


async def storeless(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    await edge.post(web_request())
    with configured(edge.gateway._store._url, maxmemory="1"):
        return await edge.post(web_request(), **options)


async def faulty(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    (handler,) = edge.gateway._apis
    handler._memory = None  # type: ignore[attr-defined]
    return await edge.post(web_request(), **options)


async def poolless(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    async with Store(edge.gateway._store._url) as store:
        await Desk(store, Clock(), iter(())).load("accounts: {bare: {secrets: [bare-key], region: DE}}")
    return await edge.post(web_request(advId="bare"), "bare-key", **options)


STATUS_TABLE = [
    (200, None, lambda edge, **options: edge.post(web_request(), **options)),
    (400, "Malformed JSON", lambda edge, **options: edge.post(b"{", **options)),
    (400, "Body too large", lambda edge, **options: edge.post(b"x" * 16385, **options)),
    (400, "Missing parameter: advId", lambda edge, **options: edge.post(b"{}", **options)),
    (
        400,
        "Invalid parameter: type: must be web or app",
        lambda edge, **options: edge.post(web_request(type="tel"), **options),
    ),
    (403, "Missing signature", lambda edge, **options: edge.post(web_request(), None, **options)),
    (403, "Invalid signature", lambda edge, **options: edge.post(web_request(), "wrong", **options)),
    (403, "Invalid signature", lambda edge, **options: edge.post(web_request(advId="nobody"), **options)),
    (403, "Blocked IP: more than 5 requests per second", blocked),
    (403, "Daily point budget exhausted", exhausted),
    (500, "Store unavailable", storeless),
    (500, "Internal error", faulty),
    (501, "No number pool is configured", poolless),
]
