"""Files of static numbers: rows good and bad with their lines, and what is written is read back the same."""

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.numbers import file as numbers_file
from edgeproxy.numbers import wire
from edgeproxy.numbers.file import NumbersFileError

HEADER = ",".join(numbers_file.COLUMNS)


def read(tmp_path: Path, content: str | bytes, name: str = "numbers.csv") -> list[tuple[int, Any]]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(row.line, row.change.parts() if row.change else list(row.faults)) for row in numbers_file.read(path)]


def test_rows_of_csv(tmp_path: Path) -> None:
    content = (
        "\ufeff" + HEADER + "\r\n"
        '79990000001,yandex,cpc,"a, ""b""",,,74951234567,74957654321,30,false,Пул\r\n'
        "79990000002,,,,,,,,,,Pool\r\n"
        "\r\n"
        "79990000003,,,,,,,74957654321,5,,\r\n"
        "7999,s,,,,,,,,,,beyond\r\n"
    )
    first, second, third, fourth = read(tmp_path, content)
    assert first == (
        2,
        {
            "displayOptions": {
                "source": "yandex",
                "medium": "cpc",
                "campaign": 'a, "b"',
                "content": None,
                "keyword": None,
            },
            "redirectOptions": {
                "redirectType": "PSTN",
                "ptsnOptions": {"redirectNumber": "+74951234567"},
                "reserveRedirect": {"reserveNumber": "+74957654321", "reserveTimeOut": 30, "ignoreEarlyMedia": False},
            },
            "poolName": "Пул",
        },
    )
    assert second == (3, {"poolName": "Pool"})
    assert third == (
        5,
        [
            "redirectOptions.ptsnOptions: is required",
            "redirectOptions.reserveRedirect.reserveTimeOut: must be from 10 to 120 seconds",
        ],
    )
    assert fourth[0] == 6
    assert fourth[1] == [
        "phoneNumber: must be a phone number like 7xxxxxxxxxx",
        "more cells than columns: there is no such field",
    ]


def test_rows_of_yaml(tmp_path: Path) -> None:
    content = (
        "- phoneNumber: 79990000001\n"
        "  redirectOptions: {redirectType: PSTN, ptsnOptions: {redirectNumber: 74951234567}}\n"
        "- {phoneNumber: 79990000002, poolName: on}\n"
        "- just text\n"
    )
    rows = read(tmp_path, content, "numbers.yaml")
    assert [line for line, _ in rows] == [1, 3, 4]
    assert rows[1][1] == {"poolName": "on"}
    assert "phoneNumber: is required" in rows[2][1]


def test_a_null_of_yaml_is_null_unless_it_is_quoted(tmp_path: Path) -> None:
    content = (
        "- {phoneNumber: 79990000001, poolName: null, displayOptions: {source: s, medium: ~, campaign: }}\n"
        "- {phoneNumber: 79990000002, poolName: 'null', displayOptions: {source: \"~\", medium: ''}}\n"
        "- {phoneNumber: 79990000003, poolName: null, redirectOptions: ~}\n"
    )
    (_, first), (_, second), (_, third) = read(tmp_path, content, "numbers.yaml")
    none = dict.fromkeys(("medium", "campaign", "content", "keyword"))
    assert first == {"displayOptions": {"source": "s", **none}}
    assert second == {"displayOptions": {"source": "~", **none, "medium": ""}, "poolName": "null"}
    assert third == ["at least one of displayOptions, redirectOptions, poolName is required"]


