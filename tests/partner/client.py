"""A client of the demo's partner API, logged in by Digest or telling its proof itself."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from aiohttp import DigestAuthMiddleware
from yarl import URL

from edgeproxy.commands import demo_records as demo
from edgeproxy.partner import digest
from edgeproxy.store import Store
from tests.conftest import Edge, serving
from tests.servers import configured

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Api:
    """The demo's partner API, and a client that is logged in."""

    edge: Edge
    client: aiohttp.ClientSession

    def url(self, target: str) -> URL:
        return URL(f"{self.edge.manage}/2.4.9/{target}", encoded=True)

    async def call(
        self, method: str, target: str, data: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and decoded JSON; a dict is sent as a form."""
        async with self.client.request(method, self.url(target), data=data, headers=headers) as response:
            return response.status, orjson.loads(await response.read())

    async def good(self, method: str, target: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
        status, tree = await self.call(method, target, data, headers)
        assert status == 200, tree
        return tree


@contextlib.asynccontextmanager
async def logged_in(store_url: str) -> AsyncIterator[Api]:
    """The demo is served, and one of its users is logged in."""
    async with serving(store_url, allow_plain_http=True) as edge:
        async with Store(store_url) as store:
            await demo.fill(store)
        login = DigestAuthMiddleware(demo.USER, demo.PASSWORD)
        with configured(store_url, appendfsync="always"):
            async with aiohttp.ClientSession(middlewares=[login]) as client:
                yield Api(edge, client)


def authorization(
    method: str, uri: str, challenge: str, *, count: int = 1, password: str = demo.PASSWORD, **changes: str
) -> str:
    """What a client answers to a challenge; `changes` are of its parts."""
    parts = dict(part.split("=", 1) for part in challenge.removeprefix("Digest ").split(", "))
    algorithm = changes.get("algorithm", parts["algorithm"])
    said = {"username": demo.USER, "realm": "edgeproxy", "nonce": parts["nonce"].strip('"'), "uri": uri} | changes
    credentials = digest.Credentials(said["username"], said["nonce"], said["uri"], "", algorithm, f"{count:08x}", "c")
    proof = digest.response(credentials, digest.ha1(algorithm, said["username"], said["realm"], password), method)
    listed = ", ".join(f'{name}="{value}"' for name, value in said.items() if name != "algorithm")
    return f'Digest {listed}, response="{proof}", algorithm={algorithm}, qop=auth, nc={count:08x}, cnonce="c"'


async def challenge(api: Api, target: str = "miscellaneous/ping") -> list[str]:
    async with api.edge.client.get(api.url(target)) as response:
        assert response.status == 401
        return response.headers.getall("WWW-Authenticate")


async def bare(api: Api, target: str, header: str, method: str = "GET", **headers: str) -> tuple[int, str, list[str]]:
    """A request with that Authorization: status, body, challenges."""
    sent = {"Authorization": header} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.edge.client.request(method, api.url(target), headers=sent) as response:
        return response.status, await response.text(), response.headers.getall("WWW-Authenticate", [])


JSON = {"Content-Type": "application/json"}
