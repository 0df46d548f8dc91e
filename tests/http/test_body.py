"""What the static numbers API and the calls API have in common: bodies within bounds, and access tokens."""

import asyncio
import gzip
import io
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from edgeproxy.calls import handler as calls
from edgeproxy.calls.handler import CallsAPI
from edgeproxy.http.endpoint import Endpoint
from edgeproxy.numbers import handler as numbers
from edgeproxy.numbers.handler import NumbersAPI
from edgeproxy.store import access
from tests.conftest import DEMO, Desk, Edge, serving

NUMBER = "79990000006"


@dataclass(frozen=True)
class Api:
    """One of the two, with a body that it takes, and how to find an error's text in its answers."""

    endpoint: type[Endpoint]
    path: str
    most: int
    body: dict[str, Any]

    def error(self, answer: Any) -> str:
        text = answer["errors"][0] if self.endpoint is CallsAPI else answer["data"]["apiErrorData"]["errorMessage"]
        return str(text)


APIS = [
    Api(NumbersAPI, numbers.PATH + "create", 64 * 1024, {"phoneNumber": NUMBER, "poolName": "p"}),
    Api(CallsAPI, calls.PATH, 16 * 1024, {"call_id": "c-1", "event": "started", "number": "+" + NUMBER}),
]
apis = pytest.mark.parametrize("api", APIS, ids=["static", "calls"])


async def post(edge: Edge, api: Api, body: Any, *, ip: str = "", **headers: str) -> tuple[int, Any]:
    login = {"Access-Token": "demo-token", "SiteId": "1001", "X-Forwarded-For": ip or edge.fresh_ip()}
    async with edge.client.post(edge.manage + api.path, data=body, headers=login | headers) as response:
        assert response.content_type in ("application/json", "application/octet-stream")
        content = await response.read()
        return response.status, orjson.loads(content) if content else None


@apis
async def test_a_body_that_announces_too_much_is_refused_before_it_comes(edge: Edge, api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.manage.rpartition(":")[2]))
    head = f"POST {api.path} HTTP/1.1\r\nHost: x\r\nAccess-Token: demo-token\r\nSiteId: 1001\r\n"
    writer.write(f"{head}Content-Length: {api.most + 1}\r\n\r\n".encode())
    async with asyncio.timeout(5):
        assert b" 400 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


