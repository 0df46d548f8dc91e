"""The servers that are compared: the gateway and its peers, how each is started, checked and stopped."""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import redis
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from benchmarks import machine, workload
from benchmarks.workload import Target
from edgeproxy.accounts.account import Account
from edgeproxy.dynamic import signature
from edgeproxy.store import Ask
from edgeproxy.store.batching import _Batch, _Plan
from edgeproxy.store.embedded import EmbeddedStore

GATEWAY, BARE, NGINX, FASTAPI = "edgeproxy", "aiohttp alone", "nginx + Lua", "FastAPI"

# A saturated worker holds each of 256 connections for longer than the 50 ms that it has by default. Where CPU is
# compared, every request is to be answered, so that the work is the same; the open loop measures who keeps 50 ms.
PATIENT_MS = 2000

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_START_S = 60
_STOP_S = 15
_CHECKED_IP = 250 << 16  # clients of checks are none of the load's


class ServerError(Exception):
    """A server did not start, or did not answer as it must; the text says what was wrong."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `manage` is the address of the gateway's metrics, "" for peers."""

    name: str
    url: str
    pid: int
    manage: str = ""

    def cpu_s(self) -> float:
        """CPU time in s of all its processes so far."""
        return machine.cpu_s(machine.family(self.pid))


@contextlib.contextmanager
def store(binary: str | None) -> Iterator[EmbeddedStore]:
    """A store server of our own; `binary` is another one than the bundled Valkey."""
    with (
        tempfile.TemporaryDirectory(prefix="edgeproxy-bench-") as directory,
        EmbeddedStore(Path(directory), binary=binary) as embedded,
    ):
        with contextlib.closing(redis.Redis.from_url(embedded.url)) as client:
            # A rewrite of the append-only file would fall into one timing and not into another.
            client.config_set("auto-aof-rewrite-percentage", 0)
        yield embedded


