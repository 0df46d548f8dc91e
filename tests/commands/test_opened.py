"""Which store a command opens where none is named: the one that `serve` or `demo` runs here."""

import json
from pathlib import Path

import click.testing
import pytest
import redis

from edgeproxy.commands import main
from edgeproxy.store import keys
from edgeproxy.store.embedded import EmbeddedStore


def list_users(directory: Path) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["user", "list"], env={"EDGEPROXY_DATA_DIR": str(directory)})


@pytest.mark.parametrize(
    ("runs", "left"), [("store", "demo"), ("demo", "store"), (".", "demo")], ids=["serve", "demo", "demo --data-dir"]
)
def test_commands_find_the_store_that_serve_or_demo_runs_here(tmp_path: Path, runs: str, left: str) -> None:
    old = tmp_path / left
    old.mkdir()
    (old / "url").write_text(f"unix://{old}/store.sock\n")  # as one that was killed leaves it
    with EmbeddedStore(tmp_path / runs) as embedded:
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
        f"EDGEPROXY_STORE_URL is not set, and no store runs in {tmp_path}/store or {tmp_path}/demo or {tmp_path}: "
        "start edgeproxy serve or edgeproxy demo, or set EDGEPROXY_STORE_URL to the store's address, which both of "
        "them print, or EDGEPROXY_DATA_DIR to the demo's --data-dir\n",
    )
