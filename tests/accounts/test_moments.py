"""Moments as clients write them: one reader, its bounds, and a writer that never fails."""

import doctest
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.accounts import moments

DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
JANUARY = 1_769_817_600_000  # 2026-01-31T00:00:00Z
BERLIN = moments.zone("Europe/Berlin")

# Text → epoch ms, and for how many ms the text leaves it open.
FORMS = [
    ("2026-01-31T23:59:59Z", JANUARY + DAY - 1000, 1000),
    ("2026-01-31t23:59:59z", JANUARY + DAY - 1000, 1000),
    ("2026-01-31 23:59:59", JANUARY + DAY - 1000, 1000),
    ("2026-01-31 23:59:59Z", JANUARY + DAY - 1000, 1000),
    ("2026-01-31T23:59:59.120Z", JANUARY + DAY - 880, 1),
    ("2026-01-31T23:59:59,12Z", JANUARY + DAY - 880, 1),
    ("2026-01-31T23:59:59.999999999Z", JANUARY + DAY - 1, 1),
    ("2026-01-31T23:59Z", JANUARY + DAY - MINUTE, MINUTE),
    ("2026-01-31", JANUARY, DAY),
    ("20260131", JANUARY, DAY),
    ("20260131T235959Z", JANUARY + DAY - 1000, 1000),
    ("20260131T2359", JANUARY + DAY - MINUTE, MINUTE),
    ("2026-01-31T12:00:00+01:00", JANUARY + 11 * HOUR, 1000),
    ("2026-01-31T12:00:00+0100", JANUARY + 11 * HOUR, 1000),
    ("2026-01-31T12:00:00+01", JANUARY + 11 * HOUR, 1000),
    ("2026-01-31T12:00:00 01:00", JANUARY + 11 * HOUR, 1000),  # a + that a form did not escape
    ("2026-01-31T12:00:00-05:30", JANUARY + 17 * HOUR + 30 * MINUTE, 1000),
    ("2026-01-31T12:00:00-00:00", JANUARY + 12 * HOUR, 1000),
    ("1769817600", JANUARY, 1000),
    ("1769817600.5", JANUARY + 500, 1),
    ("1769817600120", JANUARY + 120, 1),
    ("1769817600120.75", JANUARY + 120, 1),
    ("1970-01-01T00:00:00Z", 0, 1000),
    ("9998-12-31T23:59:59Z", 253_370_764_799_000, 1000),
]

REFUSED = [
    "", "soon", "now", "2026-02-30", "2026-13-01", "2026-01-31T24:00:00Z", "2026-01-31T23:60:00Z",
    "2026-01-31T23:59:60Z", "2026-01-31 23:59:61", "9999-12-31 23:59:61", "2026-W05-6", "2026-0131", "202601-31",
    "2026-01-31T2359:59",
    "2026-01-31T", "2026-01-31Z", "2026-01-31T23:59:59+24:00", "2026-01-31T23:59:59+01:60", "2026-01-31T23:59:59.Z",
    "2026-01-31T23:59:59 Z", " 2026-01-31", "2026-01-31\n", "٢٠٢٦-01-31", "-1769817600", "1e9", "1769817600.", "NaN",
]  # fmt: skip
OUTSIDE = [
    "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+01:00", "9999-01-01T00:00:00Z", "9998-12-31T23:59:59-01:00",
    "9999-12-31 23:59:59", "0001-01-01", "999999999999999",
]  # fmt: skip


PAGE = Path(moments.__file__).with_name("README.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.partition("## Moments")[2].splitlines() if "| `" in line]


def test_the_page_has_rows_and_its_example_prints_what_it_says() -> None:
    assert len(ROWS) == 6
    examples = doctest.DocTestParser().get_doctest(PAGE.replace("```", ""), {}, "README.md", None, None)
    assert doctest.DocTestRunner().run(examples) == (0, 3)


@pytest.mark.parametrize(
    ("text", "read_as"),
    [(text, read_as) for written, read_as in ROWS for text in re.findall("`([^`]+)`", written) if text != "+"],
)
def test_a_row_of_the_page(text: str, read_as: str) -> None:
    if "no moment" in read_as:
        with pytest.raises(ValueError, match=re.escape(read_as.split("`")[1])):
            moments.read_ms(text)
    else:
        assert moments.text(moments.read_ms(text)) == read_as.split("`")[1]


@pytest.mark.parametrize(("text", "ms", "lasts_ms"), FORMS)
def test_a_moment_is_read(text: str, ms: int, lasts_ms: int) -> None:
    assert moments.read(text) == moments.Moment(ms, lasts_ms)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time such as 2026-01-31T23:59:59Z"):
        moments.read(text)


@pytest.mark.parametrize("text", OUTSIDE)
def test_a_moment_lies_from_1970_to_9998(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time from 1970 to 9998"):
        moments.read(text)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-31 12:00:00", "2026-01-31T11:00:00.000Z"),
        ("2026-07-31T12:00:00", "2026-07-31T10:00:00.000Z"),
        ("2026-07-31", "2026-07-30T22:00:00.000Z"),
        ("2026-10-25 02:30:00", "2026-10-25T00:30:00.000Z"),  # the first of two
        ("2026-07-31T12:00:00Z", "2026-07-31T12:00:00.000Z"),
        ("2026-07-31T12:00:00+05:00", "2026-07-31T07:00:00.000Z"),
        ("1785499200", "2026-07-31T12:00:00.000Z"),
    ],
)
def test_a_stamp_without_an_offset_is_one_of_the_zone(text: str, utc: str) -> None:
    assert moments.text(moments.read_ms(text, BERLIN)) == utc


@given(st.integers(0, 253_370_764_799_999))
def test_what_is_written_is_read_again(ms: int) -> None:
    assert moments.read(moments.text(ms)) == moments.Moment(ms, 1)
    assert moments.read(moments.text_of_seconds(ms)) == moments.Moment(ms // 1000 * 1000, 1000)


@given(st.datetimes(datetime(1970, 1, 2), datetime(9998, 12, 30)), st.integers(-1439, 1439))
def test_offsets_are_those_of_the_standard_library(naive: datetime, minutes: int) -> None:
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    written = f"{naive.isoformat()}{sign}{hours:02}:{rest:02}"
    moment = naive.replace(tzinfo=UTC) - timedelta(minutes=minutes)
    assert moments.read_ms(written) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@given(st.text(max_size=40) | st.from_regex(r"[0-9TZ:.+ -]{1,30}", fullmatch=True))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    try:
        moment = moments.read(text, BERLIN)
    except ValueError as error:
        assert str(error).startswith("must be a time ")
    else:
        assert 0 <= moment.ms < 253_370_764_800_000


@given(st.integers(-(2**63), 2**63))
def test_every_number_of_ms_is_written(ms: int) -> None:
    assert len(moments.text(ms)) == 24
    assert len(moments.text_of_seconds(ms)) == 19


def test_what_an_earlier_release_took_past_the_year_9999_is_told_as_its_end() -> None:
    assert moments.text(253_402_300_801_000) == "9999-12-31T23:59:59.999Z"
    assert moments.text_of_seconds(253_402_300_801_000) == "9999-12-31 23:59:59"
