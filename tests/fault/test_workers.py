"""A worker that is told to stop while the gateway goes on."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.processes import started

pytestmark = pytest.mark.slow

PORTS = {"EDGEPROXY_PORT": "0", "EDGEPROXY_MANAGE_PORT": "0", "EDGEPROXY_DRAIN_S": "0"}


async def answers(url: str) -> bytes:
    """The head of the answer on a connection of its own."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        return await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    finally:
        writer.close()


async def test_a_worker_that_drained_alone_has_a_successor_that_serves(store_url: str, tmp_path: Path) -> None:
    settings = PORTS | {"EDGEPROXY_STORE_URL": store_url}
    with started("serve", "--workers", "2", stderr=tmp_path / "log", settings=settings) as serve:
        for _ in range(2):
            before = serve.workers()
            os.kill(before[0], signal.SIGTERM)
            deadline = time.monotonic() + 5
            while before[0] in serve.workers() or len(serve.workers()) < 2:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            for url in (serve.edge, serve.manage):  # the kernel spreads connections over both workers
                seen = await asyncio.gather(*(answers(url) for _ in range(50)))
                assert set(seen) == {b"HTTP/1.1 200 OK\r\n"}
            assert time.monotonic() < deadline
        assert serve.stop() == 0
    assert (tmp_path / "log").read_text().count("starting another") == 2
