"""FastAPI, uvicorn and redis-py: the gateway's work on the gateway's store function, one call a request.

It shares the gateway's own parsing, checks and display, so that only the framework and the calls of the store differ.
"""

import functools
import gc
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import redis.asyncio
import uvicorn
from crawleruseragents import is_crawler
from fastapi import FastAPI, Request, Response

from benchmarks.workload import read_account
from edgeproxy.accounts.display import show_number
from edgeproxy.accounts.number import read_number
from edgeproxy.dynamic import signature, wire
from edgeproxy.errors import Fault, Kind
from edgeproxy.http.client_ip import ClientIP, read_client
from edgeproxy.settings import Settings

_known_crawler = functools.lru_cache(16_384)(is_crawler)
_LOOPBACK = Settings.model_validate({"trusted_proxies": ["127.0.0.0/8"]}).trusted_proxies
_CONNECTIONS_MOST = 1024


class Peer:
    """The application; `site` is of `peers.site`."""

    def __init__(self, site: dict[str, Any]) -> None:
        self._site = site
        self._keys: list[str] = site["keys"]
        url = "unix://" + site["store_socket"]
        self._account = read_account(url, site["account"])
        # As many as there are clients: where requests wait for one, redis-py's pool lets some wait for seconds.
        self._redis = redis.asyncio.Redis.from_url(url, protocol=2, driver_info=None, max_connections=_CONNECTIONS_MOST)
        self._client_ip = ClientIP(_LOOPBACK, "x-forwarded-for")
        self._policy = f'"ip";q={site["per_second"]};w=1, "points";q={site["points_daily"]};w=86400'
        self.app = FastAPI(lifespan=self._lifespan, openapi_url=None)
        self.app.post("/api")(self._api)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        _known_crawler("")
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        yield
        await self._redis.aclose()

    async def _api(self, request: Request) -> Response:
        headers: dict[str, str] = {}
        try:
            status, answer = 200, await self._resolve(request, headers)
        except Fault as fault:
            status, answer = fault.kind.status, wire.render_fault(fault)
            if fault.retry_after is not None:
                headers["Retry-After"] = str(fault.retry_after)
        if "x-http-statuses" not in request.headers:
            status = 200
        return Response(answer, status, headers, "application/json")

    async def _resolve(self, request: Request, headers: dict[str, str]) -> bytes:
        content = await request.body()
        tree = wire.parse(content)
        name = wire.account_name(tree)
        account, site = self._account, self._site
        sent = request.headers.getlist("x-sign")
        outcome = signature.verify(content, sent, account.secrets if name == account.name else ())
        if outcome is signature.Outcome.MISSING:
            raise Fault(Kind.MISSING_SIGNATURE)
        if outcome is signature.Outcome.BAD:
            raise Fault(Kind.INVALID_SIGNATURE)
        page = wire.check(tree, content)
        shown, row_pages = [], []
        for text in page.numbers:
            number = read_number(text, account.region)
            if number is not None and (pool := account.pool_for(number, None)) >= 0:
                shown.append((text, number, pool))
                row_pages += [number, pool + 1]
        visitor_ip = read_client(page.request_ip)
        place = {"requestIpAddress": visitor_ip.kept if visitor_ip else "", "parameters": page.parameters}
        context = orjson.dumps(place)[1:-1]
        kept = orjson.dumps(
            {
                "type": "app" if page.is_app else "web",
                "trackingId": page.tracking_id,
                "fullUrl": page.full_url,
                "fullReferrer": page.full_referrer,
            }
        )
        session_id = page.session_id if len(page.session_id) == 36 else ""
        bare = page.dry_run or (not page.is_app and _known_crawler(page.user_agent))
        client = self._client_ip.find(
            request.client.host if request.client else None, tuple(request.headers.getlist("x-forwarded-for"))
        )
        admitted = None  # the places left in the window of a request that joins a session
        while True:
            names, how = list(self._keys), 4 * bare + 8 * (admitted is not None)
            if session_id:
                how += 1
                names.append(site["session_prefix"] + session_id)
            names.append(f"{site['session_prefix']}{uuid.uuid4()}")
            if page.tracking_id:
                how += 2
                names.append(site["visitor_prefix"] + page.tracking_id)
            raw = await self._redis.execute_command(  # type: ignore[no-untyped-call]
                "FCALL", site["function"], len(names), *names, 0, site["head"], 0,
                client.counted, how, orjson.dumps(page.user_agent), context, kept, len(row_pages) // 2, *row_pages,
            )  # fmt: skip
            reply = orjson.loads(raw)
            if "results" not in reply:
                raise Fault(Kind.STORE_UNAVAILABLE)
            code, *rest = reply["results"][0]
            if code != 4:
                break
            admitted, session_id = rest  # its places left, and the session
        day_left_s = -(-(reply["day_end"] - reply["now"]) // 1000)
        left = admitted if admitted is not None else rest[0] if code == 0 else 0
        headers["RateLimit-Policy"] = self._policy
        points_left = max(0, site["points_daily"] - reply["spent"])
        headers["RateLimit"] = f'"ip";r={left};t=1, "points";r={points_left};t={day_left_s}'
        if code == 1:
            raise Fault(Kind.BLOCKED_IP, account.per_second, retry_after=-(-rest[0] // 1000))
        if code == 2:
            raise Fault(Kind.BUDGET_EXHAUSTED, retry_after=day_left_s)
        if code == 3:
            raise Fault(Kind.NO_POOL)
        replaced = [
            (
                text,
                number,
                show_number(number, account.displays.get(number), account.pools[pool].pattern, text, on_page),
            )
            for (text, on_page, pool), number in zip(shown, rest[2:], strict=True)
            if isinstance(number, str)
        ]
        return wire.render(replaced, rest[1])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            print(f"edge: http://127.0.0.1:{listener.getsockname()[1]}\nready", flush=True)


def _main() -> None:
    peer = Peer(orjson.loads(Path(sys.argv[1]).read_bytes()))
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(
        peer.app, loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning", backlog=4096,
        timeout_keep_alive=75, proxy_headers=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
    _Server(config).run([listener])


if __name__ == "__main__":
    _main()
