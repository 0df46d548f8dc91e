"""The image and the compose file: lint, schema, and what they say run as far as that goes without an engine."""

import contextlib
import fnmatch
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from edgeproxy.settings import PREFIX, Settings
from tests import processes
from tests.conftest import DEMO
from tests.deploy.gateway import gateway, tell
from tests.deploy.servers import DEPLOY, PASSWORDS, free_port, needs, store

ROOT = DEPLOY.parent
CONTAINER = DEPLOY / "container"
UNREACHED = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ProxyError")


def instructions() -> list[tuple[str, str]]:
    """The Containerfile's instructions with their values, in order."""
    with (CONTAINER / "Containerfile").open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    return [(step["instruction"], step["value"]) for step in structure if step["instruction"] != "COMMENT"]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, value in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, value))
    return found


def last(wanted: str) -> str:
    """The value of the final stage's last instruction of a name."""
    return [value for name, value in stages()[-1] if name == wanted][-1]


def variables() -> dict[str, str]:
    return dict(pair.split("=", 1) for name, value in stages()[-1] if name == "ENV" for pair in shlex.split(value))


def compose() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    return tree


def services() -> dict[str, Any]:
    tree: dict[str, Any] = compose()["services"]
    return tree


GATEWAYS = [name for name in services() if name.startswith("gateway")]


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in (variables() | services()[GATEWAYS[0]]["environment"]).items():
        if name.startswith(PREFIX) and name != "EDGEPROXY_CONFIG":
            assert name.removeprefix(PREFIX).lower() in Settings.model_fields, name
            monkeypatch.setenv(name, value)
    return Settings(**tomllib.loads((CONTAINER / "secrets.toml").read_text()))


# The image ------------------------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, CONTAINER / "Containerfile"], check=True, timeout=60)


def test_the_final_image_is_slim_and_runs_as_nobody() -> None:
    builder, final = stages()
    assert builder[0][1].partition(" ")[0] == final[0][1]  # a venv goes with the Python that made it
    user, _, group = last("USER").partition(":")
    assert user.isdigit() and group.isdigit() and int(user) > 0  # noqa: PT018 - one thing
    assert "RUN" not in [name for name, _ in final]
    assert last("STOPSIGNAL") == "SIGTERM"
    assert (last("ENTRYPOINT"), last("CMD")) == ('["edgeproxy"]', '["serve"]')
    labels = shlex.split(last("LABEL"))
    assert {label.partition("=")[0].rpartition(".")[2] for label in labels} == {"title", "description", "licenses"}


def test_ports_are_the_gateway_s(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch)
    assert last("EXPOSE").split() == [str(read.port), str(read.manage_port)]
    assert read.manage_host == "0.0.0.0"


def test_all_that_is_copied_is_there_and_nothing_secret_is() -> None:
    rules = (CONTAINER / "Containerfile.dockerignore").read_text().split()
    assert rules[0] == "*"
    for name, value in instructions():
        if name != "COPY" or value.startswith("--from"):
            continue
        *sources, _ = value.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, rule[1:]) for rule in rules if rule.startswith("!")), source
            assert "secret" not in source
    assert not re.search(r"(?i)passw|secret|CHANGE_ME", "\n".join(value for _, value in instructions()))


