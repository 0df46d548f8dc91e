"""Commands that change the store wait until it has the change for good, and tell when they do not know that it has."""

import getpass
import json
from pathlib import Path
from typing import Any

import click.testing
import pytest

from edgeproxy import cli, commands
from edgeproxy.store import functions, keys, removal
from edgeproxy.store.functions import NotDurableError, RefusedError, UncertainError
from edgeproxy.store.sealing import new_key
from tests.conftest import DEMO
from tests.servers import calls, client_of, on_primaries, tells_what_is_on_disk

NUMBERS = "phoneNumber,poolName\n79990000001,x\n"
COMMANDS = [
    ("load", "FILE"),
    ("user", "add", "somebody", "--account", "demo"),
    ("user", "remove", "leaver"),
    ("numbers", "import", "--account", "demo", "NUMBERS"),
    ("keys", "rotate"),
    ("account", "remove", "tiny", "--yes"),
]
KEY = new_key()
changing = pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(command[:2]) for command in COMMANDS])


def run(url: str, *arguments: str, replicas: int = 0) -> click.testing.Result:
    settings = {
        "EDGEPROXY_STORE_URL": url, "EDGEPROXY_DURABLE_REPLICAS": str(replicas), "EDGEPROXY_STORE_KEYS": KEY,
    }  # fmt: skip
    return click.testing.CliRunner().invoke(cli.main, arguments, env=settings, input="a-password\n")


@pytest.fixture(autouse=True)
def _no_last_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_LAST_REQUESTS_S", 0)


@pytest.fixture
def client(store_url: str) -> Any:
    """The store with the demo's accounts and a user `leaver`; skips where the server cannot tell what is on disk."""
    with client_of(store_url) as client:
        if not tells_what_is_on_disk(client):
            pytest.skip("this server cannot tell what is on disk")
        assert run(store_url, "load", str(DEMO)).exit_code == 0
        assert run(store_url, "user", "add", "leaver", "--account", "demo").exit_code == 0
        yield client


def with_files(command: tuple[str, ...], directory: Path) -> list[str]:
    files = {"FILE": DEMO.read_text().replace("demo-token", "other-token"), "NUMBERS": NUMBERS}
    for name, content in files.items():
        (directory / f"{name}.csv").write_text(content)
    return [str(directory / f"{word}.csv") if word in files else word for word in command]


@changing
def test_a_command_waits_for_the_disk(client: Any, store_url: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    on_primaries(client, "CONFIG RESETSTAT")
    assert run(store_url, *with_files(command, tmp_path)).exit_code == 0
    assert calls(client, "waitaof") >= 1  # on a cluster, one a server


@changing
def test_a_command_waits_for_replicas_and_tells_of_those_that_do_not_come(
    client: Any, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(functions, "_DURABLE_MS", 50)
    result = run(store_url, *with_files(command, tmp_path), replicas=9)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "EDGEPROXY_DURABLE_REPLICAS" in result.stderr


def test_what_changes_nothing_waits_for_nothing(client: Any, store_url: str) -> None:
    on_primaries(client, "CONFIG RESETSTAT")
    for command in (("load", "--dry-run", str(DEMO)), ("user", "list"), ("check",)):
        assert run(store_url, *command, replicas=1).exit_code == 0
    assert calls(client, "waitaof") == 0


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RefusedError("no number"), "the store refused a change: no number"),
        (NotDurableError(), "is not known to be safe on disk"),
        (UncertainError(), "the store did not tell whether a change was made"),
    ],
)
def test_a_failure_of_the_store_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], error: Exception, text: str
) -> None:
    async def fails() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        commands.run(fails())
    assert exit_.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_a_removed_user_is_gone(client: Any, store_url: str) -> None:
    assert run(store_url, "user", "remove", "leaver").stdout == "leaver is removed\n"
    assert client.hkeys(keys.USERS) == []
    result = run(store_url, "user", "remove", "leaver")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "there is no user leaver")


# The audit ------------------------------------------------------------------------------------------------------------


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


# Exports --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numbers.csv", "numbers.yaml"])
def test_an_export_replaces_a_file_whole_and_keeps_its_mode(
    client: Any, store_url: str, tmp_path: Path, name: str
) -> None:
    imported = tmp_path / "import.csv"
    imported.write_text("phoneNumber,source,poolName\n79990000001,,Пул\n79990000002,s,\n", encoding="utf-8")
    assert run(store_url, "numbers", "import", "--account", "demo", str(imported)).exit_code == 0
    file, link = tmp_path / name, tmp_path / f"link-{name}"
    file.write_text("before")
    file.chmod(0o600)
    link.symlink_to(file)
    held = file.open()
    assert run(store_url, "numbers", "export", "--account", "demo", str(link)).exit_code == 0
    with held:
        assert held.read() == "before"  # who has the old file open never sees half of the new one
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Пул" in file.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["import.csv", link.name, name])
    again = run(store_url, "numbers", "import", "--account", "demo", str(file))
    assert again.stdout == "0 put to use, 0 changed, 2 as they were, 0 refused\n"


def test_an_export_that_fails_leaves_the_file_as_it_was(
    client: Any, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    file = tmp_path / "numbers.csv"
    file.write_text("before")
    with monkeypatch.context() as context:
        context.setattr(Path, "write_text", full)
        result = run(store_url, "numbers", "export", "--account", "demo", str(file))
    assert (result.exit_code, result.stderr) == (1, f"{file}: No space left on device\n")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_an_export_may_go_to_what_is_no_file(client: Any, store_url: str) -> None:
    assert run(store_url, "numbers", "export", "--account", "demo", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_erase_gives_a_receipt_and_takes_one_person_at_a_time(store_url: str) -> None:
    assert run(store_url, "load", str(DEMO)).exit_code == 0
    result = run(store_url, "erase", "--account", "demo", "--tracking-id", "me")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        ["sessions: 0", "leases: 0", "visits: 0", "visitors: 0", "calls: 0"],
    )
    for arguments in ((), ("--tracking-id", "me", "--caller", "+49301234567"), ("--caller", "x")):
        assert run(store_url, "erase", "--account", "demo", *arguments).exit_code == 1
    result = run(store_url, "erase", "--account", "demo", "--caller", "+49 1")
    assert result.output.endswith("--caller: is not a phone number\n")
    assert "+49 1" not in result.output
    assert run(store_url, "erase", "--account", "nobody", "--session-id", "x").exit_code == 1
