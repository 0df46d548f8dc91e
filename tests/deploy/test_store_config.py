"""The store's configuration: the whole suite as its ACL user, backup under writes, restore."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from edgeproxy.store import keys
from edgeproxy.store.lua_libraries import libraries
from tests import processes
from tests.conftest import DEMO
from tests.deploy.gateway import gateway, tell
from tests.deploy.servers import DEPLOY, StoreServer, bare_environment, needs, store

pytestmark = pytest.mark.slow


ROOT = DEPLOY.parent


SENT_BY_THE_CLIENT = {"cluster", "unsubscribe"}  # by redis-py, and not in the gateway's own code


BY_ANOTHER_NAME = {"xinfo": "xinfo_stream", "function": "function_load"}


@pytest.mark.parametrize("product", ["valkey", "redis"])
def test_the_suite_passes_with_the_gateway_s_own_user(tmp_path: Path, product: str) -> None:
    with store(tmp_path, product) as server:
        suite = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'suite'}"],
            cwd=ROOT,
            env=bare_environment()
            | {
                "EDGEPROXY_TEST_STORE_URL": server.url("edgeproxy"),
                "EDGEPROXY_TEST_STORE_ADMIN_URL": server.url("admin"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1500,
        )
        assert suite.returncode == 0, suite.stdout[-10_000:]
        assert int(re.findall(r"(\d+) passed", suite.stdout)[-1]) > 1000
        with redis.Redis.from_url(server.url("admin"), decode_responses=True) as admin:
            denied: Any = admin.acl_log()
        assert [entry["object"] for entry in denied if entry["username"] == "edgeproxy"] == []


def test_the_gateway_s_user_may_do_nothing_else(tmp_path: Path) -> None:
    with store(tmp_path) as server, redis.Redis.from_url(server.url("edgeproxy")) as client:
        assert client.set("ep1:x", "1", px=1000)
        for command in (
            "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET dir", "ACL LIST", "SHUTDOWN", "SAVE",
            "REPLICAOF NO ONE", "MONITOR", "CLIENT LIST", "CLIENT KILL TYPE normal", "FUNCTION FLUSH",
            "FUNCTION DELETE ep1_resolve", "EVAL return 0", "SCRIPT FLUSH", "GET other:x", "SET other:x 1",
            "PUBLISH other x", "SUBSCRIBE other", "MIGRATE h 1 ep1:x 0 1", "RENAME ep1:x ep1:y",
        ):  # fmt: skip
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split(" "))
        library = "#!lua name=other\nredis.register_function('other', function() return redis.call('FLUSHALL') end)"
        client.function_load(library)
        with pytest.raises(redis.exceptions.ResponseError, match=r"no permissions|can't run"):
            client.fcall("other", 0)


@pytest.mark.parametrize("product", ["valkey", "redis"])
def test_nobody_comes_in_without_a_password_and_a_restart_keeps_everything(tmp_path: Path, product: str) -> None:
    # Redis 7.0 replays functions' writes with the rights of the user `default`, and drops what it may not.
    with store(tmp_path, product) as server:
        with redis.Redis(port=server.port) as client, pytest.raises(redis.exceptions.AuthenticationError):
            client.ping()
        for user in ("default", "admin", "edgeproxy", "replica"):
            guess = redis.Redis(port=server.port, username=user, password="")
            with guess as client, pytest.raises(redis.exceptions.RedisError):
                client.ping()
        assert processes.run("load", str(DEMO), EDGEPROXY_STORE_URL=server.url("edgeproxy")).returncode == 0
        before = content(server)
        assert len(before) > 10
    with store(tmp_path, product) as server:
        assert content(server) == before


def content(server: StoreServer) -> dict[str, Any]:
    with redis.Redis.from_url(server.url("admin"), decode_responses=True) as admin:
        read: dict[str, Any] = {
            "string": admin.get,
            "hash": admin.hgetall,
            "set": admin.smembers,
            "zset": lambda key: admin.zrange(key, 0, -1, withscores=True),
        }
        return {key: read[str(admin.type(key))](key) for key in admin.scan_iter(count=1000)}


def test_the_gateway_s_user_has_only_what_the_gateway_s_code_calls() -> None:
    (line,) = [line for line in (DEPLOY / "store" / "users.acl").read_text().splitlines() if " edgeproxy " in line]
    rules = line.split()
    assert [rule for rule in rules if rule[0] in "~&"] == [f"~{keys.RELEASE}:*", f"&{keys.RELEASE}:*"]
    assert [rule for rule in rules if "@" in rule] == ["+@connection", "-@admin", "-@dangerous", "+@transaction"]
    granted = [rule[1:].partition("|")[0] for rule in rules if rule.startswith("+") and "@" not in rule]
    code = "\n".join(
        path.read_text() for path in sorted((ROOT / "edgeproxy").rglob("*")) if path.suffix in (".py", ".lua")
    )
    unused = [
        command
        for command in granted
        if command not in SENT_BY_THE_CLIENT
        and not re.search(rf"\.{BY_ANOTHER_NAME.get(command, command)}(_iter)?\(", code)
        and not re.search(rf"['\"]{command.upper()}['\"]", code)
    ]
    assert unused == []


def test_the_store_runs_as_its_file_says(tmp_path: Path) -> None:
    written = dict(
        line.split(" ", 1)
        for line in (DEPLOY / "store" / "valkey.conf").read_text().splitlines()
        if line and not line.startswith("#")
    )
    changed = {"port", "bind", "dir", "aclfile"}
    units = {"2gb": str(2 << 30), "64mb": str(64 << 20), '""': ""}
    with store(tmp_path) as server, redis.Redis.from_url(server.url("admin"), decode_responses=True) as admin:
        for name in written.keys() - changed:
            assert admin.config_get(name) == {name: units.get(written[name], written[name])}
        checked = processes.run("check", EDGEPROXY_STORE_URL=server.url("edgeproxy"))
    assert checked.returncode == 0
    assert "append-only" not in checked.stdout


@pytest.mark.parametrize("product", ["valkey", "redis"])
def test_a_backup_that_was_taken_under_writes_brings_everything_back(tmp_path: Path, product: str) -> None:
    cli = needs("redis-cli")
    with store(tmp_path / "one", product) as server:
        url = server.url("edgeproxy")
        assert processes.run("load", str(DEMO), EDGEPROXY_STORE_URL=url).returncode == 0
        added = processes.run("user", "add", "u", "--account", "demo", body="a-password\n", EDGEPROXY_STORE_URL=url)
        assert added.returncode == 0
        with gateway(url) as running:
            sessions = {tell(running, f"10.0.0.{i}") for i in range(20)}
            assert len({number for _, number in sessions}) == 20
            writing = Writing(running)
            try:
                backup = subprocess.run(
                    [DEPLOY / "store" / "backup.sh", tmp_path / "backup"],
                    env=bare_environment()
                    | {
                        "STORE_CLI": cli,
                        "STORE_PORT": str(server.port),
                        "REDISCLI_AUTH": server.url("admin").split(":")[2].partition("@")[0],
                    },
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
            finally:
                requests = writing.stop()
        assert backup.returncode == 0, backup.stderr
        assert requests > 0
        with redis.Redis.from_url(server.url("admin"), decode_responses=True) as admin:
            assert admin.config_get("auto-aof-rewrite-percentage") == {"auto-aof-rewrite-percentage": "100"}
            accounts = admin.smembers(keys.ACCOUNTS)
    (tmp_path / "two").mkdir()
    (tmp_path / "backup").rename(tmp_path / "two" / "data")
    with store(tmp_path / "two", product) as server:
        url = server.url("edgeproxy")
        checked = processes.run("check", EDGEPROXY_STORE_URL=url)
        assert (checked.returncode, checked.stdout.count(": loaded\n")) == (0, len(libraries()))
        assert processes.run("user", "list", EDGEPROXY_STORE_URL=url).stdout == "u demo\n"
        with redis.Redis.from_url(server.url("admin"), decode_responses=True) as admin:
            assert 20 <= int(admin.hget(keys.points("demo"), "spent") or 0) <= 20 + requests
            assert admin.smembers(keys.ACCOUNTS) == accounts
        with gateway(url) as running:
            assert {tell(running, "10.0.1.1", session) for session, _ in sorted(sessions)[:5]} <= sessions
            assert {tell(running, f"10.0.2.{i}", session) for i, (session, _) in enumerate(sessions)} == sessions


def test_scripts_are_clean() -> None:
    subprocess.run([needs("shellcheck"), *sorted((DEPLOY / "store").glob("*.sh"))], check=True, timeout=60)


class Writing:
    """New sessions and renewals, one after the other, until it is stopped."""

    def __init__(self, running: processes.Running) -> None:
        self._running, self._done, self._requests = running, threading.Event(), 0
        self._thread = threading.Thread(target=self._write)
        self._thread.start()
        time.sleep(0.2)

    def _write(self) -> None:
        session = ""
        while not self._done.is_set():
            session, _ = tell(self._running, f"10.1.{self._requests >> 8}.{self._requests & 255}", session)
            self._requests += 1

    def stop(self) -> int:
        time.sleep(0.2)
        self._done.set()
        self._thread.join(30)
        return self._requests
