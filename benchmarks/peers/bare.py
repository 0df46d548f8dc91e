"""The floor: aiohttp that reads a request's body and gives a constant answer, with as many bytes as the gateway's."""

import asyncio
import gc
import signal
import sys
from pathlib import Path

import uvloop
from aiohttp import web

_HEADERS = {
    "RateLimit-Policy": '"ip";q=5;w=1, "points";q=1000000000000;w=86400',
    "RateLimit": '"ip";r=4;t=1, "points";r=999999990000;t=40000',
}


async def _serve(answer: bytes) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(body=answer, content_type="application/json", headers=_HEADERS)

    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = web.Server(handle, access_log=None)
    listener = await loop.create_server(server, "127.0.0.1", 0, backlog=4096)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    print(f"edge: http://127.0.0.1:{listener.sockets[0].getsockname()[1]}\nready", flush=True)
    await stopped.wait()
    listener.close()
    await server.shutdown(1)


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]).read_bytes()))
