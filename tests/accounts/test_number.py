"""What is read as a phone number: the table of edgeproxy/accounts/README.md, row by row, over all regions."""

import time

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from edgeproxy.accounts.display import show_number
from edgeproxy.accounts.number import (
    TEXT_MOST,
    _read_number,
    current_form,
    form_value,
    is_valid,
    prepare,
    read_number,
)
from tests.accounts.examples import EXAMPLES, REGIONS


def test_there_are_examples_of_every_region() -> None:
    assert {number.region for number in EXAMPLES} == set(REGIONS)
    assert len(EXAMPLES) > 900


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-26", "2026/11/26", "26.11.2026", "26. 11. 2026", "11/26/2026", "2026-11-26T10:30:00Z", "10:30",
        "2026-11-26 10:30", "10:30-11:30", "192.0.2.10", "", " ", "+", "++", "call us", "FLOWERS",
        "²³¹²³¹²³¹²", "①②③④⑤⑥⑦",
    ],
)  # fmt: skip
def test_what_is_no_number_is_none_anywhere(text: str) -> None:
    for region in REGIONS:
        assert read_number(text, region) is None


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("12345", "DE"), ("+4912345", "DE"), ("116 117", "DE"), ("+49116117", "DE"), ("110", "DE"), ("112", "GB"),
        ("911", "US"),
        ("+49442079460000", "DE"), ("+49 30 1234567890", "DE"), ("555-1234", "US"), ("+1 555 1234", "US"),
        ("+4420794600", "GB"), ("+999999999999", "DE"), ("+0", "DE"), ("0" * 20, "DE"), ("1" * 21, "DE"),
        ("+266696687", "DE"), ("+4900301234567", "DE"), ("030 901820", ""), ("+493015981100" + " " * 256, "DE"),
    ],
)  # fmt: skip
def test_what_cannot_be_dialled_is_no_number(text: str, region: str) -> None:
    assert read_number(text, region) is None


def test_emergency_and_other_short_numbers_are_no_numbers() -> None:
    for region in REGIONS:
        number = read_number("116117", region)
        assert number is None or is_valid(number), region  # of the smallest countries
        for short in ("110", "112", "911"):
            assert read_number(short, region) is None


def test_a_lost_plus_is_found_where_only_that_makes_a_number() -> None:
    found = 0
    for number in EXAMPLES:
        digits = number.e164[1:]
        for text in (digits, f"{number.country_code} {number.nsn}"):
            try:
                national = phonenumbers.parse(digits, number.region)
            except phonenumbers.NumberParseException:
                national = None
            read = read_number(text, number.region)
            if read == number.e164:
                found += 1
            else:
                assert national is not None
                assert phonenumbers.is_valid_number(national)
                assert read == phonenumbers.format_number(national, PhoneNumberFormat.E164)
    assert found > 2 * (len(EXAMPLES) - 20)


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("491511234567", "DE", "+491511234567"),
        ("493015981100", "DE", "+493015981100"),
        ("442079460000", "DE", "+442079460000"),
        ("49 30 901820", "FR", "+4930901820"),
        ("79990000001", "DE", "+79990000001"),
        ("0044 20 7946 0000", "US", "+442079460000"),
        ("011 44 20 7946 0000", "US", "+442079460000"),
        ("0049 30 15981100", "DE", "+493015981100"),
        ("+0049 30 15981100", "US", "+493015981100"),
        ("+030 901820", "DE", "+4930901820"),
        ("++49 30 901820", "US", "+4930901820"),
        ("030 901820", "DE", "+4930901820"),
        ("(030) 15.98.11.00", "DE", "+493015981100"),
        ("089.123.456.78", "DE", "+498912345678"),
        ("12.34.56.78", "DK", "+4512345678"),
        ("030\r\n15981100", "DE", "+493015981100"),
        ("<b>030</b> <span>15981100</span>", "DE", "+493015981100"),
        ("044/123'45'67", "CH", "+41441234567"),
        ("7012", "NU", "+6837012"),
        ("+800 1234 5678", "DE", "+80012345678"),
        ("+870 773 111 632", "DE", "+870773111632"),
    ],
)
def test_reading_a_number(text: str, region: str, number: str) -> None:
    assert read_number(text, region) == number


