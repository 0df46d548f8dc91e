"""Two gateways behind HAProxy or nginx, with the configurations of deploy/, on free ports of this machine."""

import contextlib
import getpass
import grp
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.processes import Running, pasted, run, started

DEPLOY = Path(__file__).parents[2] / "deploy"
KINDS = ("haproxy", "nginx")
CLIENTS_OF_MANAGE = "127.0.0.2"  # whom the manage port's list lets in

_ACCOUNTS = """accounts:
  demo:
    secrets: [freespee]
    region: DE
    points: {daily: 1000000}
    pools:
      berlin:
        replaces: [+493015981100]
        numbers: [+493015981151..+493015981190]
        overflow: recycle
    networks: [127.0.0.0/8]
  busy:
    secrets: [busy-key]
    region: GB
    points: {daily: 100000000}
    limit: {per_second: 1000}
    pools:
      london:
        replaces: [+442079460010]
        numbers: [+442079460011, +442079460012]
        overflow: shared
        shared_number: +442079460013
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Ports:
    plain: int = field(default_factory=free_port)
    edge: int = field(default_factory=free_port)
    manage: int = field(default_factory=free_port)


class Node:
    """A gateway on ports of its own that can be stopped and started again.

    `package` is the directory of the code that it is started with, if it is not that of this tree.
    """

    def __init__(self, store_url: str, log: Path) -> None:
        self.ports = Ports()
        self.log = log
        self.package: Path | None = None
        self._settings = {
            "EDGEPROXY_STORE_URL": store_url, "EDGEPROXY_HOST": "127.0.0.1", "EDGEPROXY_PORT": str(self.ports.edge),
            "EDGEPROXY_MANAGE_PORT": str(self.ports.manage), "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.1/32",
            "EDGEPROXY_BUDGET_MS": "1000",
        }  # fmt: skip
        self._context: contextlib.AbstractContextManager[Running] | None = None
        self.running: Running | None = None

    def start(self) -> None:
        settings = self._settings | ({"PYTHONPATH": str(self.package)} if self.package else {})
        self._context = started("serve", "--workers", "2", settings=settings, stderr=self.log)
        self.running = self._context.__enter__()

    def stop(self) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = self.running = None

    def load(self, file: Path) -> None:
        loaded = run("load", str(file), **self._settings)
        assert loaded.returncode == 0, loaded.stderr

    def sigterm(self) -> None:
        assert self.running is not None
        self.running.process.send_signal(signal.SIGTERM)

    def answered(self) -> int:
        """How many requests of the Dynamic Numbers API this gateway has answered since it was started."""
        exposition = pasted(f"curl -s http://127.0.0.1:{self.ports.manage}/metrics")
        counts = re.findall(r"^edgeproxy_requests_total\{.*\} (\S+)$", exposition, re.MULTILINE)
        return round(sum(map(float, counts)))


@dataclass
class Balancer:
    """A running load balancer, its ports, and the directory that holds all its logs."""

    ports: Ports
    directory: Path
    tls: ssl.SSLContext

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.directory.glob("*.log")))


@dataclass
class Cluster:
    kind: str
    nodes: tuple[Node, Node]
    balancer: Balancer


def _rendered(shipped: Path, changes: Mapping[str, str]) -> str:
    """The shipped file with the values on its lines marked `# change` replaced; every one of both must be needed."""
    unused, lines = set(changes), []
    for line in shipped.read_text().splitlines():
        text, marked, _ = line.partition(" # change")
        if marked:
            old = next((value for value in changes if value in text), None)
            assert old is not None, f"nothing replaces the marked value in {line!r}"
            unused.discard(old)
            text = text.replace(old, changes[old])
        lines.append(text.rstrip())
    assert not unused, f"no marked line holds {unused}"
    return "\n".join(lines) + "\n"


def _certificate(directory: Path) -> tuple[Path, Path]:
    certificate, key = directory / "edgeproxy.crt", directory / "edgeproxy.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def command_of(kind: str, directory: Path, nodes: tuple[Node, Node], ports: Ports, most: int | None) -> list[str]:
    """Write the configuration into `directory`, and give the command that runs it; `most` bounds a node's requests."""
    certificate, key = _certificate(directory)
    gateways = {
        f"192.0.2.1{i + 1}:{port}": f"127.0.0.1:{mine}"
        for i, node in enumerate(nodes)
        for port, mine in ((8080, node.ports.edge), (8081, node.ports.manage))
    }
    if kind == "haproxy":
        pem = directory / "edgeproxy.pem"
        pem.write_text(certificate.read_text() + key.read_text())
        text = _rendered(
            DEPLOY / "haproxy" / "haproxy.cfg",
            gateways
            | {
                "maxconn 20000": "maxconn 2000",
                "/run/haproxy/admin.sock": str(directory / "admin.sock"),
                ":80 ": f"127.0.0.1:{ports.plain} ",
                ":443 ssl crt /etc/haproxy/edgeproxy.pem": f"127.0.0.1:{ports.edge} ssl crt {pem}",
                ":8443 ssl crt /etc/haproxy/edgeproxy.pem": f"127.0.0.1:{ports.manage} ssl crt {pem}",
                "198.51.100.0/24": CLIENTS_OF_MANAGE,
            },
        )
        group = grp.getgrgid(os.getgid()).gr_name
        text = text.replace("user haproxy", f"user {getpass.getuser()}").replace("group haproxy", f"group {group}")
        if most is not None:
            text = text.replace("maxconn 1000", f"maxconn {most}")
        (directory / "haproxy.cfg").write_text(text)
        return ["haproxy", "-f", str(directory / "haproxy.cfg"), "-db"]
    text = _rendered(
        DEPLOY / "nginx" / "edgeproxy.conf",
        gateways
        | {
            "/var/log/nginx/edgeproxy.log": str(directory / "access.log"),
            "/var/log/nginx/edgeproxy.error.log": str(directory / "error.log"),
            "/etc/nginx/edgeproxy.crt": str(certificate),
            "/etc/nginx/edgeproxy.key": str(key),
            "listen 80;": f"listen 127.0.0.1:{ports.plain};",
            "listen 443 ssl;": f"listen 127.0.0.1:{ports.edge} ssl;",
            "listen 8443 ssl;": f"listen 127.0.0.1:{ports.manage} ssl;",
            "198.51.100.0/24": CLIENTS_OF_MANAGE,
        },
    )
    if most is not None:
        text = text.replace("max_conns=1000", f"max_conns={most}")
    (directory / "edgeproxy.conf").write_text(text)
    user = f"user {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name};" if os.getuid() == 0 else ""
    temporary = "".join(
        f"{what}_temp_path {directory / what}; " for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 2; pid {directory}/pid; error_log {directory}/main.log info;\n"
        f"events {{ worker_connections 4096; }}\nhttp {{ {temporary} include {directory}/edgeproxy.conf; }}\n"
    )
    return ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", str(directory / "start.log")]


