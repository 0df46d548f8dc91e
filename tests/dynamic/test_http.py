"""POST /api as HTTP: paths and methods, bodies in chunks and codings, broken requests, clients that leave."""

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import Callable

import aiohttp
import orjson
import pytest

from edgeproxy.dynamic import signature
from tests.conftest import Edge, web_request


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api", 405),
        ("PUT", "/api", 405),
        ("OPTIONS", "/api?sign=x", 405),
        ("POST", "/", 404),
        ("POST", "/api/", 404),
        ("POST", "/API", 404),
        ("POST", "//api", 200),
        ("GET", "/metrics", 404),  # of the manage port
        ("POST", "/healthz", 405),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
    ],
)
async def test_paths_and_methods_of_the_edge_port(edge: Edge, method: str, path: str, status: int) -> None:
    async with edge.client.request(method, edge.url + path) as response:
        assert response.status == status
        assert (response.headers.get("Allow") is not None) == (status == 405)


async def raw(edge: Edge, request: bytes) -> bytes:
    host, port = edge.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(4096), 5)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_expect_100_continue(edge: Edge) -> None:
    body = orjson.dumps(web_request())
    head = b"POST /api HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await raw(edge, head)).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")


async def test_a_large_body_is_refused_before_it_has_arrived(edge: Edge) -> None:
    head = b"POST /api HTTP/1.1\r\nHost: x\r\nX-HTTP-STATUSES: 1\r\nContent-Length: 10000000\r\n\r\n{"
    answer = await raw(edge, head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Body too large" in answer


async def test_chunked_and_pipelined_requests(edge: Edge) -> None:
    body = orjson.dumps(web_request())
    sign = signature.sign(body, b"freespee").encode()
    chunked = (
        b"POST /api HTTP/1.1\r\nHost: x\r\nX-SIGN: %b\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (sign, len(body), body)
    )
    plain = b"POST /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-SIGN: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        sign,
        len(body),
        body,
    )
    host, port = edge.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(chunked + plain)
    answers = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answers.count(b'"success":true') == 2


@pytest.mark.parametrize(
    ("coding", "code"), [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_compressed_body_is_signed_as_it_is_sent(
    edge: Edge, coding: str, code: Callable[[bytes], bytes]
) -> None:
    body, headers = orjson.dumps(web_request()), {"Content-Encoding": coding}
    status, answer, _ = await edge.post(code(body), headers=headers)
    assert (status, answer["success"]) == (200, True)
    before = {"X-SIGN": signature.sign(body, b"freespee")}
    assert (await edge.post(code(body), headers=headers | before))[1]["error"] == "Invalid signature"


async def test_a_compressed_body_has_the_limit_of_any_other(edge: Edge) -> None:
    headers = {"Content-Encoding": "gzip"}
    for sent, error in (
        (gzip.compress(b" " * 16_385), "Body too large"),
        (gzip.compress(bytes(10_000_000)), "Body too large"),
        (gzip.compress(b"{}")[:-1], "Malformed JSON"),
        (gzip.compress(b"{}") + b"x", "Malformed JSON"),
        (b"{}", "Malformed JSON"),
        (b"", "Malformed JSON"),
    ):
        assert (await edge.post(sent, headers=headers))[:2] == (400, {"success": False, "error": error})


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "x"])
async def test_another_coding_is_415_and_told_which_are_taken(edge: Edge, coding: str) -> None:
    for statuses in (True, False):
        status, answer, headers = await edge.post(
            web_request(), statuses=statuses, headers={"Content-Encoding": coding}
        )
        assert (status, answer["success"], headers["Accept-Encoding"]) == (415, False, "gzip, deflate")
    assert edge.board.total("unread:415") == 2


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /api?sign=0123456789abcdef HTTP/1.1\r\nHost: x\r\nX-SIGN 0123456789abcdef\r\n\r\n",
        b"\x16\x03\x01 0123456789abcdef\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: x\r\nX-SIGN: 0123456789abcdef\r\nContent-Length: x\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: x\r\nX: " + b"0123456789abcdef" * 1000 + b"\r\n\r\n",
    ],
)
async def test_broken_http_is_refused_and_not_quoted_in_the_log(
    edge: Edge, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    assert (await raw(edge, request_)).startswith(b"HTTP/1.")
    assert "0123456789abcdef" not in caplog.text
    assert (await edge.post(web_request()))[0] == 200


async def test_a_client_that_reads_no_answers_is_not_written_to_without_end(edge: Edge) -> None:
    host, port = edge.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    flood = b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" * 1000
    sent = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(3):
            while True:
                writer.write(flood)
                await writer.drain()  # the gateway reads no more once its answers pile up
                sent += 1000
    async with asyncio.timeout(20):  # what had been read is answered, and then nothing more is
        seen = -1.0
        while seen != (seen := edge.board.total("outcome:malformed_json")):
            await asyncio.sleep(0.5)
    writer.transport.abort()


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(edge: Edge) -> None:
    host, port = edge.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    assert (await edge.post(web_request()))[0] == 200


async def test_an_answered_client_may_go_on_using_its_connection(edge: Edge) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as client:
        edge.client, outer = client, edge.client
        for body in (b"{", b"x" * 16_384, orjson.dumps(web_request())):
            assert (await edge.post(body))[0] in (200, 400)
        edge.client = outer
