"""What carriers send as the caller, and what is read of it."""

import pytest

from edgeproxy.calls.caller import Caller, read_caller

NUMBER = "+493015981100"
WITHHELD = Caller(withheld=True)


@pytest.mark.parametrize(
    "text",
    [
        "+493015981100",
        "+49 (30) 15981100",
        "030 15981100",
        "0049 30 15981100",
        "tel:+49-30-15981100",
        "sip:+493015981100@192.0.2.17:5060;user=phone",
        "sips:+493015981100;npdi;rn=+4930111@gw9.example.com;transport=tls",
        "tel:15981100;phone-context=+4930",
        "+493015981100;ext=24",
        "sip:030%2015981100@10.20.30.40",
        "sip:+493015981100",
        "+493015981100@198.51.100.7:5061",
        "<sip:+493015981100@carrier.example>;tag=1928301774",
        '"Name 24" <sip:+493015981100@host:5060;user=phone>',
        '"0800 1234567" <sip:+493015981100@192.0.2.1>;tag=887s',
        "Meier 2 <030 15981100>",
        "From: Meier <tel:+493015981100>",
        '"Unknown" <sip:+493015981100@192.0.2.1>',
        '"Meier" <sip:+493015981100@192.0.2.1>;party=calling;privacy=off;screen=yes',
    ],
)
def test_a_number_is_read_from_where_it_stands_and_from_nowhere_else(text: str) -> None:
    assert read_caller(text, "DE") == Caller(NUMBER)


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "-", "?", "<>", '"" <>',
        "anonymous", "Anonymous", "ANONYMOUS", "+anonymous", "ａｎｏｎｙｍｏｕｓ",
        "restricted", "Restricted", "unavailable", "private", "unknown", "blocked", "withheld",
        "Private Number", "Unknown Caller", "Caller ID blocked", "Number Withheld", "No Caller ID", "N/A",
        "Not available", "NUMBER NOT AVAILABLE", "Coin line/payphone", "Out of area", "null", "None",
        "undefined", "P", "O", "anonymous;x=5", "tel:anonymous;x=5",
        "tel:anonymous", "sip:anonymous", "sip:anonymous@192.0.2.1", "sip:restricted@gw.example.com:5060",
        "sip:anonymous@anonymous.invalid", "<sip:anonymous@anonymous.invalid>",
        '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=9fxced76sl',
        "Anonymous <sip:c8oqz84zk7z@privacy.org>;tag=hyh8",  # RFC 3261
        '"Anonymous" <sip:+493015981100@carrier.example>',  # RFC 5079: that name is enough
        "sip:+493015981100@anonymous.invalid",
        '"Unavailable" <sip:unavailable@unknown.invalid>',
        '"Meier" <sip:+493015981100@192.0.2.1>;party=calling;privacy=full;screen=yes',
        "+266696687", "266696687", "+1266696687", "00266696687",  # ANONYMOUS
        "+7378742833", "+17378742833", "7378742833", "+7378742883",  # RESTRICTED, twice
        "+86282452253", "86282452253",  # UNAVAILABLE
        "+8656696", "+2562533", "+7748283", "+464",  # UNKNOWN, BLOCKED, PRIVATE, and one that is no word
        "sip:+266696687@192.0.2.1", "tel:+266696687", "+2666 96687", "٢٦٦٦٩٦٦٨٧",
        "0", "000000", "0000000000", "+0000000000", "+10000000000",
    ],
)  # fmt: skip
@pytest.mark.parametrize("region", ["DE", "US"])
def test_a_withheld_caller_is_one_thing_in_all_forms_that_carriers_use(text: str, region: str) -> None:
    assert read_caller(text, region) == WITHHELD


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("266696687", "PT", "+351266696687"),
        ("8656696", "IS", "+3548656696"),
        ("+351 266 696 687", "DE", "+351266696687"),
        ("+354 865 6696", "US", "+3548656696"),
    ],
)
def test_a_person_s_number_that_spells_a_word_is_the_person_s(text: str, region: str, number: str) -> None:
    assert read_caller(text, region) == Caller(number)


@pytest.mark.parametrize(
    "text",
    [
        "Bob", "sip:alice@example.com", "sip:alice-24@192.0.2.1", "sip:192.0.2.1:5060", "<sip:192.0.2.1>",
        "sip:pbx.example.com", "101", "116117", "12345", "sip:101@10.1.2.3", "anonymous1", "unknown artist",
    ],
)  # fmt: skip
def test_what_is_neither_is_nobody(text: str) -> None:
    assert read_caller(text, "DE") == Caller()


def test_a_caller_is_in_no_repr() -> None:
    assert "15981100" not in repr(read_caller(NUMBER, "DE"))
