"""The tables of bounds: each row has its test."""

import re
from pathlib import Path

import pytest

import edgeproxy

PACKAGE = Path(edgeproxy.__file__).parent
TESTS = Path(__file__).parent
PAGES = [PACKAGE / room / "README.md" for room in ("http", "dynamic", "partner", "numbers", "calls")]
HEADING = "| what | bound | beyond | test |"
TEST = re.compile(r"`([a-z_/]+\.py)::(\w+)`")


def rows(page: Path) -> list[str]:
    tables = page.read_text().split(HEADING)[1:]
    lines = [line for table in tables for line in table.split("\n\n")[0].splitlines()]
    return [line for line in lines if line.startswith("|") and not line.startswith("|---")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_each_bound_has_its_test(page: Path) -> None:
    assert rows(page)
    for row in rows(page):
        tests = TEST.findall(row)
        assert tests, row
        for file, name in tests:
            assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE), f"{file}::{name}"
