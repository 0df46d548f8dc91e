"""The front door: short, and whatever it says can be pasted."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeproxy.settings import Settings
from tests.processes import environment
from tests.servers import free_ports, until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LINES_MOST = 150
OWN_ACCOUNT = "## Your own account in five minutes\n"
PORTS = ("8080", "8081")  # that the page has, for which the test takes free ones


def test_it_is_short() -> None:
    assert README.count("\n") <= LINES_MOST


def test_it_names_ten_settings_with_their_defaults() -> None:
    rows = re.findall(r"^\| `EDGEPROXY_([A-Z_]+)` \| (.+?) \|", README, re.MULTILINE)
    assert len(rows) == 10
    for name, told in rows:
        default = Settings.model_fields[name.lower()].default
        if name != "DATA_DIR":
            assert told == ("–" if default in (None, []) else f"`{str(default).lower()}`"), name


def test_its_figure_of_speed_is_the_one_that_was_kept() -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / "peers.json").read_text())["ratios"]
    medians = {ratio["name"].split(" ÷ ")[1]: ratio["median"] for ratio in kept if ratio["connections"] == 32}
    told = re.search(r"costs (\d\.\d\d) times the CPU .* nginx with Lua, and (\d\.\d\d) times that of FastAPI", README)
    assert told
    assert told.groups() == (f"{medians['nginx + Lua']:.2f}", f"{medians['FastAPI']:.2f}")


class Shell:
    """One shell, into which a newcomer pastes block after block."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._printed = folder / "printed"
        self._blocks = 0
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                ["bash", "-e"], cwd=folder, stdin=subprocess.PIPE, stdout=printed, stderr=subprocess.DEVNULL, text=True,
                env=environment(settings), start_new_session=True,
            )  # fmt: skip

    def paste(self, block: str) -> str:
        """Run a block to its end, a gateway in the background until it is ready; gives what was printed meanwhile."""
        before = len(self.printed())
        self._blocks += 1
        assert self._process.stdin is not None
        self._process.stdin.write(f"{block}\necho end of block {self._blocks}\n")
        self._process.stdin.flush()
        until(lambda: f"end of block {self._blocks}\n" in self.printed(), f"the end of: {block}")
        if block.rstrip().endswith("&"):
            until(lambda: "\nready\n" in self.printed()[before:], f"ready: {block}")
        return self.printed()[before:]

    def printed(self) -> str:
        """Everything so far."""
        return self._printed.read_text()

    def end(self) -> None:
        """Stop the shell and what it runs, also where a block has failed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.communicate(timeout=30)
        until(self._is_empty, "the end of the gateway")

    def _is_empty(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return True
        return False


def shows(printed: str, told: str) -> bool:
    """Whether all pieces of `told`, which `…` keeps apart, were printed in this order."""
    return re.search(".*?".join(map(re.escape, told.strip().split("…"))), printed, re.DOTALL) is not None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks for curl")
def test_an_own_account_is_served_by_the_page_s_commands(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    section = README.split(OWN_ACCOUNT)[1].split("\n## ")[0]
    ports = [str(port) for port in free_ports(2)]
    for told, free in zip(PORTS, ports, strict=True):
        section = section.replace(f"127.0.0.1:{told}", f"127.0.0.1:{free}")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "sh", "sh", "text", "sh", "json", "sh", "json", "sh"]
    shell = Shell(
        tmp_path, HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path / "data"), EDGEPROXY_PORT=ports[0],
        EDGEPROXY_MANAGE_PORT=ports[1],
    )  # fmt: skip
    try:
        printed = ""
        for language, block in blocks:
            if language == "sh":
                printed = shell.paste(block)
            else:
                assert shows(printed, block), printed
        *_, (_, lookup), (_, answer), _ = blocks
        assert shows(shell.paste(lookup), answer)  # after the new start, as the page says
    finally:
        shell.end()
