"""Tests mirror the rooms, in files that can be read in one sitting, and none leans on another file of tests."""

import ast
import subprocess
from pathlib import Path

import pytest

import edgeproxy

TESTS = Path(__file__).parent
PACKAGE = Path(edgeproxy.__file__).parent
LINES_MOST = 500
OF_THE_WHOLE = {"benchmarks", "deploy", "e2e", "fault"}  # what is outside of the package, and all rooms together
TOP = {"LICENSE", "README.md", "benchmarks", "deploy", "edgeproxy", "pyproject.toml", "tests"}
FILES = sorted(TESTS.rglob("*.py"))


def shown(path: Path) -> str:
    return str(path.relative_to(TESTS))


def imported_modules(path: Path) -> set[str]:
    """The last names of all modules that a file imports, or may import: `from a import b` is of a, or of a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.rpartition(".")[2] for name in found if name.partition(".")[0] == "tests"}


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_a_file_is_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MOST


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_nothing_is_imported_from_a_file_of_tests(path: Path) -> None:
    tests = {other.stem for other in FILES if other.stem.startswith("test_")}
    assert not imported_modules(path) & tests


def test_every_folder_of_tests_is_a_room() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.relative_to(TESTS) for path in FILES} - {Path()}
    assert {folder.parts[0] for folder in folders} - OF_THE_WHOLE == rooms
    for folder in folders:
        if folder.parts[0] not in OF_THE_WHOLE:
            assert (PACKAGE / folder).is_dir(), folder


def test_the_top_of_the_repository_holds_what_a_stranger_looks_for_first() -> None:
    if not (TESTS.parent / ".git").exists():
        pytest.skip("no checkout: what the repository holds is not told from what else lies here")
    listed = subprocess.run(["git", "ls-files"], cwd=TESTS.parent, check=True, capture_output=True, text=True).stdout
    assert {line.partition("/")[0] for line in listed.splitlines() if not line.startswith(".")} == TOP