def store_version(url: str) -> str:
    """Product and version of the store server."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        info: Any = client.info("server")
    product = info.get("server_name", "redis")
    return f"{product} {info.get(f'{product}_version', info['redis_version'])}"


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str], log: Path) -> Iterator["subprocess.Popen[str]"]:
    """A child process, stopped at the end by its id. What it says on standard error goes to `log`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EDGEPROXY_")}
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=_ROOT,
            env=inherited | environment,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            for pid in reversed(machine.family(process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _said(process: "subprocess.Popen[str]", log: Path) -> dict[str, str]:
    """The `name: value` lines that a server prints before `ready`."""
    said: dict[str, str] = {}
    for line in process.stdout or ():
        if line.strip() == "ready":
            return said
        name, _, value = line.strip().partition(": ")
        said[name] = value
    raise ServerError(f"{process.args!r} did not start:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def gateway(
    store_url: str,
    *,
    workers: int = 1,
    budget_ms: int = 50,
    ports: tuple[int, int] = (0, 0),
    log: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """The gateway, as `edgeproxy serve` runs it; `budget_ms` is within how much a request is answered.

    `ports` are the edge's and the manage port, 0 chooses one; its log is added to `log`; `settings` are further ones.
    """
    code = "from edgeproxy.commands import main; main()"
    environment = {
        "EDGEPROXY_STORE_URL": store_url,
        "EDGEPROXY_HOST": "127.0.0.1",
        "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.0/8",
        "EDGEPROXY_DRAIN_S": "0",
        "EDGEPROXY_GRACE_S": "5",
        "EDGEPROXY_WORKERS": str(workers),
        "EDGEPROXY_BUDGET_MS": str(budget_ms),
        **(settings or {}),
    }
    command = [sys.executable, "-c", code, "serve", "--port", str(ports[0]), "--manage-port", str(ports[1])]
    with tempfile.TemporaryDirectory() as directory:
        log = log or Path(directory) / "log"
        with _process(command, environment, log) as process:
            said = _said(process, log)
            yield Server(GATEWAY, said["edge"], process.pid, said["manage"])


# What peers are told of the account --------------------------------------------------------------------------------


def site(store_url: str, target: Target, budget_ms: int) -> dict[str, Any]:
    """What a peer needs to ask the store as the gateway does.

    The account's part of the call (keys, configuration) is taken from the gateway's own code, so that it cannot differ.

    Raises:
        ServerError: the gateway's call is laid out otherwise than the peers'; `resolve.nginx.lua` and
            `fastapi_peer.py` are to be brought in step with `edgeproxy/store/lua/resolve.lua`.
    """
    account = workload.read_account(store_url, target.account)
    ask = Ask("192.0.2.1", "SESSION", "VISITOR", False, (("+493015981100", 0),), b'"a"', b'"b":1', b'{"c":1}')
    name, function, count, *rest = _command(account, ask)
    names, arguments = rest[:count], rest[count:]
    if (
        name != "FCALL"
        or arguments[3:] != ["192.0.2.1", 3, ask.browser, ask.context, ask.page, 1, "+493015981100", 1]
        or not str(names[-3]).endswith(":SESSION")
        or not str(names[-1]).endswith(":VISITOR")
    ):
        raise ServerError("the peers are out of step with edgeproxy.store.batching")
    return {
        "store_socket": urlsplit(store_url).path,
        "budget_ms": budget_ms,
        "account": account.name,
        "secret": target.key,
        "keys": names[:-3],
        "function": function,
        "session_prefix": str(names[-3]).removesuffix("SESSION"),
        "visitor_prefix": str(names[-1]).removesuffix("VISITOR"),
        "head": arguments[1].decode(),
        "per_second": account.per_second,
        "points_daily": account.points_daily,
        "replaces": sorted(account.pools[0].replaces),
        "country": "49",
        "crawlers": [entry["pattern"] for entry in CRAWLER_USER_AGENTS_DATA],
    }


def _command(account: Account, ask: Ask) -> tuple[Any, ...]:
    """What the gateway sends to the store for one request."""
    plan = _Plan(account, int(time.time() * 1000), account.costs["numbers"], limited_before=False)
    batch = _Batch(plan)
    batch.asks.append(ask)
    return batch.command(0, 0)


# Peers -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def bare(answer: bytes) -> Iterator[Server]:
    """aiohttp that reads the body and gives a constant `answer`."""
    with tempfile.TemporaryDirectory() as directory:
        path, log = Path(directory) / "answer", Path(directory) / "log"
        path.write_bytes(answer)
        with _process([sys.executable, "-m", "benchmarks.peers.bare", str(path)], {}, log) as process:
            yield Server(BARE, _said(process, log)["edge"], process.pid)


@contextlib.contextmanager
def fastapi(facts: dict[str, Any]) -> Iterator[Server]:
    """FastAPI, uvicorn and redis-py; `facts` are of `site`."""
    with tempfile.TemporaryDirectory() as directory:
        path, log = Path(directory) / "site.json", Path(directory) / "log"
        path.write_text(json.dumps(facts))
        with _process([sys.executable, "-m", "benchmarks.peers.fastapi_peer", str(path)], {}, log) as process:
            yield Server(FASTAPI, _said(process, log)["edge"], process.pid)


@contextlib.contextmanager
def nginx(facts: dict[str, Any]) -> Iterator[Server]:
    """nginx with Lua; `facts` are of `site`."""
    how = "apt-get install nginx libnginx-mod-http-lua lua-nginx-redis lua-cjson"
    binary = machine.tool("nginx", how)
    modules = next((path for path in map(Path, _MODULES) if (path / "ngx_http_lua_module.so").exists()), None)
    if modules is None:
        raise machine.MissingToolError(f"nginx's Lua module is not installed; on Debian and Ubuntu: {how}")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        path, log = Path(directory), Path(directory) / "error.log"
        (path / "site.json").write_text(json.dumps(facts))
        values = {
            "MODULES": str(modules),
            "DIRECTORY": directory,
            "PORT": str(port),
            "LUA": str(_HERE / "resolve.nginx.lua"),
            # Workers of root's nginx become another user, who could not reach the store's socket.
            "USER": "user root;" if os.geteuid() == 0 else "",
        }
        config = re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], (_HERE / "nginx.conf.in").read_text())
        (path / "nginx.conf").write_text(config)
        command = [binary, "-p", directory, "-c", str(path / "nginx.conf"), "-e", str(log)]
        with _process(command, {}, path / "stderr.log") as process:
            _await_port(process, port, log)
            yield Server(NGINX, f"http://127.0.0.1:{port}", process.pid)


_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules")


def _await_port(process: "subprocess.Popen[str]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise ServerError(f"nginx did not start:\n{log.read_text()[-2000:] if log.exists() else ''}")


# Checks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: `headers` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A plain client of one server, over one connection."""

    def __init__(self, url: str, target: Target) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        self._target = target

    def ask(self, index: int, session_id: str = "", *, sign: str | None = None, ip: int | None = None) -> Answer:
        """Send the request of visitor `index`; `sign` is another signature than the right one."""
        content = workload.body(self._target, index, session_id)
        headers = {
            "X-SIGN": signature.sign(content, self._target.key.encode()) if sign is None else sign,
            "X-HTTP-STATUSES": "1",
            "X-Forwarded-For": workload.client_ip(_CHECKED_IP + (index if ip is None else ip)),
        }
        self._connection.request("POST", "/api", content, headers)
        response = self._connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def check(server: Server, reference: Server, target: Target, seed: int) -> bytes:
    """Check that a peer answers as the `reference` (the gateway) does; gives the body of a success.

    `seed` tells apart the visitors of different checks.

    Raises:
        ServerError: it does not, and how.
    """

    def must(holds: bool, what: str, answer: Answer) -> None:
        if not holds:
            raise ServerError(f"{server.name}: {what}: {answer.status} {answer.headers} {answer.body.decode()}")

    with (
        contextlib.closing(Client(server.url, target)) as peer,
        contextlib.closing(Client(reference.url, target)) as gateway_client,
    ):
        first = peer.ask(seed)
        must(first.status == 200, "a good request is answered with success", first)
        tree = orjson.loads(first.body)
        session = tree["sessionId"]
        must(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", session) is not None,
             "the session's id is a UUID4", first)  # fmt: skip
        must(len(tree["numbers"]) == 1, "the number on the page is replaced", first)
        again, elsewhere = peer.ask(seed, session), gateway_client.ask(seed, session)
        must(again.body == first.body, "a session keeps its number", again)
        must(elsewhere.body == again.body, f"the same bytes as {reference.name}'s {elsewhere.body.decode()}", again)
        for name in ("content-type", "content-length", "ratelimit-policy"):
            must(again.headers.get(name) == elsewhere.headers[name], f"{name} as {reference.name}'s", again)
        pattern = r'"ip";r=\d+;t=1, "points";r=\d+;t=\d+'
        must(re.fullmatch(pattern, again.headers.get("ratelimit", "")) is not None, "RateLimit", again)
        for wrong in ("0" * 40, "", "zz"):
            answer = peer.ask(seed + 1, sign=wrong)
            must(answer.status == 403 and b"nvalid signature" in answer.body, "a bad signature is refused", answer)
        six = [peer.ask(seed + 2, ip=seed + 3) for _ in range(6)]
        for answer in six[:5]:
            must(answer.status == 200, "five requests in a second pass", answer)
        must(six[5].status == 403 and b"Blocked IP" in six[5].body, "the sixth is refused", six[5])
        must(six[5].headers.get("retry-after") == "1", "Retry-After", six[5])
        return first.body
