"""The systemd units: systemd reads them, finds them shut off well, and what they start serves behind their filters."""

import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

from edgeproxy.settings import PREFIX, Settings
from tests import processes
from tests.conftest import DEMO
from tests.deploy import sandbox
from tests.deploy.gateway import tell
from tests.deploy.servers import DEPLOY, PASSWORDS, free_port, needs, program, store

UNITS = DEPLOY / "systemd"
GATEWAY, STORE = UNITS / "edgeproxy.service", UNITS / "edgeproxy-store.service"
both = pytest.mark.parametrize("unit", [GATEWAY, STORE], ids=lambda unit: unit.name)


def environment() -> dict[str, str]:
    lines = (UNITS / "edgeproxy.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment().items():
        assert name.removeprefix(PREFIX).lower() in Settings.model_fields, name
        monkeypatch.setenv(name, value)
    return Settings(**tomllib.loads((UNITS / "secrets.toml").read_text()))


def test_systemd_reads_the_units(tmp_path: Path) -> None:
    needs("systemd-analyze")
    for unit, installed, here in (
        (GATEWAY, "/opt/edgeproxy/bin/edgeproxy ", processes.EDGEPROXY),
        (STORE, "/usr/bin/valkey-server ", program("valkey")),
    ):
        text = unit.read_text()
        assert text.count(f"ExecStart={installed}") == 1
        (tmp_path / unit.name).write_text(text.replace(installed, f"{here} "))
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *tmp_path.glob("*.service")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


@both
def test_the_exposure_is_below_3(unit: Path) -> None:
    told = subprocess.run(
        [needs("systemd-analyze"), "security", "--offline=true", "--threshold=29", unit],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout[-300:]
    assert "Overall exposure level" in told.stdout


def test_the_gateway_has_time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch)
    unit = sandbox.directives(GATEWAY)
    assert int(unit["TimeoutStopSec"][0]) > read.drain_s + read.grace_s
    assert unit["KillMode"] == ["mixed"]


@both
def test_it_is_started_again_forever(unit: Path) -> None:
    asked = sandbox.directives(unit)
    assert asked["Restart"] == ["always"]
    assert asked["StartLimitIntervalSec"] == ["0"]
    assert int(asked["LimitNOFILE"][0]) >= 65536
    assert "WatchdogSec" not in asked  # neither program tells systemd that it is alive


def test_secrets_reach_the_gateway_as_a_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = sandbox.directives(GATEWAY)
    (credential,) = unit["LoadCredential"]
    name, _, path = credential.partition(":")
    assert Path(path).name == "secrets.toml"
    assert f"EDGEPROXY_CONFIG=%d/{name}" in unit["Environment"][0].split()
    assert not any("CHANGE_ME" in value for value in environment().values())
    url = settings(monkeypatch).store_url
    assert url is not None
    assert url.get_secret_value().startswith("redis://edgeproxy:")


def test_the_store_s_unit_and_its_configuration_name_one_directory() -> None:
    unit = sandbox.directives(STORE)
    (line,) = [line for line in (DEPLOY / "store" / "valkey.conf").read_text().splitlines() if line.startswith("dir ")]
    assert line == f"dir /var/lib/{unit['StateDirectory'][0]}"
    assert "daemonize yes" not in (DEPLOY / "store" / "valkey.conf").read_text()


@pytest.mark.slow
@both
def test_the_filters_are_in_force(unit: Path) -> None:
    needs("systemd-analyze")
    for code in ("import mmap; mmap.mmap(-1, 4096, prot=7)", "import os; os.chroot('/')"):
        told = subprocess.run(
            [sys.executable, sandbox.__file__, unit, sys.executable, "-c", code],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert told.returncode == 1
        assert "PermissionError" in told.stderr


@pytest.mark.slow
def test_gateway_and_store_serve_behind_their_filters(tmp_path: Path) -> None:
    needs("systemd-analyze")
    python = str(Path(sys.executable))
    with store(tmp_path, before=[python, sandbox.__file__, str(STORE)]) as server:
        secrets = (UNITS / "secrets.toml").read_text().replace(":6379", f":{server.port}")
        for mark, password in PASSWORDS.items():
            secrets = secrets.replace(mark, password)
        (tmp_path / "secrets.toml").write_text(secrets)
        assert processes.run("load", str(DEMO), EDGEPROXY_STORE_URL=server.url("edgeproxy")).returncode == 0
        ports = {"EDGEPROXY_PORT": str(free_port()), "EDGEPROXY_MANAGE_PORT": str(free_port())}
        config = {"EDGEPROXY_CONFIG": str(tmp_path / "secrets.toml")}
        (start,) = sandbox.directives(GATEWAY)["ExecStart"]
        process = subprocess.Popen(
            [python, sandbox.__file__, str(GATEWAY), processes.EDGEPROXY, *start.split()[1:]],
            stdout=subprocess.PIPE, text=True, env=processes.environment(environment() | ports | config),
        )  # fmt: skip
        running = processes.Running(process)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                word, _, rest = line.strip().partition(" ")
                running.said[word] = rest
                if word == "ready":
                    break
            workers = running.workers()
            assert len(workers) == int(environment()["EDGEPROXY_WORKERS"])
            for pid in (*workers, server.process.pid):
                assert "Seccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()
            session, number = tell(running, "192.0.2.1")
            assert tell(running, "192.0.2.2", session) == (session, number)
            with urllib.request.urlopen(f"{running.manage}/metrics", timeout=10) as response:
                assert b'edgeproxy_requests_total{outcome="success"} 2.0' in response.read()
            began = time.monotonic()
            assert running.stop(signal.SIGTERM, wait_s=45) == 0
            assert time.monotonic() - began >= float(environment()["EDGEPROXY_DRAIN_S"])
        finally:
            for pid in running.workers() if process.poll() is None else []:
                subprocess.run(["kill", "-9", str(pid)], check=False)
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
