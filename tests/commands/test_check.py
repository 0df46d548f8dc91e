"""`edgeproxy check`: an account file, and a store that can forget."""

import re
from pathlib import Path
from typing import Any

import click.testing
import pytest

from edgeproxy import settings
from edgeproxy.commands import check, main
from edgeproxy.http import aiohttp_private
from edgeproxy.store.facts import ServerFacts
from tests.commands.running import run
from tests.conftest import DEMO
from tests.servers import configured


def check_file(tmp_path: Path, content: str) -> click.testing.Result:
    """`check FILE` where there is no store, its output without the directory."""
    file = tmp_path / "accounts.yaml"
    file.write_text(content)
    result = click.testing.CliRunner().invoke(main, ["check", str(file)], env={"EDGEPROXY_STORE_URL": "nonsense"})
    result.stdout_bytes = result.stdout_bytes.replace(f"{tmp_path}/".encode(), b"")
    result.stderr_bytes = (result.stderr_bytes or b"").replace(f"{tmp_path}/".encode(), b"")
    return result


def test_an_account_file_is_checked_without_a_store(tmp_path: Path) -> None:
    result = check_file(tmp_path, DEMO.read_text())
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "accounts.yaml: good: 4 accounts; 4 pools of 47 numbers, 20 other numbers\n"


def test_what_is_most_likely_not_meant_is_a_warning_and_no_fault(store_url: str, tmp_path: Path) -> None:
    content = DEMO.read_text().replace("pattern:", "cooldown: 15\n        pattern:", 1)
    result = check_file(tmp_path, content)
    assert result.exit_code == 0
    line = content[: content.index("cooldown: 15")].count("\n") + 1
    warning = (
        f"accounts.yaml:{line}: warning: accounts.demo.pools.berlin.cooldown: 15 has no unit and is read as 15s: "
        "write 15s, or 15m\n"
    )
    assert result.stderr == warning
    loaded = run(store_url, "load", str(tmp_path / "accounts.yaml"))
    assert loaded.exit_code == 0
    assert loaded.stderr.startswith(f"{tmp_path}/{warning}")


def test_faults_of_a_checked_file_are_told_ten_at_a_time_and_nothing_is_changed(tmp_path: Path) -> None:
    result = check_file(tmp_path, "accounts:\n  x:\n" + "".join(f"    f{i}: 1\n" for i in range(10_000)))
    lines = result.stderr.splitlines()
    assert result.exit_code == 1
    assert lines[0] == "accounts.yaml:2: accounts.x.secrets: is required"
    assert lines[-2:] == ["and 9,992 more faults", "nothing was changed"]
    assert len(lines) == 12


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        (
            "maxmemory_policy",
            "allkeys-lru",
            "maxmemory-policy is allkeys-lru, which drops leases, budgets and accounts",
        ),
        ("maxmemory_policy", "volatile-ttl", "set maxmemory-policy noeviction"),
        (
            "appendonly",
            "no",
            "it keeps no append-only file, and what it took last is gone when it stops: set appendonly yes",
        ),
    ],
)
def test_check_fails_for_a_store_that_can_forget(
    client: Any, store_url: str, option: str, value: str, told: str
) -> None:
    assert run(store_url, "check").exit_code == 0
    with configured(store_url, **{option: value}):
        result = run(store_url, "check")
    assert result.exit_code == 1
    assert "CAN FORGET: " in result.stdout
    assert told in result.stdout


def test_check_tells_of_an_aiohttp_that_was_never_tested(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"\naiohttp: {aiohttp_private.TESTED[-1]}\n" in run(store_url, "check").stdout
    monkeypatch.setattr(aiohttp_private, "TESTED", ("1.2.3",))
    assert re.search(r"\naiohttp: \S+ was NEVER TESTED .*: install 1\.2\.3\n", run(store_url, "check").stdout)


def test_check_fails_where_fewer_replicas_follow_than_are_asked_for(client: Any, store_url: str) -> None:
    for setting, what in (("LEASE", "visitors get no numbers"), ("DURABLE", "writes fail")):
        env = {"EDGEPROXY_STORE_URL": store_url, f"EDGEPROXY_{setting}_REPLICAS": "9"}
        result = click.testing.CliRunner().invoke(main, ["check"], env=env)
        assert result.exit_code == 1
        assert f"EDGEPROXY_{setting}_REPLICAS asks for 9 replicas, and " in result.stdout
        assert re.search(rf"\bfollows?: {what} before there are as many$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("asked", "follow", "told"),
    [(1, 0, "asks for 1 replica, and 0 follow:"), (2, 1, "asks for 2 replicas, and 1 follows:")],
)
def test_replicas_are_told_one_or_many(asked: int, follow: int, told: str) -> None:
    server = ServerFacts(
        place="",
        product="Valkey 9.1",
        durable=True,
        eviction="noeviction",
        replicas=follow,
        functions={},
        others=(),
        ahead_ms=0,
        allocator="",
        process=0,
    )
    (text,) = check._forgets(server, settings.load(lease_replicas=asked))
    assert told in text
