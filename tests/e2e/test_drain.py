"""The end of a drain: what still comes to the ports when they close."""

import asyncio
import os
import signal
from collections import Counter

import pytest

from tests.conftest import Edge
from tests.processes import started

pytestmark = pytest.mark.slow

SETTINGS = {"EDGEPROXY_PORT": "0", "EDGEPROXY_MANAGE_PORT": "0", "EDGEPROXY_DRAIN_S": "0.5"}
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


async def connect_anew(url: str, clients: int) -> Counter[str]:
    """Clients that connect anew for each request until they are refused; what became of those that were connected."""
    host, port = url.removeprefix("http://").split(":")
    seen: Counter[str] = Counter()

    async def one() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return
            except OSError as error:
                seen[type(error).__name__] += 1
                return
            try:
                writer.write(REQUEST)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
                seen["answered" if head.startswith(b"HTTP/1.1 200") else repr(head)] += 1
            except (OSError, EOFError, TimeoutError) as error:
                seen[f"cut: {type(error).__name__}"] += 1
            finally:
                writer.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return seen


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("port", ["edge", "manage"])
def test_who_is_connected_when_the_ports_close_is_answered_and_others_are_refused(
    store_url: str, workers: str, port: str
) -> None:
    async def drive(url: str, pid: int) -> Counter[str]:
        load = asyncio.create_task(connect_anew(url, 64))
        await asyncio.sleep(0.3)
        os.kill(pid, signal.SIGTERM)
        return await load

    with started("serve", "--workers", workers, settings=SETTINGS | {"EDGEPROXY_STORE_URL": store_url}) as serve:
        seen = asyncio.run(drive(getattr(serve, port), serve.process.pid))
        assert set(seen) == {"answered"}, seen
        assert seen["answered"] > 200
        assert serve.process.wait(20) == 0


async def test_answers_of_both_ports_close_their_connections_while_draining(edge: Edge) -> None:
    for url in (edge.url + "/api", edge.url + "/readyz", edge.manage + "/openapi.json", edge.manage + "/nothing"):
        async with edge.client.get(url) as response:
            assert response.headers.get("Connection") is None
    edge.gateway.drain()
    for url in (edge.url + "/api", edge.url + "/readyz", edge.manage + "/openapi.json", edge.manage + "/nothing"):
        async with edge.client.get(url) as response:
            await response.read()
            assert response.headers.get("Connection") == "close"
