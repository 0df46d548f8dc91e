"""Files of static numbers with their scenarios, CSV or YAML: what the API takes, many at once (`README.md`, *Files*).

A row is what a body of `update` is. A CSV file has a column for each of `COLUMNS`, in any order, and may leave some
out; an empty cell is not sent. A YAML file is a list of bodies; its scalars are read as in account files.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from edgeproxy import wording
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.yaml_file import UnreadableError, compose, repeated_keys, texts
from edgeproxy.errors import RefusedError
from edgeproxy.numbers import wire
from edgeproxy.store import Store, keys
from edgeproxy.store.functions import Functions
from edgeproxy.store.numbers import StaticNumbers

# Column → where its value stands in a body.
COLUMNS = {
    "phoneNumber": ("phoneNumber",),
    "source": ("displayOptions", "source"),
    "medium": ("displayOptions", "medium"),
    "campaign": ("displayOptions", "campaign"),
    "content": ("displayOptions", "content"),
    "keyword": ("displayOptions", "keyword"),
    "redirectNumber": ("redirectOptions", "ptsnOptions", "redirectNumber"),
    "reserveNumber": ("redirectOptions", "reserveRedirect", "reserveNumber"),
    "reserveTimeOut": ("redirectOptions", "reserveRedirect", "reserveTimeOut"),
    "ignoreEarlyMedia": ("redirectOptions", "reserveRedirect", "ignoreEarlyMedia"),
    "poolName": ("poolName",),
}


_CSV_MOST = 16 * 1024 * 1024  # bytes of a file
_AT_ONCE = 500  # rows between waits for the disk
_SHOWN_MOST = 64  # characters of a column's name that an error shows
_UNKNOWN_SHOWN = 10  # columns
# What Python's reader says → what it means; the first that fits.
_CSV_FAULTS = (
    ("unexpected end of data", "a quote is not closed"),
    ("expected after", "a quoted cell goes on after its closing quote: a quote in it is written twice"),
    ("field larger", "a cell is far too long: is a quote before it not closed?"),
    ("NUL", "holds a NUL, which is no text"),
    ("new-line character", "a line break within a cell that has no quotes"),
)
_REFUSED = {
    "missing": "is none of the account's numbers",
    "status": "is neither free nor in use as a static number",
}


class NumbersFileError(Exception):
    """The file as a whole cannot be read; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of a file: its line (from 1), and the change that it asks for, or what is wrong with it.

    A key that stands twice is a row of its own, with its own line.
    """

    line: int
    change: wire.Change | None
    faults: tuple[str, ...] = ()


def is_yaml(path: Path) -> bool:
    """Tell whether a file is YAML by its name; any other is CSV."""
    return path.suffix.lower() in (".yaml", ".yml")


def read(path: Path) -> list[Row]:
    """Every row of the file, good or bad.

    Raises:
        NumbersFileError: it is no CSV with a header of `COLUMNS`, and no YAML list.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(_CSV_MOST + 1)
    rows: list[Row] = []
    first_line: dict[str, int] = {}
    for row in (_yaml if is_yaml(path) else _csv)(content, str(path)):
        if row.change is not None and (before := first_line.setdefault(row.change.phone_number, row.line)) != row.line:
            row = Row(row.line, None, (f"phoneNumber: stands in line {before} already",))
        rows.append(row)
    return rows


def _row(line: int, tree: Any) -> Row:
    try:
        return Row(line, wire.check_change(tree if isinstance(tree, dict) else {}))
    except wire.InvalidError as invalid:
        faults = (f"{violation.field}: {violation.message}".removeprefix(": ") for violation in invalid.violations)
        return Row(line, None, tuple(faults))


