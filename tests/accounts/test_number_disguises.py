"""However a number is disguised, it is read: in other scripts, in markup, in URIs, in words and among others."""

from collections.abc import Callable

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat

from edgeproxy.accounts.number import (
    is_valid,
    read_number,
)
from tests.accounts.examples import EXAMPLES

# Two short numbers one behind the other are one long number there.
RUN_TOGETHER = {"+3114020", "+59821123", "+68522123"}


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
