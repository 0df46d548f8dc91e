"""The examples of the APIs' pages: each command is run against a fresh demo, and prints what its page says."""

import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import edgeproxy
from tests.processes import EDGEPROXY, Running, environment, started

pytestmark = pytest.mark.slow

PACKAGE = Path(edgeproxy.__file__).parent
ROOMS = ("dynamic", "partner", "numbers", "calls")
EXAMPLE = re.compile(r"(?ms)^```sh\n(?P<command>.*?)^```\n\s*^```(?P<kind>json|xml|text)\n(?P<printed>.*?)^```$")
EDGE, MANAGE = "http://127.0.0.1:8080", "http://127.0.0.1:8081"  # where a demo is, as the pages have it
# What is another value each time: how it looks, and what stands for it in the comparison.
CHANGING = (
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<hash>"),
    (re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "<moment>"),
    (re.compile(r"\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\b"), "<time>"),
    (re.compile(r"\bt=\d+"), "t=<seconds>"),
)


@dataclass(frozen=True)
class Example:
    """A command of a page, and what the page says that it prints."""

    command: str
    kind: str
    printed: str


def examples(room: str) -> list[Example]:
    page = (PACKAGE / room / "README.md").read_text()
    return [Example(found["command"], found["kind"], found["printed"]) for found in EXAMPLE.finditer(page)]


def compared(text: str, kind: str) -> object:
    for looks, stands in CHANGING:
        text = looks.sub(stands, text)
    if kind == "json":
        return json.loads(text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Running]:
    with started("demo", "--port", "0", "--manage-port", "0", "--data-dir", str(tmp_path / "data")) as running:
        yield running


@pytest.mark.parametrize("room", ROOMS)
def test_the_commands_of_a_page_print_what_it_says(room: str, demo: Running, tmp_path: Path) -> None:
    client = itertools.count(1)  # each command comes from another client IP, so that none waits for a window's end
    path = f"{Path(EDGEPROXY).parent}{os.pathsep}{os.environ['PATH']}"
    assert examples(room)
    for example in examples(room):
        command = example.command.replace(EDGE, demo.edge).replace(MANAGE, demo.manage)
        if "--digest" not in command:  # a partner's address must be one of the account's
            command = command.replace("curl ", f"curl -H 'X-Forwarded-For: 198.51.100.{next(client)}' ")
        printed = subprocess.run(
            ["bash", "-euc", command], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
            env=environment({"PATH": path}),
        )  # fmt: skip
        assert printed.returncode == 0, f"{command}\n{printed.stderr}"
        assert compared(printed.stdout, example.kind) == compared(example.printed, example.kind), command
