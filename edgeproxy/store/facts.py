"""What the servers of a store tell of themselves."""

import time
from dataclasses import dataclass

from edgeproxy.store.lua_libraries import libraries_of
from edgeproxy.store.server import time_ms
from edgeproxy.store.servers import Servers


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What `edgeproxy check` tells of a server of the store."""

    place: str  # of a cluster's
    product: str  # and version
    durable: bool  # it keeps an append-only file
    eviction: str  # its `maxmemory-policy`: `noeviction`, or how it forgets keys
    replicas: int  # that follow it, and are up with it
    functions: dict[str, bool]  # library → whether it is loaded
    others: tuple[str, ...]  # libraries of other releases
    ahead_ms: float  # its clock less this host's
    allocator: str  # of its memory, as it was built
    process: int  # its process id, on its host


async def facts_of(servers: Servers) -> list[ServerFacts]:
    """Look the servers of a store over.

    Raises:
        RedisError, OSError: it cannot be reached, or it refuses.
    """
    found = []
    for server in await servers.all():
        began = time.time()
        time_there, text = await server.call_calmly([("TIME",), ("INFO",)])
        host_ms = (began + time.time()) / 2 * 1000
        if isinstance(text, Exception):
            raise text
        info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        product = info.get("server_name", "redis")
        functions, others = await libraries_of(server)
        found.append(
            ServerFacts(
                place=server.name,
                product=f"{product} {info.get(f'{product}_version', info['redis_version'])}",
                durable=info.get("aof_enabled") == "1",
                eviction=info.get("maxmemory_policy", ""),
                replicas=sum(
                    name[:5] == "slave" and name[5:].isdigit() and ",state=online," in value
                    for name, value in info.items()
                ),
                functions=functions,
                others=others,
                ahead_ms=time_ms(time_there) - host_ms,
                allocator=info.get("mem_allocator", "libc"),
                process=int(info["process_id"]),
            )
        )
    return found
