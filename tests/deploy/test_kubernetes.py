"""The Kubernetes manifests: valid by the API's schemas, and of one piece with each other and with the gateway."""

import ipaddress
import tomllib
from typing import Any

import pytest
import yaml
from kubernetes_validate.utils import validate

from edgeproxy.calls import handler as calls_handler
from edgeproxy.numbers import handler as numbers_handler
from edgeproxy.settings import Settings
from tests.deploy.servers import DEPLOY

FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
LABELS = {"app.kubernetes.io/name": "edgeproxy"}


def objects() -> list[dict[str, Any]]:
    return [
        tree for file in FILES if file.name != "kustomization.yaml" for tree in yaml.safe_load_all(file.read_text())
    ]


def one(kind: str, name: str = "edgeproxy") -> dict[str, Any]:
    (found,) = [tree for tree in objects() if (tree["kind"], tree["metadata"]["name"]) == (kind, name)]
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = one("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (only,) = pod()["containers"]
    assert isinstance(only, dict)
    return only


def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the pod's gateway would read."""
    data = one("ConfigMap")["data"]
    for name, value in data.items():
        assert name.removeprefix("EDGEPROXY_").lower() in {*Settings.model_fields, "config"}, name
        if name != "EDGEPROXY_CONFIG":
            monkeypatch.setenv(name, value)
    return Settings(**tomllib.loads(one("Secret")["stringData"]["secrets.toml"]))


@pytest.mark.parametrize("tree", objects(), ids=lambda tree: f"{tree['kind']} {tree['metadata']['name']}")
def test_it_is_valid_by_the_schemas(tree: dict[str, Any]) -> None:
    validate(tree, "1.37", strict=True)
    assert tree["metadata"]["labels"] == LABELS


def test_kustomize_takes_every_file_in() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [file.name for file in FILES if file.name != "kustomization.yaml"]


def test_the_settings_are_settings_of_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch)
    assert read.store_url is not None
    assert one("ConfigMap")["data"]["EDGEPROXY_CONFIG"] == f"{container()['volumeMounts'][0]['mountPath']}/secrets.toml"
    assert container()["envFrom"] == [{"configMapRef": {"name": one("ConfigMap")["metadata"]["name"]}}]
    assert pod()["volumes"][0]["secret"]["secretName"] == one("Secret")["metadata"]["name"]
    assert pod()["enableServiceLinks"] is False  # the links' names begin with EDGEPROXY_ too


def test_a_pod_has_time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch)
    probe = container()["readinessProbe"]
    assert pod()["terminationGracePeriodSeconds"] > read.drain_s + read.grace_s
    assert read.drain_s > probe["periodSeconds"] * probe["failureThreshold"]


def test_ports_are_the_gateway_s(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch)
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"edge": read.port, "manage": read.manage_port}
    assert read.manage_host == "0.0.0.0"
    service = {port["targetPort"]: port["port"] for port in one("Service")["spec"]["ports"]}
    assert service == ports
    assert {port["port"] for rule in one("NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]} == {8080, 8081}
    assert read.store_url is not None
    store = int(read.store_url.get_secret_value().rpartition(":")[2].partition("/")[0])
    egress = one("NetworkPolicy")["spec"]["egress"]
    assert {port["port"] for rule in egress for port in rule["ports"]} == {store, 53}
    assert ipaddress.ip_network(egress[0]["to"][0]["ipBlock"]["cidr"]).prefixlen == 32


def test_probes_ask_for_what_the_gateway_answers() -> None:
    asked = {name: container()[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {
        "startupProbe": {"path": "/healthz", "port": "edge"},  # readiness waits for the store, a start must not
        "livenessProbe": {"path": "/healthz", "port": "edge"},
        "readinessProbe": {"path": "/readyz", "port": "edge"},
    }


def test_from_outside_the_apis_are_reached_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    (edge,) = one("Ingress")["spec"]["rules"][0]["http"]["paths"]
    assert (edge["path"], edge["pathType"], edge["backend"]["service"]["port"]["name"]) == ("/api", "Exact", "edge")
    paths = one("Ingress", "edgeproxy-manage")["spec"]["rules"][0]["http"]["paths"]
    assert {path["backend"]["service"]["port"]["name"] for path in paths} == {"manage"}
    prefixes = {path["path"] for path in paths if path["pathType"] == "Prefix"}
    assert prefixes == {"/" + settings(monkeypatch).api_version, "/phone-service", calls_handler.PATH}
    assert numbers_handler.PATH.startswith("/phone-service/")
    assert {path["path"] for path in paths if path["pathType"] == "Exact"} == {"/docs", "/openapi.json"}
    for name in ("edgeproxy", "edgeproxy-manage"):
        spec = one("Ingress", name)["spec"]
        assert spec["tls"][0]["hosts"] == [spec["rules"][0]["host"]]


def test_selectors_find_the_pods() -> None:
    deployment = one("Deployment")["spec"]
    assert deployment["template"]["metadata"]["labels"] == LABELS
    assert deployment["selector"]["matchLabels"] == LABELS
    assert "replicas" not in deployment  # or an update would undo the autoscaler's work
    assert one("Service")["spec"]["selector"] == LABELS
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == LABELS
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == LABELS
    assert [spread["labelSelector"]["matchLabels"] for spread in pod()["topologySpreadConstraints"]] == [LABELS] * 2
    target = one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "edgeproxy")


def test_a_disruption_leaves_a_pod_and_the_autoscaler_can_measure() -> None:
    assert one("HorizontalPodAutoscaler")["spec"]["minReplicas"] > one("PodDisruptionBudget")["spec"]["maxUnavailable"]
    resources = container()["resources"]
    assert "cpu" in resources["requests"]
    assert "cpu" not in resources["limits"]


def test_pods_meet_the_restricted_security_standard() -> None:
    context, own = pod()["securityContext"], container()["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert pod()["automountServiceAccountToken"] is False
    assert one("ServiceAccount")["automountServiceAccountToken"] is False
    assert pod()["serviceAccountName"] == one("ServiceAccount")["metadata"]["name"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod().keys()
    assert all("secret" in volume for volume in pod()["volumes"])
