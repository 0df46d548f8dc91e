"""Account files: accounts, secrets, pools, numbers, limits, budgets and costs in YAML.

A file is read whole or refused whole: `read` reports every error with its line.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from edgeproxy import wording
from edgeproxy.accounts import fields
from edgeproxy.accounts.entries import AccountEntry, Entry
from edgeproxy.accounts.fields import Name
from edgeproxy.accounts.warnings import warnings_of
from edgeproxy.accounts.yaml_file import BYTES_MOST, FileError, Lines, UnreadableError, compose, repeated_keys, texts


class AccountFileError(Exception):
    """The file is refused; `errors` are all its faults in the order of their lines, of which the text has the first."""

    def __init__(self, path: str, errors: list[FileError]) -> None:
        self.errors = sorted(errors, key=lambda error: error.line)
        super().__init__("\n".join(wording.first_of([f"{path}:{error.line}: {error.text}" for error in self.errors])))


class AccountFile(Entry):
    """A whole account file."""

    accounts: Annotated[dict[Name, AccountEntry], Field(min_length=1)]


def read(path: Path) -> AccountFile:
    """Read and validate an account file.

    Raises:
        AccountFileError: with every fault of the file, each with its line; nothing of it is to be used.
        OSError: the file cannot be read.
    """
    return _parse(_content(path), str(path))[0]


def parse(content: bytes, path: str = "accounts.yaml") -> AccountFile:
    """Like `read`, of bytes; `path` is what errors call the file."""
    return _parse(content, path)[0]


def read_closely(path: Path) -> tuple[AccountFile, list[FileError]]:
    """Like `read`, with warnings: what is not wrong, and most likely not meant, in the order of its lines."""
    file, lines = _parse(_content(path), str(path))
    return file, warnings_of(file.accounts, lines)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BYTES_MOST + 1)


def _parse(content: bytes, path: str) -> tuple[AccountFile, Lines]:
    try:
        root = compose(content)
    except UnreadableError as error:
        raise AccountFileError(path, [FileError(error.line, str(error))]) from None
    tree = texts(root) if root else None
    if root is None or not isinstance(tree, dict):
        raise AccountFileError(path, [FileError(1, "must be a mapping with the key accounts")])
    errors = list(repeated_keys(root))
    lines = Lines(root)
    try:
        file = AccountFile.model_validate(tree, context=fields.context())
    except ValidationError as invalid:
        errors += [_error(fault, lines) for fault in invalid.errors(include_url=False)]
        raise AccountFileError(path, errors) from None
    errors += _number_conflicts(file, lines)
    if errors:
        raise AccountFileError(path, errors)
    return file, lines


def _error(fault: Any, lines: Lines) -> FileError:
    steps = [step for step in fault["loc"] if step != "[key]"]
    text = wording.why(fault)
    if fault["type"] == "extra_forbidden":
        text += wording.meant(steps[-1], wording.field_names(AccountFile, steps[:-1]))
    place = ".".join(str(step)[: fields.SHOWN_MOST] for step in steps)
    return FileError(lines.of(fault["loc"]), f"{place}: {text}")


def _number_conflicts(file: AccountFile, lines: Lines) -> Iterator[FileError]:
    owners: dict[str, str] = {}
    tokens: dict[str, str] = {}
    for account, entry in file.accounts.items():
        for token in entry.tokens():
            if tokens.setdefault(token, account) != account:
                line = lines.of(("accounts", account, "static", "tokens"))
                yield FileError(line, f"static: {account} and {tokens[token]} have an access token in common")
        places: list[tuple[str, list[list[str]], tuple[str, ...]]] = [(account, entry.numbers, ("numbers",))]
        for name, pool in entry.pools.items():
            shared = [pool.shared_number] if pool.shared_number else []
            places.append((f"{account}.{name}", [*pool.numbers, shared], ("pools", name, "numbers")))
        shown: set[str] = set()
        for owner, ranges, place in places:
            for index, numbers in enumerate(ranges):
                for number in numbers:
                    shown.add(number)
                    if number in owners:
                        line = lines.of(("accounts", account, *place, index))
                        yield FileError(line, f"{number} is in {owners[number]} already, and cannot be in {owner} too")
                    owners.setdefault(number, owner)
        for number in entry.displays:
            if number not in shown:
                line = lines.of(("accounts", account, "displays", number))
                yield FileError(line, f"displays: {number} is no number of {account}")
