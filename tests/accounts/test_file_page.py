"""The page of account files: its examples are good, and it tells of every setting and of no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

import edgeproxy
from edgeproxy.accounts.entries import AccountEntry
from edgeproxy.accounts.file import AccountFile, parse

PAGE = Path(edgeproxy.__file__).parent / "accounts" / "FILE.md"


def examples() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def entries(annotation: Any) -> Iterator[type[BaseModel]]:
    """The mappings that can stand in a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from entries(part)


def names(entry: type[BaseModel]) -> set[str]:
    """Every setting that can stand under an entry, at any depth."""
    found = set(entry.model_fields)
    for field in entry.model_fields.values():
        for below in entries(field.annotation):
            found |= names(below)
    return found


def test_the_examples_are_good_files() -> None:
    small, whole = (parse(example.encode()) for example in examples())
    assert list(small.accounts) == ["acme"]
    assert list(whole.accounts) == ["demo"]


def test_the_long_example_shows_every_setting_of_an_account() -> None:
    account = parse(examples()[1].encode()).accounts["demo"]
    (pool,) = account.pools.values()
    assert set(AccountEntry.model_fields) == account.model_fields_set
    assert set(type(pool).model_fields) == pool.model_fields_set | {"shared_number"}


def test_the_tables_tell_of_every_setting_and_of_no_other() -> None:
    rows = re.findall(r"^\| ((?:`.+?`(?:, )?)+) \|", PAGE.read_text().split("## Numbers")[0], re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(?:\w+: \{)?(\w+)", row)}
    assert told == names(AccountFile) - {"accounts"}
