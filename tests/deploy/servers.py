"""The store that `deploy/store/` describes, started on a free port, its data under a directory of the test's."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from edgeproxy.store.embedded import _bundled_binary

DEPLOY = Path(__file__).parents[2] / "deploy"
PASSWORDS = {
    "CHANGE_ME_ADMIN": "the-admin-s",
    "CHANGE_ME_EDGEPROXY": "the-gateway-s",
    "CHANGE_ME_REPLICA": "the-replica-s",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def needs(program: str) -> str:
    """The path of a program that Debian packages; the test is skipped where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def program(product: str) -> str:
    return _bundled_binary() if product == "valkey" else needs("redis-server")


@dataclass
class StoreServer:
    process: "subprocess.Popen[bytes]"
    port: int
    data: Path

    def url(self, user: str) -> str:
        return f"redis://{user}:{PASSWORDS[f'CHANGE_ME_{user.upper()}']}@127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def configured(directory: Path, changes: Mapping[str, str]) -> Path:
    """A copy of `deploy/store/` with passwords, and the values of some directives, changed as an operator would."""
    directory.mkdir(parents=True, exist_ok=True)
    users = (DEPLOY / "store" / "users.acl").read_text()
    for mark, password in PASSWORDS.items():
        assert users.count(mark) == 1
        users = users.replace(mark, password)
    (directory / "users.acl").write_text(users)
    lines = (DEPLOY / "store" / "valkey.conf").read_text().splitlines()
    for name, value in {"aclfile": str(directory / "users.acl"), **changes}.items():
        (at,) = [at for at, line in enumerate(lines) if line.split(" ")[0] == name]
        lines[at] = f"{name} {value}"
    (directory / "valkey.conf").write_text("\n".join(lines) + "\n")
    return directory / "valkey.conf"


@contextlib.contextmanager
def store(
    directory: Path, product: str = "valkey", *, before: Sequence[str] = (), arguments: Sequence[str] = ()
) -> Iterator[StoreServer]:
    """Run a server with `deploy/store/valkey.conf` and `users.acl` for the context; `before` is what starts it."""
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = configured(directory, {"port": str(port), "bind": "127.0.0.1", "dir": str(data)})
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen([*before, program(product), str(config), *arguments], stdout=log, stderr=log)
    server = StoreServer(process, port, data)
    try:
        wait_for(server.url("admin"), process)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, f"the server ended with status {process.returncode}"
        with contextlib.suppress(redis.ConnectionError), redis.Redis.from_url(url) as client:
            client.ping()
            return
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.05)


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EDGEPROXY_")}
