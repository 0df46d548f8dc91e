"""Commands wait until the store has a change for good, and tell what is wrong in a line."""

from pathlib import Path
from typing import Any

import click.testing
import pytest

from edgeproxy import settings
from edgeproxy.commands import faults, main
from edgeproxy.errors import NotDurableError, RefusedError, UncertainError
from edgeproxy.store import functions
from tests.commands.running import KEY, NUMBERS, run
from tests.conftest import DEMO
from tests.servers import calls, on_primaries

COMMANDS = [
    ("load", "FILE"),
    ("user", "add", "somebody", "--account", "demo"),
    ("user", "remove", "leaver"),
    ("numbers", "import", "--account", "demo", "NUMBERS"),
    ("keys", "rotate"),
    ("account", "remove", "tiny", "--yes"),
]
changing = pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(command[:2]) for command in COMMANDS])


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
        faults.run(fails(), settings.load())
    assert exit_.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


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
    result = click.testing.CliRunner().invoke(main, arguments, env=env, input="a-password\n")
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith(("{", "numbers"))]
    assert line.startswith(f"the store cannot be used: nothing answers at {place}")
    assert f": look at store_url in {tmp_path}/e.toml, and whether the store runs" in line
    assert "hunter2" not in result.output


@pytest.mark.parametrize("command", [("load",), ("check",), ("numbers", "import", "--account", "demo")])
def test_a_file_that_is_not_there_is_told_with_its_path_and_nothing_is_changed(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    for file, why in ((tmp_path / "none.csv", "there is no such file"), (tmp_path, "is a directory, not a file")):
        result = click.testing.CliRunner().invoke(main, [*command, str(file)])
        assert (result.exit_code, result.output) == (1, f"{file}: {why}\nnothing was changed\n")