@apis
@pytest.mark.parametrize("times", [1, 20])
async def test_a_body_that_grows_too_large_is_refused_as_any_bad_body(edge: Edge, api: Api, times: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(times):
            yield b" " * (api.most + 1)

    for body in (pieces(), io.BytesIO(b" " * (api.most + 1) * times)):
        status, answer = await post(edge, api, body)
        assert (status, api.error(answer)) == (400, f"the body is larger than {api.most} bytes")


@apis
async def test_a_body_of_the_largest_size_is_taken(edge: Edge, api: Api) -> None:
    assert (await post(edge, api, orjson.dumps(api.body).ljust(api.most)))[0] == 200


@apis
async def test_a_body_that_is_late_is_refused(edge: Edge, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.endpoint, "BODY_S", 0.1)

    async def late() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(1)

    status, answer = await post(edge, api, late())
    assert (status, api.error(answer)) == (400, "the body did not arrive within 0.1 s")


@apis
async def test_a_body_that_is_not_in_its_encoding_is_refused(edge: Edge, api: Api) -> None:
    status, answer = await post(edge, api, b"no gzip", **{"Content-Encoding": "gzip"})
    assert (status, api.error(answer)) == (400, "the body is not in the encoding that it announces")


@apis
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_packed_body_is_taken_within_the_body_s_limit(edge: Edge, api: Api, coding: str) -> None:
    pack = gzip.compress if coding == "gzip" else zlib.compress
    body = orjson.dumps(api.body)
    status, answer = await post(edge, api, pack(body.ljust(api.most + 1)), **{"Content-Encoding": coding})
    assert (status, api.error(answer)) == (400, f"the body is larger than {api.most} bytes")
    assert (await post(edge, api, pack(body.ljust(api.most)), **{"Content-Encoding": coding}))[0] == 200


@apis
async def test_a_body_in_another_coding_is_refused(edge: Edge, api: Api) -> None:
    status, answer = await post(edge, api, b"?", **{"Content-Encoding": "br"})
    assert (status, api.error(answer)) == (415, "the body's Content-Encoding is not taken: it may be gzip or deflate")


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much each body that began to be inflated gave."""
    begin, given = zlib.decompressobj, list[int]()

    class Decoder:
        def __init__(self, window: int = zlib.MAX_WBITS) -> None:
            self._decoder = begin(window)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._decoder, name)

        def decompress(self, data: bytes, most: int = 0) -> bytes:
            content = self._decoder.decompress(data, most)
            given.append(len(content))
            return content

    monkeypatch.setattr(zlib, "decompressobj", Decoder)
    return given


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/healthz", 405),
        ("/docs", 405),
        (numbers.PATH + "update", 401),
        (numbers.PATH + "nothing", 404),
        (calls.PATH, 401),
        ("/calls/erase", 401),
        ("/2.4.9/sources", 401),
        ("/2.4.9/customers/1/voicemail_greetings", 401),
    ],
)
async def test_nothing_is_inflated_before_access_is_proved(
    store_url: str, inflated: list[int], path: str, status: int
) -> None:
    bomb = gzip.compress(bytes(20_000_000))  # 20 kB
    async with serving(store_url, allow_plain_http=True) as edge:
        head = {"Content-Encoding": "gzip", "Access-Token": "bad-token"}
        async with edge.client.post(edge.manage + path, data=bomb[:16_000], headers=head) as response:
            assert response.status == status
    assert not inflated


@apis
async def test_what_is_left_of_a_refused_body_is_never_inflated(edge: Edge, api: Api, inflated: list[int]) -> None:
    bomb = gzip.compress(bytes(1000 * api.most))[: api.most]
    assert (await post(edge, api, bomb, **{"Content-Encoding": "gzip"}))[0] == 400
    assert inflated == [api.most + 1]
    assert (await post(edge, api, io.BytesIO(bomb.ljust(20 * api.most)), **{"Content-Encoding": "gzip"}))[0] == 400
    assert inflated == [api.most + 1]  # of a body that is too large as it comes, nothing is


@apis
async def test_a_stranger_s_body_is_not_waited_for(edge: Edge, api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.manage.rpartition(":")[2]))
    writer.write(f"POST {api.path} HTTP/1.1\r\nHost: x\r\nAccess-Token: guess\r\nContent-Length: 9\r\n\r\n{{".encode())
    async with asyncio.timeout(5):
        assert b" 401 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


@apis
async def test_a_client_that_leaves_makes_no_noise(edge: Edge, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.manage.rpartition(":")[2]))
    head = (
        f"POST {api.path} HTTP/1.1\r\nHost: x\r\nAccess-Token: demo-token\r\nSiteId: 1001\r\nContent-Length: 9\r\n\r\n"
    )
    writer.write(head.encode() + b"{")
    await asyncio.sleep(0.1)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.1)
    assert reader.at_eof()
    assert not caplog.records


@apis
async def test_a_key_that_stands_twice_is_refused(edge: Edge, api: Api) -> None:
    body = orjson.dumps(api.body)
    status, answer = await post(edge, api, body[:-1] + b',"x":[{"y":1,"y":1}]}')
    assert (status, api.error(answer)) == (400, 'malformed JSON: "y" stands twice')


@apis
async def test_a_token_that_is_revoked_while_its_body_is_held_back_is_refused(edge: Edge, desk: Desk, api: Api) -> None:
    body, revoked = orjson.dumps(api.body), asyncio.Event()

    async def held_back() -> AsyncIterator[bytes]:
        yield body[:5]
        await revoked.wait()
        yield body[5:]

    asked = asyncio.create_task(post(edge, api, held_back()))
    await asyncio.sleep(0.1)  # in which the gateway has got the head
    await desk.load(DEMO.read_text().replace("demo-token", "other-token"))
    revoked.set()
    assert (await asked)[0] == 401


@pytest.fixture
def _short_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "FAILURES_KEPT_MS", 1000)


@apis
@pytest.mark.usefixtures("_short_minutes")
async def test_the_minute_of_an_address_s_bad_tokens_begins_with_the_first(store_url: str, api: Api) -> None:
    async with serving(store_url) as edge:

        async def bad(times: int) -> list[int]:
            answers = [
                await post(edge, api, b"{}", ip="192.0.2.9", **{"Access-Token": "bad-token"}) for _ in range(times)
            ]
            return [status for status, _ in answers]

        assert await bad(10) == [401] * 10
        await asyncio.sleep(0.6)
        assert await bad(9) == [401] * 9
        await asyncio.sleep(0.6)  # the first ones are forgotten now: those that came later do not keep them
        assert await bad(2) == [401] * 2
