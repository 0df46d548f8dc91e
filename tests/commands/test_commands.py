"""Commands that change the store wait until it has the change for good, and tell when they do not know that it has."""

import getpass
import json
import re
from pathlib import Path
from typing import Any

import click.testing
import pytest
import redis

from edgeproxy import cli, commands, settings
from edgeproxy.errors import NotDurableError, RefusedError, UncertainError
from edgeproxy.http import aiohttp_private
from edgeproxy.store import functions, keys, removal
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.sealing import new_key
from tests.conftest import DEMO
from tests.servers import calls, client_of, configured, on_primaries, tells_what_is_on_disk

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
    for command in (("load", "--dry-run", str(DEMO)), ("user", "list")):
        assert run(store_url, *command, replicas=1).exit_code == 0
    run(store_url, "check", replicas=1)
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
        commands.run(fails(), settings.load())
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


# Checking a file ------------------------------------------------------------------------------------------------------


def check_file(tmp_path: Path, content: str) -> click.testing.Result:
    """`check FILE` where there is no store, its output without the directory."""
    file = tmp_path / "accounts.yaml"
    file.write_text(content)
    result = click.testing.CliRunner().invoke(cli.main, ["check", str(file)], env={"EDGEPROXY_STORE_URL": "nonsense"})
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


def test_of_many_rows_that_an_import_refuses_ten_are_told(client: Any, store_url: str, tmp_path: Path) -> None:
    file = tmp_path / "numbers.csv"
    file.write_text("phoneNumber,poolName\n" + "7,x\n" * 500 + "79990000001,x\n")
    result = run(store_url, "numbers", "import", "--account", "demo", str(file))
    told = [line for line in result.stderr.splitlines() if str(file) in line or line.startswith("and ")]
    assert len(told) == 11
    assert told[-1] == "and 490 more faults"
    assert result.stdout == "1 put to use, 0 changed, 0 as they were, 500 refused\n"


# A store that can forget ----------------------------------------------------------------------------------------------


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
        result = click.testing.CliRunner().invoke(cli.main, ["check"], env=env)
        assert result.exit_code == 1
        assert f"EDGEPROXY_{setting}_REPLICAS asks for 9 replicas, and " in result.stdout
        assert f"follow: {what} before there are as many" in result.stdout


# A store that is not there --------------------------------------------------------------------------------------------

ALL = [
    ("load", str(DEMO)), ("check",), ("user", "list"), ("user", "add", "x", "--account", "demo"),
    ("user", "remove", "x"), ("account", "list"), ("account", "show", "demo"), ("account", "remove", "demo", "--yes"),
    ("pool", "status"), ("clock", "repair"), ("check", "--repair"),
    ("numbers", "import", "--account", "demo", "NUMBERS"), ("numbers", "export", "--account", "demo", "OUT"),
    ("erase", "--account", "demo", "--caller", "+493012345678"), ("keys", "rotate"),
    ("export", "--account", "demo", "--from", "1h", "-"),
]  # fmt: skip


def asked(kind: str, url: str, place: str, commands: list[tuple[str, ...]], *marks: pytest.MarkDecorator) -> list[Any]:
    return [
        pytest.param(url, place, command, id=f"{kind}-{' '.join(command[:2])}", marks=marks) for command in commands
    ]


@pytest.mark.parametrize(
    ("url", "place", "command"),
    [
        *asked("single", "redis://user:hunter2@127.0.0.1:1", "127.0.0.1:1 (Connection refused)", ALL),
        *asked("cluster", "redis+cluster://user:hunter2@127.0.0.1:1", "127.0.0.1:1 (Connection refused)", ALL),
        *asked("unix", "unix:///nowhere/s.sock", "/nowhere/s.sock (No such file or directory)", ALL),
        *asked(
            "sentinel", "redis+sentinel://user:hunter2@127.0.0.1:1/name", "127.0.0.1:1", ALL[1:4],
            pytest.mark.slow,  # 4 s each: redis-py asks sentinels again and again
        ),
    ],
)  # fmt: skip
def test_a_store_that_does_not_answer_is_told_in_a_line_that_names_the_setting(
    tmp_path: Path, url: str, place: str, command: tuple[str, ...]
) -> None:
    files = {"NUMBERS": tmp_path / "n.csv", "OUT": tmp_path / "out.csv"}
    files["NUMBERS"].write_text(NUMBERS)
    (tmp_path / "e.toml").write_text(f"store_url = '{url}'\nstore_keys = ['{KEY}']\n")
    env = {"EDGEPROXY_CONFIG": str(tmp_path / "e.toml")}
    arguments = [str(files.get(word, word)) for word in command]
    result = click.testing.CliRunner().invoke(cli.main, arguments, env=env, input="a-password\n")
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith(("{", "numbers"))]
    assert line.startswith(f"the store cannot be used: nothing answers at {place}")
    assert f": look at store_url in {tmp_path}/e.toml, and whether the store runs" in line
    assert "hunter2" not in result.output


# The store that runs here ---------------------------------------------------------------------------------------------


def list_users(directory: Path) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli.main, ["user", "list"], env={"EDGEPROXY_DATA_DIR": str(directory)})


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_commands_find_the_store_that_serve_or_demo_runs_here(tmp_path: Path, command: str) -> None:
    runs, left = (tmp_path / name for name in (("store", "demo") if command == "serve" else ("demo", "store")))
    left.mkdir()
    (left / "url").write_text(f"unix://{left}/store.sock\n")  # as one that was killed leaves it
    with EmbeddedStore(runs) as embedded:
        with redis.Redis.from_url(embedded.url) as client:
            client.hset(keys.USERS, "somebody", json.dumps({"account": "demo"}))
        assert (result := list_users(tmp_path)).exit_code == 0, result.output
    assert result.stdout == "somebody demo\n"


def test_of_two_stores_that_run_here_a_command_asks_which_is_meant(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "store") as store, EmbeddedStore(tmp_path / "demo") as demo:
        result = list_users(tmp_path)
    assert (result.exit_code, result.stderr) == (
        1,
        f"EDGEPROXY_STORE_URL is not set, and two stores run here: {store.url} (serve) and {demo.url} (demo): set it "
        "to the one that is meant\n",
    )


def test_where_no_store_runs_the_setting_is_named(tmp_path: Path) -> None:
    result = list_users(tmp_path)
    assert (result.exit_code, result.stderr) == (
        1,
        f"EDGEPROXY_STORE_URL is not set, and no store runs in {tmp_path}/store or {tmp_path}/demo: start edgeproxy "
        "serve or edgeproxy demo, or set EDGEPROXY_STORE_URL to the store's address, which both of "
        "them print\n",
    )
