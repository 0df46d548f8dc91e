"""A gateway that starts beside a cluster that is not whole: a primary is dead, or no node has slots yet."""

from pathlib import Path

import pytest

from edgeproxy.store import keys
from tests.fault.load import Load
from tests.fault.nodes import elsewhere, serving
from tests.processes import pasted, started
from tests.servers import NODE_TIMEOUT_MS, ServerProcess, calls, cluster, free_ports, until

pytestmark = pytest.mark.slow

SETTINGS = {
    "EDGEPROXY_PORT": "0", "EDGEPROXY_MANAGE_PORT": "0", "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.0/8",
    "EDGEPROXY_DRAIN_S": "0",
}  # fmt: skip


async def test_while_a_primary_is_dead_a_gateway_starts_and_serves_the_others_accounts(tmp_path: Path) -> None:
    with cluster(tmp_path / "nodes") as nodes:
        calm = elsewhere(nodes, "busy")  # of a primary that is not the limiter's
        with serving(nodes.url, tmp_path, calm):
            pass  # its accounts stay
        dead = nodes.primary_of(keys.account(calm))
        replicas = [node for node in nodes.nodes if follows(node, dead)]
        for node in (*replicas, dead):
            node.kill()
        with started("serve", stderr=tmp_path / "log", settings=SETTINGS | {"EDGEPROXY_STORE_URL": nodes.url}) as serve:
            assert pasted(f"curl -s {serve.edge}/readyz") == "ready\n"
            async with Load(serve.edge, key="busy-key", advId="busy") as many:
                pass
            assert set(many.seen()) == {"success"}
            async with Load(serve.edge, key="calm-key", advId=calm) as lost:
                pass
            assert set(lost.seen()) == {"Store unavailable"}


def follows(node: ServerProcess, primary: ServerProcess) -> bool:
    with node.client() as client:
        return bool(client.info("replication").get("master_port") == primary.port)


def test_a_cluster_without_slots_is_waited_for_and_told_once(tmp_path: Path) -> None:
    port, bus = free_ports(2)
    options = ("cluster-enabled yes", f"cluster-port {bus}", f"cluster-node-timeout {NODE_TIMEOUT_MS}")
    settings = SETTINGS | {"EDGEPROXY_STORE_URL": f"redis+cluster://127.0.0.1:{port}"}
    with (
        ServerProcess(tmp_path / "node", *options, port=port) as node,
        node.client() as client,
        started("serve", stderr=tmp_path / "log", settings=settings, until="manage:") as serve,
    ):
        until(lambda: asked(client) >= 6, "a gateway that asks for the slots again and again")
        assert pasted(f"curl -s -m 2 {serve.edge}/readyz") != "ready\n"
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: pasted(f"curl -s -m 2 {serve.edge}/readyz") == "ready\n", "a gateway that is ready")
        assert serve.stop() == 0
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "not ready: the cluster has no slots" in line


def test_a_cluster_that_is_away_is_waited_for_and_told_once(tmp_path: Path) -> None:
    port, bus = free_ports(2)
    options = ("cluster-enabled yes", f"cluster-port {bus}", f"cluster-node-timeout {NODE_TIMEOUT_MS}")
    settings = SETTINGS | {"EDGEPROXY_STORE_URL": f"redis+cluster://127.0.0.1:{port}"}
    with started("serve", stderr=tmp_path / "log", settings=settings, until="manage:") as serve:
        until(lambda: "not ready" in (tmp_path / "log").read_text(), "a gateway that tells that it is not ready")
        with ServerProcess(tmp_path / "node", *options, port=port) as node, node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: pasted(f"curl -s -m 2 {serve.edge}/readyz") == "ready\n", "a gateway that is ready")
            assert serve.stop() == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def asked(client: object) -> int:
    return calls(client, "cluster|slots") + calls(client, "cluster|shards")
