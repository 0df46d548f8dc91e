"""HAProxy and nginx as deploy/ configures them, in front of two gateways that share a store."""

import asyncio
import contextlib
import http.client
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest

import edgeproxy
from edgeproxy.dynamic import signature
from edgeproxy.store.embedded import EmbeddedStore
from tests.conftest import web_request
from tests.deploy.balancers import (
    CHECK,
    CLIENTS_OF_MANAGE,
    KINDS,
    Balancer,
    Cluster,
    Node,
    Ports,
    balancing,
    clustered,
    command_of,
    need,
)
from tests.processes import environment

pytestmark = pytest.mark.slow

BODY = orjson.dumps(web_request())
SIGNATURE = signature.sign(BODY, b"freespee")
SIGNED = {"X-SIGN": SIGNATURE, "X-HTTP-STATUSES": "1"}
BUSY = orjson.dumps(web_request(advId="busy", numbers="+442079460010"))
BUSY_SIGNATURE = signature.sign(BUSY, b"busy-key")


@pytest.fixture(scope="module", params=KINDS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    kind: str = request.param
    need(kind)
    directory = tmp_path_factory.mktemp(kind)
    with EmbeddedStore(directory / "store") as store, clustered(kind, directory, store.url) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def client_at(ip: str, balancer: Balancer, *, fresh: bool = False) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with an IP of its own; with `fresh`, it connects anew for each request."""
    connector = aiohttp.TCPConnector(limit=0, local_addr=(ip, 0), ssl=balancer.tls, force_close=fresh)
    timeout = aiohttp.ClientTimeout(total=8)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
        yield client


async def ask(client: aiohttp.ClientSession, balancer: Balancer, headers: dict[str, str] | None = None) -> int:
    url = f"https://127.0.0.1:{balancer.ports.edge}/api"
    async with client.post(url, data=BODY, headers=SIGNED | (headers or {})) as response:
        await response.read()
        return response.status


async def at_once(balancer: Balancer, ip: str, headers: Callable[[int], dict[str, str]] = lambda i: {}) -> Counter[int]:
    """The statuses of eleven requests that leave together."""
    async with client_at(ip, balancer, fresh=True) as client:
        return Counter(await asyncio.gather(*(ask(client, balancer, headers(i)) for i in range(11))))


class Load:
    """Paced clients, half of them over connections that are kept and half over fresh ones, until it is left.

    `seen` counts what became of each request: `success`, or what else a client got.
    """

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._stop = asyncio.Event()
        self.seen: Counter[str] = Counter()
        self.slowest = 0.0

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._client(i)) for i in range(12)]
        await asyncio.sleep(0.5)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _client(self, number: int) -> None:
        url = f"https://127.0.0.1:{self._balancer.ports.edge}/api"
        query, headers = (f"?sign={BUSY_SIGNATURE}", {}) if number % 4 < 2 else ("", {"X-SIGN": BUSY_SIGNATURE})
        fresh = number % 2 == 1
        async with client_at(f"127.8.7.{number + 1}", self._balancer, fresh=fresh) as client:
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    async with client.post(
                        url + query, data=BUSY, headers=headers | {"X-HTTP-STATUSES": "1"}
                    ) as response:
                        answer = await response.read()
                    passed = response.status == 200 and orjson.loads(answer)["success"]
                    self.seen["success" if passed else f"{response.status} {answer[:80]!r}"] += 1
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.seen[f"{type(error).__name__} {error}"] += 1
                self.slowest = max(self.slowest, time.monotonic() - begun)
                await asyncio.sleep(0.05 if fresh else 0.015)


async def restart(node: Node) -> None:
    """SIGTERM; once the gateway has ended, another on its port, until that has answered requests."""
    node.sigterm()
    await asyncio.to_thread(node.stop)
    await asyncio.to_thread(node.start)
    deadline = time.monotonic() + 15
    while await asyncio.to_thread(node.answered) < 20:
        assert time.monotonic() < deadline, "the load balancer does not use the gateway again"
        await asyncio.sleep(0.2)


def check_that_nothing_failed(load: Load, cluster: Cluster, at_least: int) -> None:
    print(f"{cluster.kind}: {dict(load.seen)}, slowest {load.slowest * 1000:.0f} ms")  # noqa: T201 - shown by -s
    assert set(load.seen) == {"success"}, load.seen
    assert load.seen["success"] > at_least
    logs = cluster.balancer.logs()
    assert BUSY_SIGNATURE not in logs
    assert "127.8.7." not in logs.replace("127.8.7.0", "")
    assert "127.8.7.0" in logs  # it was looked for where it would be


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_file_passes_the_programs_own_check(kind: str, tmp_path: Path) -> None:
    need(kind)
    nodes = (Node("unix:///none", tmp_path / "log"), Node("unix:///none", tmp_path / "log"))
    command = command_of(kind, tmp_path, nodes, Ports(), None)
    checked = subprocess.run([*command, CHECK[kind]], capture_output=True, text=True, timeout=20)
    assert checked.returncode == 0, checked.stderr + checked.stdout
    assert "warn" not in (checked.stderr + checked.stdout).lower()


async def test_of_eleven_requests_at_once_exactly_five_pass_over_both_nodes(cluster: Cluster) -> None:
    before = [node.answered() for node in cluster.nodes]
    assert await at_once(cluster.balancer, "127.0.1.1") == {200: 5, 403: 6}
    used = [node.answered() - old for node, old in zip(cluster.nodes, before, strict=True)]
    assert sum(used) == 11
    assert min(used) > 0


async def test_clients_are_told_apart_by_their_own_address(cluster: Cluster) -> None:
    first, second = await asyncio.gather(*(at_once(cluster.balancer, f"127.0.2.{i}") for i in (1, 2)))
    assert first == second == {200: 5, 403: 6}


SPOOFS: dict[str, Callable[[int], dict[str, str]]] = {
    "x-forwarded-for": lambda i: {"X-Forwarded-For": f"10.0.0.{i}"},
    "x-forwarded-for-ipv6": lambda i: {"X-Forwarded-For": f"2001:db8:{i}::1, [2001:db8:{i}::2]:4711"},
    "x-forwarded-for-and-a-trusted-proxy": lambda i: {"X-Forwarded-For": f"10.0.0.{i}, 127.0.0.1"},
    "forwarded": lambda i: {"Forwarded": f"for=10.0.0.{i};proto=https"},
    "x-real-ip": lambda i: {"X-Real-IP": f"10.0.0.{i}", "X-Client-IP": f"10.0.0.{i}"},
    "named-as-hop-by-hop": lambda i: {"Connection": "close, X-Forwarded-For", "X-Forwarded-For": f"10.0.0.{i}"},
    "long": lambda i: {"X-Forwarded-For": ", ".join(f"10.{i}.0.{j}" for j in range(250))},
    "spelt-with-underscores": lambda i: {"X_Forwarded_For": f"10.0.0.{i}"},
}


@pytest.mark.parametrize("spoof", SPOOFS)
async def test_what_a_client_says_of_its_address_changes_nothing(cluster: Cluster, spoof: str) -> None:
    ip = f"127.0.3.{list(SPOOFS).index(spoof) + 1}"
    assert await at_once(cluster.balancer, ip, SPOOFS[spoof]) == {200: 5, 403: 6}


def raw(balancer: Balancer, port: int, path: str, *, ip: str, body: bytes = b"") -> tuple[int, str]:
    """A request whose path is sent as it stands: POST if it has a body, else GET."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, context=balancer.tls, source_address=(ip, 0), timeout=10
    )
    with contextlib.closing(connection):
        connection.request("POST" if body else "GET", path, body or None)
        response = connection.getresponse()
        return response.status, response.read().decode()


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/readyz", "/healthz", "//metrics", "/%6detrics", "/calls/../metrics", "/calls/%2e%2e/metrics",
     "/calls/..%2fmetrics", "/2.4.9/../readyz", "/metrics?", "/./metrics", "/phone-service/../../healthz"],
)  # fmt: skip
def test_metrics_and_health_are_not_reached_from_outside(cluster: Cluster, path: str) -> None:
    for port in (cluster.balancer.ports.edge, cluster.balancer.ports.manage):
        status, text = raw(cluster.balancer, port, path, ip=CLIENTS_OF_MANAGE)
        assert status >= 400
        assert "edgeproxy_" not in text
        assert text not in ("alive\n", "ready\n")


