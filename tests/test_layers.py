"""Imports point down only: the rooms of the house and who may know whom, as the map in `edgeproxy/README.md` says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeproxy
from edgeproxy.node.rooms import ROOMS

PACKAGE = Path(edgeproxy.__file__).parent
MAP = (PACKAGE / "README.md").read_text()
# The map's tables: `| level | room | …`, `| from | of | why |`.
LEVELS = {"edgeproxy": 0} | {
    f"edgeproxy.{room}": int(level)
    for level, room in re.findall(r"^\| ([0-9]+) \| \[?`(\w+)(?:/|\.py)`", MAP, re.MULTILINE)
}
WITHIN_A_LEVEL = {
    tuple("edgeproxy." + path.replace("/", ".") for path in pair)
    for pair in re.findall(r"^\| `([\w/]+)\.py` \| `([\w/]+)\.py` \| \S", MAP, re.MULTILINE)
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = ["edgeproxy", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_is_in_a_room(path: Path) -> None:
    assert room_of(name_of(path)) in LEVELS


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    module, room = name_of(path), room_of(name_of(path))
    for imported in imports(path):
        if imported.startswith("edgeproxy") and imported != "edgeproxy.__version__":
            target = room_of(imported)
            target = target if target in LEVELS else "edgeproxy"
            allowed = target == room or LEVELS[target] < LEVELS[room] or (module, imported) in WITHIN_A_LEVEL
            assert allowed, f"{module} imports {imported}"


def test_the_map_names_what_is_there_and_no_more() -> None:
    there = {room_of(name_of(path)) for path in MODULES}
    assert len(LEVELS) > 10
    assert LEVELS.keys() == there
    for module, imported in WITHIN_A_LEVEL:
        (path,) = [path for path in MODULES if name_of(path) == module]
        assert imported in imports(path), f"{module} does not import {imported}"
        assert LEVELS[room_of(module)] == LEVELS[room_of(imported)]


def test_every_api_has_the_same_few_files() -> None:
    apis = {room for room, level in LEVELS.items() if level == LEVELS["edgeproxy.dynamic"]}
    assert {room.description.__name__.rpartition(".")[0] for room in ROOMS} == apis
    for room in apis:
        folder = PACKAGE / room.rpartition(".")[2]
        for file in ("handler.py", "wire.py", "openapi.py", "README.md"):
            assert (folder / file).exists(), f"{folder.name}/{file}"


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("redis", {"edgeproxy.store", "edgeproxy.node", "edgeproxy.simulate", "edgeproxy.commands"}),
        ("click", {"edgeproxy.commands"}),
        (
            "aiohttp",
            {
                "edgeproxy.dynamic",
                "edgeproxy.partner",
                "edgeproxy.numbers",
                "edgeproxy.calls",
                "edgeproxy.http",
                "edgeproxy.node",
            },
        ),
    ],
)
def test_a_library_stays_in_its_rooms(library: str, rooms: set[str]) -> None:
    for path in MODULES:
        if room_of(name_of(path)) not in rooms:
            assert not [name for name in imports(path) if name.split(".")[0] == library], path


def test_no_module_is_without_a_subject() -> None:
    assert not {path.stem for path in MODULES} & {"utils", "util", "helpers", "common", "misc", "constants", "base"}


LISTING = "| file | what it knows |\n|---|---|\n"


@pytest.mark.parametrize(
    "page",
    [page for page in sorted(PACKAGE.glob("*/README.md")) if LISTING in page.read_text()],
    ids=lambda page: page.parent.name,
)
def test_a_page_that_lists_the_files_of_a_room_lists_all(page: Path) -> None:
    tables = [text.partition("\n\n")[0] for text in page.read_text().split(LISTING)[1:]]
    listed = [row.split("`")[1] for table in tables for row in table.splitlines()]
    assert len(listed) == len(set(listed))
    there = {path.name for path in page.parent.glob("*.py")} | {
        f"{path.parent.name}/" for path in page.parent.glob("*/__init__.py")
    }
    there |= {f"lua/{path.name}" for path in page.parent.glob("lua/*.lua")}
    assert there - {"__init__.py"} <= set(listed) <= there
