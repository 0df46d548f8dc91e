"""The pool of connections behind sentinels: how many there may be at once, whatever becomes of them."""

import asyncio

import pytest
from redis.asyncio.sentinel import MasterNotFoundError

from edgeproxy.store.connections import _CALM_CONNECTIONS, _SentinelPool
from edgeproxy.store.servers import connect
from tests.servers import free_ports


async def test_no_time_is_spent_on_a_sentinel_that_is_away() -> None:
    url = "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in free_ports(3)) + "/main"
    servers = connect(url, on_up=lambda up: None, on_fault=lambda fault: None)
    async with asyncio.timeout(1):
        with pytest.raises(MasterNotFoundError):
            await servers.server("").call_calmly([("PING",)])
    await servers.close()


async def test_a_connection_that_failed_gives_its_place_back_once() -> None:
    url = f"redis+sentinel://127.0.0.1:{free_ports(1)[0]}/main"
    servers = connect(url, on_up=lambda up: None, on_fault=lambda fault: None)
    server = servers.server("")
    assert isinstance(server.calm, _SentinelPool)
    for _ in range(2):
        calls = [server.call_calmly([("PING",)]) for _ in range(_CALM_CONNECTIONS + 1)]
        replies = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(reply, Exception) for reply in replies)
        assert server.calm._free._value == _CALM_CONNECTIONS
    await servers.close()