def test_the_manage_port_is_for_those_on_its_list_and_over_https(cluster: Cluster) -> None:
    port = cluster.balancer.ports.manage
    assert raw(cluster.balancer, port, "/openapi.json", ip=CLIENTS_OF_MANAGE)[0] == 200
    assert raw(cluster.balancer, port, "/openapi.json", ip="127.0.0.3")[0] == 403
    # Digest is asked for only of those who came by HTTPS.
    assert raw(cluster.balancer, port, "/2.4.9/customers", ip=CLIENTS_OF_MANAGE)[0] == 401
    assert raw(cluster.balancer, port, "/calls/lookup?number=1", ip=CLIENTS_OF_MANAGE)[0] == 401
    assert raw(cluster.balancer, cluster.balancer.ports.edge, "/openapi.json", ip=CLIENTS_OF_MANAGE)[0] == 404


async def test_plain_http_is_refused(cluster: Cluster) -> None:
    async with aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{cluster.balancer.ports.plain}/api"
        async with client.post(url, data=BODY, headers=SIGNED, allow_redirects=False) as response:
            assert response.status == 403
            assert await response.text() == "HTTPS only\n"


@pytest.mark.parametrize("version", ["tls1", "tls1_1", "tls1_2", "tls1_3"])
def test_tls_is_1_2_or_1_3(cluster: Cluster, version: str) -> None:
    tried = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{cluster.balancer.ports.edge}", f"-{version}", "-cipher",
         "ALL:@SECLEVEL=0"],
        input="", capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert (tried.returncode == 0) == (version in ("tls1_2", "tls1_3")), tried.stderr