def test_a_key_that_stands_twice_in_yaml_is_a_fault_with_its_line(tmp_path: Path) -> None:
    content = (
        "- phoneNumber: 79990000001\n"
        "  poolName: one\n"
        "  poolName: two\n"
        "- phoneNumber: 79990000002\n"
        "  displayOptions:\n"
        "    source: a\n"
        "    source: a\n"
        "- {phoneNumber: 79990000003, poolName: p}\n"
    )
    assert read(tmp_path, content, "numbers.yaml") == [
        (3, ["poolName: stands twice in one mapping"]),
        (7, ["source: stands twice in one mapping"]),
        (8, {"poolName": "p"}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "must have a header with phoneNumber"),
        ("a.csv", b"number,source\n", "unknown: number"),
        ("a.csv", b"phoneNumbr\n", "unknown: phoneNumbr; did you mean phoneNumber"),
        ("a.csv", b'phoneNumber,source\n"x', "a.csv:2: a quote is not closed"),
        ("a.csv", b'phoneNumber,source\n"x"y', "a.csv:2: a quoted cell goes on after its closing quote"),
        ("a.csv", b"phoneNumber\n" + b"7" * 200_000, "a.csv:2: a cell is far too long"),
        ("a.csv", b" " * (16 * 1024**2 + 1), "is larger than 16 MiB: split it"),
        ("a.yaml", b"- &a {phoneNumber: 79990000001}\n- *a\n", "a.yaml:2: .a is an alias"),
        ("a.yaml", b"[" * 100_000, "a.yaml:1: is nested more than 20 levels deep"),
        ("a.yaml", b" " * (4 * 1024**2 + 1), "is larger than 4 MiB: split it"),
        ("a.csv", b"\xff", "is not UTF-8"),
        ("a.yaml", b"a: b", "must be a list"),
        ("a.yaml", b"", "must be a list"),
        ("a.yml", b"- {a: [}\n", "a.yml:1"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(NumbersFileError, match=message):
        read(tmp_path, content, name)


@pytest.mark.parametrize("name", ["numbers.csv", "numbers.yaml"])
def test_what_is_written_is_read_back_the_same(tmp_path: Path, name: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"phoneNumber": "79990000001", "displayOptions": {"source": 'a,"b"', "medium": "é"}, "poolName": "Пул: 1"},
        {
            "phoneNumber": "493012345678",
            "redirectOptions": {
                "redirectType": "PSTN",
                "ptsnOptions": {"redirectNumber": "74951234567"},
                "reserveRedirect": {"reserveNumber": "74957654321", "reserveTimeOut": 45, "ignoreEarlyMedia": False},
            },
        },
        {"phoneNumber": "79990000003", "poolName": "null"},
    ]
    changes = [wire.check_change(body) for body in bodies]
    shown = [{"phoneNumber": b["phoneNumber"], **wire.show(c.parts())} for b, c in zip(bodies, changes, strict=True)]
    rows = read(tmp_path, numbers_file.write(shown, as_yaml=name.endswith("yaml")), name)
    assert [parts for _, parts in rows] == [change.parts() for change in changes]


@pytest.mark.parametrize("first", "=+-@\t\r\n")
def test_what_a_spreadsheet_would_run_is_quoted(first: str) -> None:
    for cell in (f"{first}HYPERLINK(A1)", f"'{first}1", f"''{first}"):
        assert numbers_file.quoted(cell) == "'" + cell
    for cell in ("", "'", "''", "a=1", "'a", " =1", "7999", "google"):
        assert numbers_file.quoted(cell) == cell


def test_a_cell_that_is_quoted_for_spreadsheets_is_brought_in_as_it_was(tmp_path: Path) -> None:
    bodies = []
    for last, text in enumerate(("=1+1", "+a", "-b", "@c", "'=1", "''", "'a", "a=b")):
        body = {"phoneNumber": f"7999000000{last}", "poolName": text, "displayOptions": {"source": text}}
        bodies.append(body | {"redirectOptions": None})
    written = numbers_file.write(bodies, as_yaml=False)
    for row in csv.reader(written.splitlines()):
        assert not [cell for cell in row if cell[:1] in tuple("=+-@")]
    rows = read(tmp_path, written)
    assert [parts["poolName"] for _, parts in rows] == [body["poolName"] for body in bodies]


@given(st.text())
def test_every_cell_is_unquoted_to_what_it_was(cell: str) -> None:
    assert numbers_file.unquoted(numbers_file.quoted(cell)) == cell
