"""The audit: one line for each command that writes, whatever becomes of it, and no value in it."""

import getpass
import json
from pathlib import Path
from typing import Any

import click.testing
import pytest

from edgeproxy.store import functions
from tests.commands.running import NUMBERS, run
from tests.conftest import DEMO


def audited(result: click.testing.Result) -> list[dict[str, Any]]:
    """The lines of the audit, without what every one of them has."""
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    who = f"command:{getpass.getuser()}"
    for line in lines:
        assert line.pop("time").endswith("Z")
        assert {name: line.pop(name) for name in ("logger", "level", "who", "ip")} == {
            "logger": "edgeproxy.audit", "level": "info", "who": who, "ip": None,
        }  # fmt: skip
    return lines


CHANGED = (
    DEMO.read_text().replace("[tiny-key]", "[tiny-other]").replace("pattern:", "idle_ttl: 29m\n        pattern:", 1)
)
AUDITED: list[tuple[tuple[str, ...], str | None, str | None, list[str], str]] = [
    (("load", "CHANGED"), "demo,tiny", None, ["pool berlin", "secrets change"], "done"),
    (("load", "TAKING"), "demo", None, [], "refused"),
    (("load", "SAME"), None, None, [], "done"),
    (("user", "add", "ann", "--account", "demo"), "demo", "ann", ["account", "password"], "done"),
    (("user", "add", "ann", "--account", "nowhere"), "nowhere", "ann", ["account", "password"], "refused"),
    (("user", "remove", "leaver"), None, "leaver", [], "done"),
    (("user", "remove", "nobody"), None, "nobody", [], "refused"),
    (("numbers", "import", "--account", "demo", "NUMBERS"), "demo", None, ["poolName"], "done"),
    (("numbers", "import", "--account", "demo", "OTHERS"), "demo", None, ["poolName"], "refused"),
    (("erase", "--account", "demo", "--caller", "+493012345678"), "demo", None, ["caller"], "done"),
    (("erase", "--account", "demo", "--tracking-id", "her-id"), "demo", None, ["trackingId"], "done"),
    (("erase", "--account", "nowhere", "--session-id", "her-id"), "nowhere", None, ["sessionId"], "refused"),
    (("keys", "rotate"), None, None, [], "done"),
    (("account", "remove", "tiny", "--yes"), "tiny", None, [], "done"),
]
WHATS = {"load": "accounts.load", "erase": "calls.erase", "user add": "users.add", "user remove": "users.remove",
         "numbers import": "numbers.import", "keys rotate": "keys.rotate",
         "account remove": "accounts.remove"}  # fmt: skip


@pytest.mark.parametrize(("command", "account", "record", "fields", "ended"), AUDITED)
def test_a_command_that_writes_leaves_one_line_of_the_audit(
    store_url: str,
    tmp_path: Path,
    command: tuple[str, ...],
    account: str | None,
    record: str | None,
    fields: list[str],
    ended: str,
) -> None:
    assert run(store_url, "load", str(DEMO)).exit_code == 0
    assert run(store_url, "user", "add", "leaver", "--account", "demo").exit_code == 0
    used = tmp_path / "used.csv"
    used.write_text("phoneNumber,poolName\n79990000001,x\n")
    assert run(store_url, "numbers", "import", "--account", "demo", str(used)).exit_code == 0
    taking = "accounts: {demo: {secrets: [freespee], region: DE}}"
    files = {"CHANGED": CHANGED, "TAKING": taking, "SAME": DEMO.read_text(),
             "NUMBERS": NUMBERS, "OTHERS": NUMBERS.replace("7999", "7888")}  # fmt: skip
    for name, content in files.items():
        (tmp_path / f"{name}.csv").write_text(content)
    result = run(store_url, *(str(tmp_path / f"{word}.csv") if word in files else word for word in command))
    assert result.exit_code == (ended != "done"), result.output
    what = WHATS.get(command[0]) or WHATS[" ".join(command[:2])]
    expected = {"audit": what, "account": account, "record": record, "fields": fields, "ended": ended}
    assert audited(result) == [expected]
    told = [line for line in result.stderr.splitlines() if line.startswith("{")]
    for value in ("a-password", "tiny-key", "tiny-other", "her-id", "12345678", "29m", "1740000", "79990000001"):
        assert value not in told[0]


def test_a_command_that_does_not_write_leaves_no_line(client: Any, store_url: str, tmp_path: Path) -> None:
    for command in (
        ("load", "--dry-run", str(DEMO)),
        ("user", "list"),
        ("check", "--repair"),
        ("account", "list"),
        ("account", "show", "demo"),
        ("pool", "status"),
        ("explain", "--account", "demo", "--number", "030 15981100"),
        ("numbers", "export", "--account", "demo", str(tmp_path / "x.csv")),
        ("keys", "new"),
    ):
        result = run(store_url, *command)
        assert result.exit_code == 0, result.output
        assert audited(result) == []


def test_a_command_that_is_not_known_to_be_durable_says_so_in_its_line(
    client: Any, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "_DURABLE_MS", 50)
    (line,) = audited(run(store_url, "user", "remove", "leaver", replicas=9))
    assert line["ended"] == "not durable"


def test_a_command_whose_store_is_gone_says_so_in_its_line() -> None:
    (line,) = audited(run("redis://127.0.0.1:1", "user", "remove", "leaver"))
    assert line["ended"] == "uncertain"
