"""A store that is reached by TLS: its certificate is checked, and ours is shown where it asks for one."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgeproxy.errors import Fault
from edgeproxy.store import Store
from edgeproxy.store.embedded import EmbeddedStore
from tests.certificates import issue
from tests.conftest import DEMO, Clock, Desk, far


@contextlib.asynccontextmanager
async def by_tls(socket: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS before a server's unix socket."""
    tasks = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while some := await reader.read(65536):
                writer.write(some)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(socket)
        for ways in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(copy(*ways))
            tasks.add(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    ca = issue(tmp_path, "ca", "127.0.0.1", None)
    issue(tmp_path, "server", "127.0.0.1", ca)
    issue(tmp_path, "client", "127.0.0.1", ca)
    issue(tmp_path, "stranger", "127.0.0.1", None)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    with EmbeddedStore(tmp_path / "store") as embedded:
        async with by_tls(embedded.url.removeprefix("unix://"), context) as port:
            yield port


def options(directory: Path, client: str = "client", ca: str = "ca") -> str:
    files = {"ssl_ca_certs": f"{ca}.pem", "ssl_certfile": f"{client}.pem", "ssl_keyfile": f"{client}.key"}
    return "&".join(f"{name}={directory / file}" for name, file in files.items())


async def test_everything_goes_by_tls(port: int, tmp_path: Path) -> None:
    async with Store(f"rediss://127.0.0.1:{port}?{options(tmp_path)}") as store:
        await store.load_functions()
        desk = Desk(store, Clock(), iter(()))
        await desk.load(DEMO)
        assert (await desk.ask("demo", "+493015981100", ip="192.0.2.1")).numbers == ["+493015981151"]


@pytest.mark.parametrize("wrong", [{"client": "stranger"}, {"ca": "stranger"}])
async def test_a_stranger_on_either_side_is_refused(port: int, tmp_path: Path, wrong: dict[str, str]) -> None:
    async with Store(f"rediss://127.0.0.1:{port}?{options(tmp_path, **wrong)}") as store:
        with pytest.raises(Fault, match="STORE_UNAVAILABLE"):
            await store.account("demo", far())
