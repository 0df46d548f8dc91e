"""The manage port with a certificate of its own: TLS takes no more than any other connection."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import issue
from tests.conftest import Edge, serving

PING = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def gateway(store_url: str, directory: Path, **settings: Any) -> AsyncIterator[tuple[Edge, int]]:
    """A gateway whose manage port speaks TLS, and that port."""
    issue(directory, "own", "127.0.0.1", None)
    files: Any = {"manage_tls_certificate": directory / "own.pem", "manage_tls_key": directory / "own.key"}
    async with serving(store_url, **files, **settings) as edge:
        yield edge, int(edge.manage.rpartition(":")[2])


async def connect(port: int, directory: Path) -> Client:
    return await asyncio.open_connection(
        "127.0.0.1", port, ssl=ssl.create_default_context(cafile=str(directory / "own.pem"))
    )


async def ask(client: Client, raw: bytes = PING) -> bytes:
    """The status line and what else comes at once."""
    client[1].write(raw)
    async with asyncio.timeout(5):
        return await client[0].read(1 << 16)


async def is_closed(client: Client) -> bool:
    """Whether the gateway closes the connection; it is closed on our side then."""
    try:
        async with asyncio.timeout(5):
            return await client[0].read(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    finally:
        client[1].close()


async def test_requests_come_by_tls(store_url: str, tmp_path: Path) -> None:
    async with gateway(store_url, tmp_path) as (edge, port):
        client = await connect(port, tmp_path)
        for _ in range(3):
            assert (await ask(client)).startswith(b"HTTP/1.1 200 ")
        body = b"x" * 200_000
        large = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        assert (await ask(client, large)).startswith(b"HTTP/1.1 405 ")
        client[1].close()
        async with edge.client.get(
            f"https://127.0.0.1:{port}/2.4.9/customers",
            ssl=ssl.create_default_context(cafile=str(tmp_path / "own.pem")),
        ) as response:
            assert response.status == 401  # not 403: it is HTTPS


async def test_a_request_that_comes_with_the_handshake_s_end_is_answered(store_url: str, tmp_path: Path) -> None:
    async with gateway(store_url, tmp_path) as (_, port):
        context = ssl.create_default_context(cafile=str(tmp_path / "own.pem"))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(5):
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(1 << 16))
            tls.write(PING)
            writer.write(outgoing.read())  # the end of the handshake and the request, in one piece
            while True:
                incoming.write(await reader.read(1 << 16))
                with contextlib.suppress(ssl.SSLWantReadError):
                    assert tls.read(1 << 16).startswith(b"HTTP/1.1 200 ")
                    break
        writer.close()


async def test_handshakes_that_never_end_take_no_more_places_than_others(store_url: str, tmp_path: Path) -> None:
    async with gateway(store_url, tmp_path, connections_most=5) as (edge, port):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        client = await connect(port, tmp_path)
        assert (await ask(client)).startswith(b"HTTP/1.1 200 ")
        assert all([await is_closed(one) for one in silent[:25]])
        assert edge.board.total("refused:idle") >= 25
        for _, writer in (*silent, client):
            writer.close()


async def test_a_handshake_has_the_time_of_a_head(store_url: str, tmp_path: Path) -> None:
    async with gateway(store_url, tmp_path, header_s=0.2) as (_, port):
        assert await is_closed(await asyncio.open_connection("127.0.0.1", port))


@pytest.mark.parametrize("sent", [PING, b"\x16\x03\x01\0\xc8" + b"\0" * 200, b"\0"])
async def test_what_is_no_tls_gives_its_place_back(store_url: str, tmp_path: Path, sent: bytes) -> None:
    async with gateway(store_url, tmp_path, connections_most=1, header_s=0.5) as (_, port):
        for _ in range(3):
            other = await asyncio.open_connection("127.0.0.1", port)
            other[1].write(sent)
            assert await is_closed(other)
        client = await connect(port, tmp_path)
        assert (await ask(client)).startswith(b"HTTP/1.1 200 ")
        client[1].close()


async def test_a_handshake_that_has_begun_does_not_hold_the_end_up(store_url: str, tmp_path: Path) -> None:
    async with gateway(store_url, tmp_path) as (_, port):
        other = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
    assert await is_closed(other)
