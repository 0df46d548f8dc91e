"""Imports point down only: the rooms of the house and who may know whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeproxy

PACKAGE = Path(edgeproxy.__file__).parent
LEVELS = {
    "edgeproxy": 0,
    "edgeproxy.errors": 0,
    "edgeproxy.wording": 0,
    "edgeproxy.accounts": 1,
    "edgeproxy.telemetry": 2,
    "edgeproxy.store": 3,
    "edgeproxy.settings": 4,  # it names the store's URL, and checks it
    "edgeproxy.http": 5,
    "edgeproxy.dynamic": 6,
    "edgeproxy.partner": 6,
    "edgeproxy.numbers": 6,
    "edgeproxy.calls": 7,
    "edgeproxy.simulate": 8,
    "edgeproxy.node": 8,
    "edgeproxy.commands": 9,
    "edgeproxy.cli": 10,
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
    room = room_of(name_of(path))
    for imported in imports(path):
        if imported.startswith("edgeproxy") and imported != "edgeproxy.__version__":
            target = room_of(imported)
            target = target if target in LEVELS else "edgeproxy"
            assert target == room or LEVELS[target] < LEVELS[room], f"{room} imports {imported}"


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("redis", {"edgeproxy.store", "edgeproxy.node", "edgeproxy.simulate", "edgeproxy.commands"}),
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