CHECK = {"haproxy": "-c", "nginx": "-t"}


def need(kind: str) -> None:
    if shutil.which(kind) is None:
        pytest.skip(f"{kind} is not installed")


@contextlib.contextmanager
def balancing(kind: str, directory: Path, nodes: tuple[Node, Node], most: int | None = None) -> Iterator[Balancer]:
    """Run HAProxy or nginx in front of two gateways, by the file that deploy/ ships; stop it at the end."""
    directory.mkdir()
    ports = Ports()
    command = command_of(kind, directory, nodes, ports, most)
    with (directory / "output.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 20
            while not _listens(ports.edge):
                assert process.poll() is None, (directory / "output.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if kind == "haproxy":  # which takes its servers to be up until the first checks
                time.sleep(1)
            yield Balancer(ports, directory, ssl.create_default_context(cafile=str(directory / "edgeproxy.crt")))
            assert process.poll() is None, (directory / "output.log").read_text()
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def clustered(kind: str, directory: Path, store_url: str) -> Iterator[Cluster]:
    """Two gateways that share a store, with the accounts `demo` and `busy`, behind a load balancer."""
    nodes = (
        Node(store_url, directory / "node1.log"),
        Node(store_url, directory / "node2.log"),
    )
    accounts = directory / "accounts.yaml"
    accounts.write_text(_ACCOUNTS)
    with contextlib.ExitStack() as stack:
        nodes[0].load(accounts)
        for node in nodes:
            stack.callback(node.stop)
            node.start()
        yield Cluster(kind, nodes, stack.enter_context(balancing(kind, directory / kind, nodes)))
