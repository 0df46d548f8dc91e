"""A new API is one entry in the list of rooms: its routes, its description and its metrics follow from it."""

from types import ModuleType
from typing import cast

from aiohttp import web

from edgeproxy.http.endpoint import Call, Endpoint, OwnFaults, Refusal
from edgeproxy.http.openapi.tree import MANAGE, Tree, plain, sample
from edgeproxy.http.room import Description, Room
from edgeproxy.node.rooms import ROOMS
from tests.conftest import Edge, serving


class EchoAPI(Endpoint):
    NAME = "echo"
    OWN_FAULTS = OwnFaults(503, "not durable", "uncertain", "{}", "our fault")

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/echo", self.handle)]

    async def answer(self, call: Call) -> web.Response:
        _, body = await self.take_in(call, 10)
        if body == b"break":
            raise RuntimeError
        return web.Response(body=body)

    def refuse(self, call: Call, refusal: Refusal) -> web.Response:
        return web.Response(status=refusal.status, text="\n".join(refusal.errors), headers=refusal.headers)


def paths(_: str) -> Tree:
    operation = {
        "operationId": "echo",
        "tags": ["echo"],
        "summary": "Hear it again",
        "security": [{"accessToken": []}],
        "x-codeSamples": [sample(f"curl -sS {MANAGE}/echo -H 'Access-Token: demo-token' -d hello")],
        "responses": {"200": plain("It.")},
    }
    return {"/echo": {"post": operation}}


echo = ModuleType("edgeproxy.echo.openapi")
echo.__dict__.update(
    GROUP="Echo", ABOUT="", TAGS={"echo": "What was said."}, SECURITY={}, paths=paths, schemas=dict, responses=dict
)
WITH_ECHO = (*ROOMS, Room(cast("Description", echo), manage=EchoAPI))


async def say(edge: Edge, body: bytes, token: str = "demo-token") -> tuple[int, str]:
    headers = {"Access-Token": token, "X-Forwarded-For": edge.fresh_ip()}
    async with edge.client.post(f"{edge.manage}/echo", data=body, headers=headers) as response:
        return response.status, await response.text()


async def get(edge: Edge, path: str) -> str:
    async with edge.client.get(edge.manage + path) as response:
        assert response.status == 200
        return await response.text()


async def test_a_room_in_the_list_is_served_described_and_counted(store_url: str) -> None:
    async with serving(store_url, rooms=WITH_ECHO) as edge:
        assert await say(edge, b"hello") == (200, "hello")
        assert await say(edge, b"hello", "a-guess") == (401, "Access-Token: is missing or unknown")
        assert await say(edge, b"more than ten") == (400, "the body is larger than 10 bytes")
        assert await say(edge, b"break") == (500, "our fault")
        assert '"/echo"' in await get(edge, "/openapi.json")
        assert "Hear it again" in await get(edge, "/docs")
        metrics = await get(edge, "/metrics")
    for status, count in ((200, 1), (401, 1), (400, 1), (500, 1), (503, 0)):
        assert f'edgeproxy_echo_requests_total{{status="{status}"}} {count}.0\n' in metrics
    assert 'edgeproxy_api_request_seconds_count{api="echo"} 4.0\n' in metrics


async def test_a_room_that_is_not_in_the_list_is_not_there(edge: Edge) -> None:
    assert (await say(edge, b"hello"))[0] == 404
    assert "echo" not in await get(edge, "/metrics")
