"""Phone numbers, read as people and machines write them, and shown to visitors. All numbers are E.164.

What is read as what stands in this room's README, in one table.
"""

import functools
import re
from urllib.parse import unquote

import phonenumbers

# Its patterns are more than `re` remembers: without this they would be compiled again for every other country.
phonenumbers.enable_pattern_cache()

TEXT_MOST = 256  # characters; a longer text is no number
_NO_DIGITS = re.compile(r"\D")
_TAG = re.compile(r"<[^<>]*>")
_SCHEME = re.compile(r"^tel(?:prompt)?:(?://)?", re.IGNORECASE)
_NATIONAL_TEXT = re.compile(r"[\d\s()./-]+")
_LAST_DIGITS = 3
_NUMBERS_READ = 65_536  # how many distinct texts and displays a worker remembers


def read_number(text: str, region: str) -> str | None:
    """Clean a number as written on a page and give its E.164 form, or None where it is no number (CONTRACT §1).

    `region` (ISO 3166) is where a national number is read. A text of more than 256 characters is no number.
    """
    return _read_number(text, region) if len(text) <= TEXT_MOST else None


@functools.lru_cache(_NUMBERS_READ)
def _read_number(text: str, region: str) -> str | None:
    cleaned = _TAG.sub("", unquote(text.strip())).strip()
    cleaned = _SCHEME.sub("", cleaned).replace("(0)", "").strip()
    digits = "".join(char for char in cleaned if char in "0123456789")
    if not 5 <= len(digits) <= 20:
        return None
    try:
        parsed = phonenumbers.parse("+" + digits if cleaned.startswith("+") else digits, region)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


@functools.cache
def prepare() -> None:
    """Load and compile what libphonenumber knows of all countries, which takes 0.2 s: no request waits for its part."""
    phonenumbers.PhoneMetadata.load_all()
    kinds = (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE)
    for region in phonenumbers.SUPPORTED_REGIONS:
        for example in (phonenumbers.example_number_for_type(region, kind) for kind in kinds):
            if example is not None:
                phonenumbers.is_valid_number(example)
                phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL)
                phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
                phonenumbers.parse(phonenumbers.national_significant_number(example), region)


@functools.lru_cache(_NUMBERS_READ)
def is_valid(number: str) -> bool:
    """Tell whether libphonenumber knows a range that an E.164 number is of: more than that it may be one."""
    return phonenumbers.is_valid_number(phonenumbers.parse(number))


def form_value(text: str) -> str:
    """A number as a form or a query meant it: a blank before its first digit was a `+` that nobody escaped."""
    return "+" + text.lstrip() if text[:1].isspace() and text.lstrip()[:1].isdigit() else text


@functools.lru_cache(_NUMBERS_READ)
def show_number(number: str, own_text: str | None, pattern: str | None, on_page: str) -> str:
    """The text a visitor sees for the tracking `number` (CONTRACT §1, *`local`*).

    Its `own_text`; else the pool's `pattern`; else the grouping of the number `on_page`, if that was written nationally
    with as many digits; else libphonenumber's national format.
    """
    if own_text is not None:
        return own_text
    national = national_format(number)
    digits = _NO_DIGITS.sub("", national)
    if pattern is not None and (filled := _fill(pattern, digits, number[1:])) is not None:
        return filled
    written_nationally = _NATIONAL_TEXT.fullmatch(on_page) and not on_page.startswith("00")
    if written_nationally and (filled := _fill(re.sub(r"\d", "#", on_page), digits)) is not None:
        return filled
    return national


def national_format(number: str) -> str:
    """libphonenumber's national format of an E.164 number (`030 15981158`).

    Its rules go by a number's length and first digits, so numbers that differ in the last digits alone are grouped
    alike: a pool of a thousand in a row costs one call of the library.
    """
    first, last = number[:-_LAST_DIGITS], number[-_LAST_DIGITS:]
    alike = _national_format(first + "0" * _LAST_DIGITS)
    if alike.endswith("0" * _LAST_DIGITS):
        return alike[:-_LAST_DIGITS] + last
    return _national_format(number)


@functools.lru_cache(_NUMBERS_READ)
def _national_format(number: str) -> str:
    return phonenumbers.format_number(phonenumbers.parse(number), phonenumbers.PhoneNumberFormat.NATIONAL)


def pattern_fits(pattern: str, number: str) -> bool:
    """Tell whether a display pattern has a place for each national, or each international, digit of the number."""
    return _fill(pattern, _NO_DIGITS.sub("", national_format(number)), number[1:]) is not None


def _fill(pattern: str, *candidates: str) -> str | None:
    """The pattern with each `#` replaced by a digit, of the first candidate that has as many."""
    parts = pattern.split("#")
    for digits in candidates:
        if len(digits) == len(parts) - 1:
            return "".join(map(str.__add__, parts, digits)) + parts[-1]
    return None