def _csv(content: bytes, path: str) -> Iterator[Row]:
    if len(content) > _CSV_MOST:
        raise NumbersFileError(f"{path}: is larger than {_CSV_MOST // 1024**2} MiB: split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NumbersFileError(f"{path}:{line}: is not UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    try:
        unknown = sorted(set(reader.fieldnames or ()) - COLUMNS.keys())
        if unknown or "phoneNumber" not in (reader.fieldnames or ()):
            told = [f"{name[:_SHOWN_MOST]}{wording.meant(name, COLUMNS)}" for name in unknown[:_UNKNOWN_SHOWN]]
            raise NumbersFileError(
                f"{path}:1: must have a header with phoneNumber and others of {', '.join(COLUMNS)}"
                + (f"; unknown: {', '.join(told)}" if told else "")
            )
        for cells in reader:
            yield _row(reader.line_num, _body(cells))
    except csv.Error as error:
        why = next((text for said, text in _CSV_FAULTS if said in str(error)), "is not CSV")
        raise NumbersFileError(f"{path}:{reader.line_num + 1}: {why}") from None


def _body(cells: dict[str, Any]) -> dict[str, Any]:
    """A body out of the cells of a row; those beyond the header stand as a field that there is not."""
    body: dict[str, Any] = {}
    for column, value in cells.items():
        if not value:
            continue
        node = body
        *above, name = COLUMNS.get(column, ("more cells than columns",))
        for step in above:
            node = node.setdefault(step, {})
        node[name] = unquoted(value)
    if "redirectOptions" in body:
        body["redirectOptions"]["redirectType"] = "PSTN"
    return body


def _yaml(content: bytes, path: str) -> Iterator[Row]:
    try:
        root = compose(content)
    except UnreadableError as error:
        raise NumbersFileError(f"{path}:{error.line}: {error}") from None
    if not isinstance(root, yaml.SequenceNode):
        raise NumbersFileError(f"{path}:1: must be a list of numbers")
    for node in root.value:
        repeated = [Row(error.line, None, (error.text,)) for error in repeated_keys(node)]
        yield from repeated or [_row(node.start_mark.line + 1, texts(node))]


@dataclass(frozen=True, slots=True)
class Report:
    """What an import did: how many rows were `create`d, `update`d, `unchanged`; and the refused lines, with why."""

    counts: "Counter[str]" = field(default_factory=Counter)
    refused: list[tuple[int, str]] = field(default_factory=list)


async def bring_in(
    store: Store, account: Account, rows: list[Row], done: Callable[[int], object], *, replicas: int = 0
) -> Report:
    """Put the rows' numbers to use, or change them; `done` is told how many rows have been dealt with since.

    A row is taken whole or refused whole, and spends no points; one that changes nothing is left alone. What was
    changed is on disk, and on so many replicas, before `done` is told of it.

    Raises:
        Fault, NotDurableError, UncertainError: the store failed; the rows before are in it, and the same file can be
            brought in again.
    """
    report = Report()
    static, functions = StaticNumbers(store, None), Functions(store, replicas)
    for first in range(0, len(rows), _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        report.refused.extend((row.line, fault) for row in some for fault in row.faults)
        good = [(row.line, row.change) for row in some if row.change is not None]
        held = await static.look(account, [change.phone_number for _, change in good])
        for (line, change), (state, parts) in zip(good, held, strict=True):
            what: Literal["create", "update"] = "update" if state == "static" else "create"
            if what == "update" and parts | change.parts() == parts:
                report.counts["unchanged"] += 1
                continue
            try:
                await static.change(account, what, change.phone_number, change.parts(), free_of_charge=True)
                report.counts[what] += 1
            except RefusedError as refused:
                report.refused.append((line, f"phoneNumber: {_REFUSED[refused.why]}"))
        await functions.flush(keys.account(account.name))
        done(len(some))
    report.refused.sort()
    return report


def write(bodies: Iterable[dict[str, Any]], *, as_yaml: bool) -> str:
    """A file of numbers, each as `list` of the API shows it; `read` gives the same changes back."""
    if as_yaml:
        return "".join(
            yaml.safe_dump([_set_in(body)], sort_keys=False, allow_unicode=True) for body in bodies
        )  # fmt: skip
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for body in bodies:
        writer.writerow({column: quoted(_cell(body, place)) for column, place in COLUMNS.items()})
    return file.getvalue()


def _set_in(body: dict[str, Any]) -> dict[str, Any]:
    """The body without nulls, nor objects that hold nothing else."""
    members = {name: _set_in(value) if isinstance(value, dict) else value for name, value in body.items()}
    return {name: value for name, value in members.items() if value not in (None, {})}


# What a spreadsheet would run as a formula begins so, behind however many quotes.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def quoted(cell: str) -> str:
    """The cell with a quote before what a spreadsheet would run; `unquoted` gives it back."""
    return "'" + cell if _FORMULA.match(cell) else cell


def unquoted(cell: str) -> str:
    """The cell without the quote that `quoted` has put there."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def _cell(body: dict[str, Any], place: tuple[str, ...]) -> str:
    value: Any = body
    for step in place:
        value = value.get(step) if value else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