@pytest.mark.parametrize(
    ("size", "chunked", "statuses"),
    [(24_576, False, {400}), (24_576, True, {400}), (2 << 20, False, {413}), (2 << 20, True, {400, 413})],
)
def test_bodies_that_are_too_large_are_refused_at_once(
    cluster: Cluster, tmp_path: Path, size: int, chunked: bool, statuses: set[int]
) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * size)  # of more than 1 MiB curl sends nothing before it is told to
    begun = time.monotonic()
    posted = subprocess.run(
        ["curl", "-s", "--http1.1", "--cacert", str(cluster.balancer.directory / "edgeproxy.crt"),
         "--data-binary", f"@{body}", "-H", "Transfer-Encoding: chunked" if chunked else "",
         "-H", "X-HTTP-STATUSES: 1", "-H", f"X-SIGN: {SIGNATURE}", "-w", "\n%{http_code}",
         f"https://127.0.0.1:{cluster.balancer.ports.edge}/api"],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert time.monotonic() - begun < 4
    answer, _, status = posted.stdout.rpartition("\n")
    assert int(status) in statuses
    if status == "400":
        assert orjson.loads(answer)["error"] == "Body too large"


async def test_more_requests_than_the_gateways_may_have_are_all_answered(cluster: Cluster, tmp_path: Path) -> None:
    with balancing(cluster.kind, tmp_path / "small", cluster.nodes, most=1) as small:
        begun = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(client_at(f"127.0.5.{i + 1}", small)) for i in range(60)]
            seen = Counter(await asyncio.gather(*(ask(client, small) for client in clients)))
        assert time.monotonic() - begun < 6
        # HAProxy lets them wait for a second; nginx, which has no queue, refuses those for which there is no place.
        assert set(seen) <= {200, 503 if cluster.kind == "haproxy" else 502}, seen
        assert seen[200] > (20 if cluster.kind == "haproxy" else 1)


