"""What is read as a phone number: the table of edgeproxy/accounts/README.md, row by row, over all regions."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from edgeproxy.accounts.display import show_number
from edgeproxy.accounts.number import (
    TEXT_MOST,
    _parsed,
    _read_number,
    current_form,
    form_value,
    is_valid,
    prepare,
    read_number,
)

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


@dataclass(frozen=True)
class Example:
    """A number that libphonenumber gives as an example, and how it is written."""

    region: str
    country_code: int
    nsn: str  # the number without country code
    e164: str
    national: str
    international: str
    rfc3966: str

    @property
    def abroad(self) -> str:
        """A region with another country code."""
        return "DE" if self.country_code != 49 else "FR"


def examples() -> Iterator[Example]:
    seen = set()
    for region in REGIONS:
        for kind in PhoneNumberType.values():
            number = phonenumbers.example_number_for_type(region, kind)
            if number is None or (region, str(number)) in seen:
                continue
            seen.add((region, str(number)))
            nsn = phonenumbers.national_significant_number(number)
            forms = [phonenumbers.format_number(number, form) for form in range(4)]
            yield Example(region, number.country_code or 0, nsn, forms[0], forms[2], forms[1], forms[3])


EXAMPLES = list(examples())
# Two short numbers one behind the other are one long number there.
RUN_TOGETHER = {"+3114020", "+59821123", "+68522123"}


def test_there_are_examples_of_every_region() -> None:
    assert {number.region for number in EXAMPLES} == set(REGIONS)
    assert len(EXAMPLES) > 900


def digits_in(script: str) -> Callable[[str], str]:
    table = str.maketrans("0123456789", script)
    return lambda text: text.translate(table)


def marked(text: str) -> str:
    return "\u200e\u202d" + "\u200b".join(text) + "\u202c\ufeff"


def entities(text: str) -> str:
    return text.replace("+", "&#43;").replace(" ", "&nbsp;")


def escaped(text: str) -> str:
    return text.replace("+", "%2B").replace(" ", "%20")


FULL_WIDTH = digits_in("０１２３４５６７８９")

# How a number may be disguised, whatever form it is written in: what is in the text is the number alone.
DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "a label": lambda text: f"Tel.: {text}",
    "another label": lambda text: f"Phone: {text}",
    "an emoji": lambda text: f"📞 {text}",
    "quotes": lambda text: f"„{text}“",
    "blanks": lambda text: f"\u00a0 {text}\u3000",
    "full width": lambda text: FULL_WIDTH(text.replace("+", "＋").replace("-", "－").replace(" ", "\u3000")),
    "Arabic-Indic": digits_in("٠١٢٣٤٥٦٧٨٩"),
    "Persian": digits_in("۰۱۲۳۴۵۶۷۸۹"),
    "Devanagari": digits_in("०१२३४५६७८९"),
    "Bengali": digits_in("০১২৩৪৫৬৭৮৯"),
    "mathematical": digits_in("𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗"),
    "keycaps": lambda text: "".join(f"{char}\ufe0f\u20e3" if char.isdigit() else char for char in text),
    "marks": marked,
    "entities": entities,
    "entities, escaped": lambda text: entities(text).replace("&", "&amp;"),
    "percent": escaped,
    "tags": lambda text: f'<p class="x24"><b>{text[:3]}</b><!-- 99 --><span title="1">{text[3:]}</span></p>',
    "dashes": lambda text: text.replace("-", "\u2011").replace(" ", "\u2009"),
    "tel": lambda text: f"tel:{text}",
    "telprompt": lambda text: f"telprompt:{text}",
    "callto": lambda text: f"callto://{text}",
    "an extension": lambda text: f"{text} ext. 12",
    "x45": lambda text: f"{text} x45",
    "#3": lambda text: f"{text} #3",
    "доб.": lambda text: f"{text} доб. 12",
    "pauses": lambda text: f"{text},,136#",
    "parameters": lambda text: f"{text};isub=99;ext=12;cpc=ordinary",
    "hours": lambda text: f"{text} (Mo-Fr 9-17 Uhr)",
    "hours alone": lambda text: f"{text} (9-17 Uhr)",
    "a footnote": lambda text: f"{text}²",
}  # fmt: skip


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_number_is_read_in_every_disguise(disguise: str) -> None:
    disguised = DISGUISES[disguise]
    for number in EXAMPLES:
        for text in (number.e164, number.international):
            assert read_number(disguised(text), number.abroad) == number.e164, (text, number.region)
        assert read_number(disguised(number.national), number.region) == number.e164, (number.national, number.region)


def test_a_number_in_a_bracket_after_its_plus_is_read() -> None:
    for number in EXAMPLES:
        for text in (f"(+{number.country_code}) {number.nsn}", f"+({number.country_code}) {number.nsn}"):
            assert read_number(text, number.abroad) == number.e164, text


def test_uris_give_their_user_part_alone() -> None:
    for number in EXAMPLES:
        for text in (
            number.rfc3966,
            f"{number.rfc3966};ext=24",
            f"<{number.e164}>",
            f"sip:{number.e164}@198.51.100.24:5060",
            f"sip:{number.international}@host.example",
            f"SIPS:{number.e164};cpc=99@host24.example;user=phone",
            f"sip:{number.e164}:secret99@host.example",
            f'"Name 24" <sip:{number.e164}@host:5060;user=phone;expires=3600>',
            f'"Tel: 24" <sip:{number.e164}@host>;tag=1928301774',
            f"{number.e164}@198.51.100.24:5060",
            f"{escaped(number.e164)}@gw24.example",
            f"call24@example.com, {number.international}",
        ):
            assert read_number(text, number.abroad) == number.e164, text


@pytest.mark.parametrize(
    "text",
    [
        "sip:198.51.100.24:5060", "sip:110:030901820@h", "sip:gw.example:30901820", "sip:30901820",
        "sip:alice@198.51.100.240:30901820",
        "sip:alice;ext=030901820@h", '"030 901820" <sip:anonymous@198.51.100.240>', "alice24@030901820.example",
        "tel:;ext=030901820", "callto:alice?call=030901820", "anonymous;phone-context=+4930901820",
        "198.51.100.240", "198.51.100.240:30901820",
        "2001:db8:85a3:1234:5678:8a2e:370:7334",
    ],
)  # fmt: skip
def test_hosts_ports_and_parameters_give_no_number(text: str) -> None:
    assert read_number(text, "DE") is None


def test_a_phone_context_completes_a_number() -> None:
    for number in EXAMPLES:
        for scheme, host in (("tel:", ""), ("sip:", "@host24:5060;user=phone")):
            for first in (0, 1, 2):
                context, rest = f"+{number.country_code}{number.nsn[:first]}", number.nsn[first:]
                if len(rest) > 3:
                    text = f"{scheme}{rest};phone-context={context}{host}"
                    assert read_number(text, number.abroad) == number.e164, text
        text = f"tel:{number.e164};phone-context=+1212"
        assert read_number(text, number.abroad) == number.e164


def test_a_zero_in_brackets_is_dropped_where_it_is_the_trunk_prefix() -> None:
    dropped = 0
    for number in EXAMPLES:
        for text in (f"+{number.country_code} (0){number.nsn}", f"00{number.country_code} ( 0 ) {number.nsn}"):
            read = read_number(text, "FR")
            kept = phonenumbers.parse(f"+{number.country_code}0{number.nsn}")
            if phonenumbers.national_significant_number(kept).startswith("0") and phonenumbers.is_valid_number(kept):
                assert read == phonenumbers.format_number(kept, PhoneNumberFormat.E164)  # another number, with a zero
            else:
                assert read == number.e164, text
                dropped += 1
    assert dropped > 1800


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+39 (0)6 123 4567", "+39061234567"),
        ("+39 06 123 4567", "+39061234567"),
        ("+39 (06) 123 4567", "+39061234567"),
        ("+378 (0549) 886377", "+3780549886377"),
        ("+49 (0)30/15 98 11-00", "+493015981100"),
        ("+7 (8) 999 123-45-67", "+79991234567"),
        ("+34 (0)912 34 56 78", "+34912345678"),
    ],
)
def test_a_zero_stays_where_it_belongs(text: str, number: str) -> None:
    assert read_number(text, "DE") == number


KEYPAD = str.maketrans("23456789", "ADGJMPTW")


def test_vanity_letters_are_digits() -> None:
    read = 0
    for number in EXAMPLES:
        digits = number.national
        last = next((at for at in range(len(digits)) if set(digits[at:]) <= set("23456789") and at > 3), len(digits))
        alone = read_number(digits[:last], number.region)  # what stands before the letters may be a number itself
        if len(digits) - last >= 3 and (alone is None or not is_valid(alone)):
            assert read_number(digits[:last] + digits[last:].translate(KEYPAD), number.region) == number.e164, number
            read += 1
        abroad = number.e164
        last = next((at for at in range(len(abroad)) if set(abroad[at:]) <= set("23456789") and at > 4), len(abroad))
        alone = read_number(abroad[:last], number.abroad)
        if len(abroad) - last >= 3 and (alone is None or not is_valid(alone)):
            assert read_number(abroad[:last] + "-" + abroad[last:].translate(KEYPAD), number.abroad) == number.e164
            read += 1
    assert read > 300


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("1-800-flowers", "US", "+18003569377"),
        ("1-800-GOT-JUNK?", "US", "+18004685865"),
        ("+1 800 FLOWERS (Mo-Fr 9-17)", "DE", "+18003569377"),
        ("1300 FLOWER", "AU", "+611300356937"),
        ("1-800-FLOWER", "US", None),  # a digit is missing: the whole is no number
        ("365 Tage im Jahr", "DE", None),
        ("030 901820Uhr", "DE", "+4930901820"),
        ("24h Hotline", "DE", None),
        ("4711 Shop", "DE", None),
        ("0200079 ext. 12", "FR", None),  # nor is it an extension's
        ("+447425360 ext. 12", "FR", "+447425360"),
    ],
)
def test_words_are_digits_only_where_the_whole_is_a_valid_number(text: str, region: str, number: str | None) -> None:
    assert read_number(text, region) == number


def test_of_two_numbers_the_first_is_read() -> None:
    for number in EXAMPLES:
        for between in (", ", " or ", "; ", " | ", " und ", "\t/ Fax: "):
            for text in (number.national, number.international):
                assert read_number(text + between + text, number.region) == number.e164, text + between + text
        for other in (number.international, "+1 212-555-0123"):
            for between in ("", " ", " / ", "\n"):
                assert read_number(number.national + between + other, number.region) == number.e164
        if number.e164 not in RUN_TOGETHER:
            for between in (" ", " / ", "\n"):
                assert read_number(number.national + between + number.national, number.region) == number.e164, number


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("030 901820 (Mo-Fr 9-17 Uhr)", "DE", "+4930901820"),
        ("030 901820 9-17 Uhr", "DE", "+4930901820"),
        ("030 901820 9:00-17:00", "DE", "+4930901820"),
        ("Mo-Fr 9-17 Uhr: 030 901820", "DE", "+4930901820"),
        ("+44 20 7946 0000 9am-5pm", "DE", "+442079460000"),
        ("24h Hotline: 030 901820", "DE", "+4930901820"),
        ("10115 Berlin, Tel. 030 901820", "DE", "+4930901820"),
        ("Stand 2026-11-26: 030 901820", "DE", "+4930901820"),
        ("030 901820/21", "DE", "+4930901820"),
        ("030 15 98 11 00 030 15 98 11 01", "DE", "+493015981100"),
        ("06 01 02 03 04 06 01 02 03 05", "FR", "+33601020304"),
        ("+99 123456789, 030 901820", "DE", None),  # the first is none
        ('<a href="tel:030901820">030 901821</a>', "DE", "+4930901821"),
        ("<p>030 901820</p><p>030 901821</p>", "DE", "+4930901820"),
    ],
)
def test_the_first_number_alone_is_read(text: str, region: str, number: str | None) -> None:
    assert read_number(text, region) == number


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


def nearly(number: Example, at: int, digit: str, trunk: bool) -> str:
    prefix = phonenumbers.ndd_prefix_for_region(number.region, True) or ""
    digits = (prefix if trunk else "") + number.nsn
    return digits[: at % len(digits)] + digit + digits[at % len(digits) + 1 :]


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text("0123456789", min_size=4, max_size=17),
        st.builds(nearly, st.sampled_from(EXAMPLES), st.integers(0, 20), st.sampled_from("0123456789"), st.booleans()),
    ),
    st.sampled_from([*REGIONS, None]),
)
def test_digits_are_parsed_as_libphonenumber_does(digits: str, region: str | None) -> None:
    """Where it finds a number that is possible; of others none is read."""

    def parsed(parse: Callable[[], phonenumbers.PhoneNumber]) -> phonenumbers.PhoneNumber | None:
        try:
            number = parse()
        except phonenumbers.NumberParseException:
            return None
        possible = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
        zero = phonenumbers.national_significant_number(number).startswith("0")
        return number if possible and (not zero or phonenumbers.is_valid_number(number)) else None

    theirs = parsed(lambda: phonenumbers.parse(digits if region else f"+{digits}", region))
    assert parsed(lambda: _parsed(digits, region)) == theirs


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