@pytest.mark.slow
def test_the_steps_build_a_gateway_that_serves_with_the_compose_file_s_store(tmp_path: Path) -> None:
    """The build's own commands in a scratch directory, then what the image would start, in the environment it would."""
    places = {"/opt/edgeproxy": str(tmp_path / "opt"), "/build": str(tmp_path / "build"), "/src": str(tmp_path / "src")}

    def moved(text: str) -> str:
        return re.sub(r"(?<![\w/.])(/opt/edgeproxy|/build|/src)\b", lambda found: places[found[1]], text)

    (tmp_path / "src").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    path = f"{tmp_path / 'bin'}:{os.defpath}"
    for name, value in stages()[0]:
        if name == "COPY":
            *sources, target = value.split()
            for source in sources:
                beside = tmp_path / "src" / target
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, beside, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    beside = beside / Path(source).name if target.endswith("/") else beside
                    beside.parent.mkdir(exist_ok=True)
                    shutil.copy(ROOT / source, beside)
        elif name == "RUN":
            step = subprocess.run(
                ["sh", "-c", moved(value)],
                cwd=tmp_path / "src", env=bare() | {"PATH": path}, capture_output=True, text=True, timeout=600,
            )  # fmt: skip
            if step.returncode and UNREACHED.search(step.stdout + step.stderr):
                pytest.skip("no package index can be reached")
            assert step.returncode == 0, step.stdout[-2000:] + step.stderr[-2000:]

    command = services()["store"]["command"]
    assert command[:2] == ["valkey-server", "/etc/valkey/valkey.conf"]
    arguments = ["--bind", "127.0.0.1", *command[4:6]]
    assert arguments[2] == "--dir"
    arguments[3] = str(tmp_path / "store" / "data")
    with store(tmp_path / "store", arguments=arguments) as server:
        secrets = (CONTAINER / "secrets.toml").read_text().replace("@store:6379", f"@127.0.0.1:{server.port}")
        for mark, password in PASSWORDS.items():
            secrets = secrets.replace(mark, password)
        (tmp_path / "edgeproxy.toml").write_text(secrets)
        ports = {"EDGEPROXY_PORT": str(free_port()), "EDGEPROXY_MANAGE_PORT": str(free_port())}
        environment = bare() | variables() | services()["gateway-1"]["environment"] | ports
        environment |= {"PATH": moved(variables()["PATH"]).replace("$PATH", path)}
        environment |= {
            "EDGEPROXY_CONFIG": str(tmp_path / "edgeproxy.toml"),
            "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.0/8",
        }
        healthcheck = yaml.safe_load(last("HEALTHCHECK").partition("CMD ")[2])

        def health() -> int:
            return subprocess.run(healthcheck, env=environment, stderr=subprocess.DEVNULL, timeout=30).returncode

        assert health() == 1
        start = yaml.safe_load(last("ENTRYPOINT")) + yaml.safe_load(last("CMD"))
        process = subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, text=True, cwd="/")
        try:
            running = processes.Running(process)
            assert process.stdout is not None
            for line in process.stdout:
                word, _, rest = line.strip().partition(" ")
                running.said[word] = rest
                if word == "ready":
                    break
            interpreter = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")[0]
            assert interpreter.startswith(str(tmp_path / "opt"))
            assert health() == 0
            subprocess.run([start[0], "load", str(DEMO)], env=environment, check=True, timeout=60)
            session, number = tell(running, "192.0.2.1")
            assert tell(running, "192.0.2.2", session) == (session, number)
            process.send_signal(getattr(signal, last("STOPSIGNAL")))
            assert process.wait(seconds(services()["gateway-1"]["stop_grace_period"])) == 0
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(40)
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def bare() -> dict[str, str]:
    """This environment without what would reach into the image's: settings, and the paths of this Python."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith((PREFIX, "PYTHON", "VIRTUAL_ENV")) and name != "PATH"
    }


# The compose file -----------------------------------------------------------------------------------------------------


def test_the_compose_file_is_valid_by_the_specification_s_schema() -> None:
    subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
         CONTAINER / "compose.yaml"],
        check=True, timeout=60,
    )  # fmt: skip


def test_only_the_balancer_is_reached_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name for name, service in services().items() if "ports" in service] == ["balancer"]
    networks = {name: set(service["networks"]) for name, service in services().items()}
    assert networks == {"gateway-1": {"edge", "inside"}, "gateway-2": {"edge", "inside"}, "store": {"inside"},
                        "balancer": {"edge"}}  # fmt: skip
    assert compose()["networks"]["inside"]["internal"] is True
    (subnet,) = compose()["networks"]["edge"]["ipam"]["config"]
    assert [str(network) for network in settings(monkeypatch).trusted_proxies] == [subnet["subnet"]]


@pytest.mark.parametrize("name", services())
def test_a_container_may_do_little_and_comes_back(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert name in GATEWAYS or int(service["user"].partition(":")[0]) > 0
    assert "privileged" not in service


def test_gateways_start_after_their_store_and_have_time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch)
    assert len(GATEWAYS) == 2
    for name in GATEWAYS:
        service = services()[name]
        assert service["depends_on"] == {"store": {"condition": "service_healthy"}}
        assert seconds(service["stop_grace_period"]) > read.drain_s + read.grace_s
    assert services()["balancer"]["depends_on"] == {name: {"condition": "service_healthy"} for name in GATEWAYS}


def test_secrets_are_files(monkeypatch: pytest.MonkeyPatch) -> None:
    service = services()["gateway-1"]
    (name,) = service["secrets"]
    assert service["environment"]["EDGEPROXY_CONFIG"] == f"/run/secrets/{name}"
    assert (CONTAINER / compose()["secrets"][name]["file"]).exists()
    url = settings(monkeypatch).store_url
    assert url is not None
    assert "@store:6379" in url.get_secret_value()  # the service's name


def test_what_is_mounted_is_there_and_memory_is_twice_what_the_store_takes() -> None:
    for service in services().values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose()["volumes"] if "/" not in source else (CONTAINER / source).is_file()
    (line,) = [
        line for line in (DEPLOY / "store" / "valkey.conf").read_text().splitlines() if line.startswith("maxmemory ")
    ]
    assert (line, services()["store"]["mem_limit"]) == ("maxmemory 2gb", "4g")


@pytest.mark.slow
def test_the_store_s_healthcheck_tells_a_store_that_answers_from_one_that_does_not(tmp_path: Path) -> None:
    cli = needs("redis-cli")
    kind, check = services()["store"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    with store(tmp_path) as server:
        here = check.replace("valkey-cli -p 6379", f"{cli} -p {server.port}")
        assert here != check
        assert subprocess.run(["sh", "-c", here], timeout=30).returncode == 0
        server.stop()
        assert subprocess.run(["sh", "-c", here], timeout=30).returncode == 1


@contextlib.contextmanager
def balancer(directory: Path, gateways: list[str]) -> Iterator[str]:
    port = free_port()
    text = (CONTAINER / "haproxy.cfg").read_text()
    for name, address in zip(GATEWAYS, gateways, strict=True):
        assert text.count(f"{name}:8080") == 1
        text = text.replace(f"{name}:8080", address.removeprefix("http://"))
    (most,) = re.findall(r"maxconn (\d+)", text)
    assert services()["balancer"]["ulimits"]["nofile"] > 2 * int(most) + 100
    text = text.replace(f"maxconn {most}", "maxconn 1000").replace("bind :8080", f"bind 127.0.0.1:{port}")
    (directory / "haproxy.cfg").write_text(text)
    process = subprocess.Popen([needs("haproxy"), "-f", directory / "haproxy.cfg"], stdout=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_the_balancer_serves_from_whichever_gateway_is_ready_and_hides_the_rest(tmp_path: Path) -> None:
    needs("haproxy")
    with store(tmp_path) as server:
        url = server.url("edgeproxy")
        assert processes.run("load", str(DEMO), EDGEPROXY_STORE_URL=url).returncode == 0
        with gateway(url) as one, gateway(url) as two, balancer(tmp_path, [one.edge, two.edge]) as edge:
            front = processes.Running(one.process, {"edge:": edge})
            shown = {until_it_serves(front)}
            shown |= {tell(front, "192.0.2.1", session) for session, _ in list(shown)}
            assert len(shown) == 1
            for hidden in ("/readyz", "/metrics", "/api/x"):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(edge + hidden, timeout=10)
                assert refused.value.code == 404
                refused.value.close()
            one.stop()
            time.sleep(2.5)  # until the balancer has seen it twice
            shown |= {tell(front, "192.0.2.1", session) for session, _ in list(shown) for _ in range(2)}
            assert len(shown) == 1


def until_it_serves(front: processes.Running) -> tuple[str, str]:
    for _ in range(50):
        try:
            return tell(front, "192.0.2.1")
        except urllib.error.HTTPError as error:
            error.close()
        except urllib.error.URLError:
            pass
        time.sleep(0.1)
    raise AssertionError("the balancer does not serve")