async def test_a_signature_in_the_query_is_in_no_log(cluster: Cluster, tmp_path: Path) -> None:
    dead = (Node("unix:///none", tmp_path / "log"), Node("unix:///none", tmp_path / "log"))
    with balancing(cluster.kind, tmp_path / "dead", dead) as alone:
        for balancer, bodies in ((cluster.balancer, (BODY, b"x" * 100_000)), (alone, (BODY,))):
            for body in bodies:
                for path in ("/api", "/api/", "/elsewhere"):
                    with contextlib.suppress(OSError):  # it may be refused before all of its body has left
                        raw(balancer, balancer.ports.edge, f"{path}?sign={SIGNATURE}", ip="127.0.6.1", body=body)
            raw(balancer, balancer.ports.manage, f"/calls?sign={SIGNATURE}", ip="127.0.6.1")
            raw(balancer, balancer.ports.edge, f"/api?sign={SIGNATURE}&sign={SIGNATURE}", ip="127.0.6.1")
        await asyncio.sleep(0.3)
    for balancer in (cluster.balancer, alone):
        logs = balancer.logs()
        assert "/api" in logs
        assert SIGNATURE not in logs
        assert "127.0.6.1" not in logs
        assert "127.0.6.0" in logs


async def test_readiness_takes_a_draining_node_out(cluster: Cluster) -> None:
    if cluster.kind == "nginx":
        pytest.skip("nginx asks nobody whether they are ready; the end of the drain takes the node out")
    node = cluster.nodes[0]
    async with Load(cluster.balancer) as load:
        node.sigterm()
        await asyncio.sleep(2)
        out = await asyncio.to_thread(node.answered)
        before = load.seen["success"]
        await asyncio.sleep(1.5)
        assert await asyncio.to_thread(node.answered) == out
        assert load.seen["success"] > before + 100
        await asyncio.to_thread(node.stop)
        await asyncio.to_thread(node.start)
        deadline = time.monotonic() + 10
        while await asyncio.to_thread(node.answered) < 20:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    check_that_nothing_failed(load, cluster, 500)


async def test_a_rolling_restart_of_both_nodes_fails_no_request(cluster: Cluster) -> None:
    async with Load(cluster.balancer) as load:
        for node in cluster.nodes:
            await restart(node)
        await asyncio.sleep(0.5)
    check_that_nothing_failed(load, cluster, 1000)


@pytest.fixture
def other_release(tmp_path: Path) -> Path:
    """A directory with a copy of the package whose store functions are other code."""
    package = Path(edgeproxy.__file__).parent
    copy = tmp_path / "release"
    shutil.copytree(package, copy / "edgeproxy", ignore=shutil.ignore_patterns("__pycache__"))
    for library in (copy / "edgeproxy" / "store" / "lua").iterdir():
        library.write_text(library.read_text() + "\n-- another release\n")
    found = subprocess.run(
        [sys.executable, "-c", "import edgeproxy; print(edgeproxy.__file__)"],
        env=environment({"PYTHONPATH": str(copy)}), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.startswith(str(copy))
    return copy


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rolling_restart_from_one_release_to_the_next_fails_no_request(
    kind: str, tmp_path: Path, other_release: Path
) -> None:
    need(kind)
    with EmbeddedStore(tmp_path / "store") as store, clustered(kind, tmp_path, store.url) as cluster:
        async with Load(cluster.balancer) as load:
            for node in cluster.nodes:
                node.package = other_release
                await restart(node)
                assert await asyncio.to_thread(cluster.nodes[0].answered) > 0  # both releases serve
                assert await asyncio.to_thread(cluster.nodes[1].answered) > 0
        check_that_nothing_failed(load, cluster, 1000)