@pytest.mark.parametrize(
    ("old", "region", "current"),
    [
        ("+52 1 55 1234 5678", "DE", "+525512345678"),
        ("044 55 1234 5678", "MX", "+525512345678"),
        ("045 55 1234 5678", "MX", "+525512345678"),
        ("01 55 1234 5678", "MX", "+525512345678"),
        ("+54 11 15 2345-6789", "DE", "+5491123456789"),
        ("011 15-2345-6789", "AR", "+5491123456789"),
        ("+55 11 8123-4567", "DE", "+5511981234567"),
        ("+39 6 1234567", "DE", "+39061234567"),
        ("+57 1 6012345", "DE", "+576016012345"),
        ("+84 166 234 5678", "DE", "+84362345678"),
        ("+84 121 234 5678", "DE", "+84792345678"),
        ("+84 127 234 5678", "DE", "+84812345678"),
        ("+84 199 234 5678", "DE", "+84592345678"),
        ("+225 07 01 02 03", "DE", "+2250707010203"),
        ("+225 44 01 02 03", "DE", "+2250544010203"),
        ("+229 90 01 12 34", "DE", "+2290190011234"),
        ("+237 7 123 45 67", "DE", "+237671234567"),
        ("0171 794 6000", "GB", "+442077946000"),
    ],
)
def test_an_old_form_is_the_current_number(old: str, region: str, current: str) -> None:
    assert read_number(old, region) == current
    assert is_valid(current)


def test_a_number_kept_in_an_old_form_is_compared_in_the_current_one() -> None:
    assert current_form("+551181234567") == "+5511981234567"
    assert current_form("+3961234567") == "+39061234567"
    for number in EXAMPLES:
        assert current_form(number.e164) == number.e164


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (" 4612345678", "+4612345678"),
        ("  46 12 34 56 78", "+46 12 34 56 78"),
        ("+4612345678", "+4612345678"),
        ("030 901820", "030 901820"),
        (" (030) 901820", " (030) 901820"),
        ("", ""),
        (" ", " "),
    ],
)
def test_a_blank_before_digits_was_a_plus_in_a_form(text: str, meant: str) -> None:
    assert form_value(text) == meant


def test_a_zero_after_such_a_blank_is_still_a_national_number() -> None:
    assert read_number(form_value(" 030 901820"), "DE") == "+4930901820"


# Whatever is written --------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["0", "1", "49", "030", "901820", "12345678", "+", "＋", " ", "  ", "(", ")", "(0)", "/", "-", ".", ",", ";", "\n",
     "'", "&#43;", "&amp;", "&nbsp;", "%2B", "%25", "<", ">", "<b>", "tel:", "sip:", "@", ":5060", ";ext=",
     ";phone-context=+",
     "ext", "x", "#", "FLOWERS", "abc", "h", " Uhr", "９", "٣", "\u202d", "\u200b", "²", "é", "2026-11-26", "9-17",
     "192.0.2.10", "\x00", "\ud800"]
)  # fmt: skip


TEXTS = st.one_of(
    st.text(max_size=TEXT_MOST),
    st.lists(PIECES, max_size=40).map("".join),
    st.builds(
        lambda piece, times: (piece * times)[:TEXT_MOST], st.lists(PIECES, max_size=6).map("".join), st.just(256)
    ),
    st.builds(
        lambda number, noise, at: number[:at] + noise + number[at:],
        st.sampled_from([form for number in EXAMPLES for form in (number.e164, number.national, number.international)]),
        st.lists(PIECES, max_size=4).map("".join),
        st.integers(0, 20),
    ),
)


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.sampled_from([*REGIONS, ""]))
@example("+4900301234567", "DE")
@example("+37588836935895", "BY")
@example("+7 8 1234567890", "RU")
@example("0" * 256, "DE")
def test_what_comes_out_is_possible_and_reads_as_itself(text: str, region: str) -> None:
    number = read_number(text, region)
    if number is None:
        return
    parsed = phonenumbers.parse(number)
    assert phonenumbers.format_number(parsed, PhoneNumberFormat.E164) == number
    assert phonenumbers.is_possible_number(parsed)
    for other in (region, "", "DE", "US"):
        assert read_number(number, other) == number


@pytest.mark.alone
@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=4).map("".join), st.sampled_from(["DE", "US", "BR", "CN", "AR"]))
def test_no_text_takes_long(piece: str, region: str) -> None:
    """Twice the text may take twice the time, and never more than some ms."""
    text = (piece * TEXT_MOST)[:TEXT_MOST]
    began = time.thread_time()
    _read_number(text, region)
    assert time.thread_time() - began < 0.02


def test_once_prepared_no_number_of_any_country_waits_for_what_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    monkeypatch.setattr("phonenumbers.re_util.re.compile", None)
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE):
            if (sample := phonenumbers.example_number_for_type(region, kind)) is not None:
                number = phonenumbers.format_number(sample, PhoneNumberFormat.E164)
                assert read_number(number, "") == number
                assert is_valid(number)
                assert show_number(number, None, None, number, number)
