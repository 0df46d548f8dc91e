"""How a tracking number is shown to a visitor: as the account says, else as the page writes its own."""

import functools
import re

import phonenumbers
from phonenumbers import PhoneNumberFormat

from edgeproxy.accounts.number import country_and_national, is_written_for_abroad

_DISPLAYS_KEPT = 16_384  # that a worker remembers,
_SHORT_MOST = 64  # in the place of texts of so many characters
_PAGES_KEPT = 8192  # numbers as pages write them, and beginnings of tracking numbers
_LAST_DIGITS = 3
_NO_DIGITS = re.compile(r"\D")
_DIGIT = re.compile(r"[0-9]")
_country_and_national = functools.lru_cache(_PAGES_KEPT)(country_and_national)
_PAGE_TEXT = re.compile(r"\+?[0-9\s()./-]+")


def show_number(number: str, own_text: str | None, pattern: str | None, on_page: str, page_number: str | None) -> str:
    """The text a visitor sees for the tracking `number`, in place of the text `on_page`, which is `page_number`.

    Its `own_text`; else the pool's `pattern`; else the page's grouping, where the area code and the rest have the
    lengths that they have on the page; else libphonenumber's format: the international one where the page writes its
    number with + or 00, or shows one of another country, and the national one where not.
    """
    if own_text is not None:
        return own_text
    show = _show_remembered if len(on_page) <= _SHORT_MOST else _show
    return show(number, pattern, on_page, page_number)


def _show(number: str, pattern: str | None, on_page: str, page_number: str | None) -> str:
    if pattern is not None and (filled := _fill(pattern, _national_digits(number), number[1:])) is not None:
        return filled
    if page_number is not None:
        if not number.startswith(f"+{_country_and_national(page_number)[0]}"):
            return _formatted(number, PhoneNumberFormat.INTERNATIONAL)
        if (grouped := _as_on_page(number, on_page, page_number)) is not None:
            return grouped
        if is_written_for_abroad(on_page):
            return _formatted(number, PhoneNumberFormat.INTERNATIONAL)
    return national_format(number)


_show_remembered = functools.lru_cache(_DISPLAYS_KEPT)(_show)


def national_format(number: str) -> str:
    """libphonenumber's national format of an E.164 number (`030 15981158`)."""
    return _formatted(number, PhoneNumberFormat.NATIONAL)


def pattern_fits(pattern: str, number: str) -> bool:
    """Tell whether a display pattern has a place for each national, or each international, digit of the number."""
    return _fill(pattern, _national_digits(number), number[1:]) is not None


def _formatted(number: str, form: int) -> str:
    """libphonenumber's format of an E.164 number.

    Its rules go by a number's length and first digits, so numbers that differ in the last digits alone are grouped
    alike: a pool of a thousand in a row costs one call of the library.
    """
    first, last = number[:-_LAST_DIGITS], number[-_LAST_DIGITS:]
    alike = _formatted_by_library(first + "0" * _LAST_DIGITS, form)
    if alike.endswith("0" * _LAST_DIGITS):
        return alike[:-_LAST_DIGITS] + last
    return _formatted_by_library(number, form)


@functools.lru_cache(_DISPLAYS_KEPT)
def _formatted_by_library(number: str, form: int) -> str:
    return phonenumbers.format_number(phonenumbers.parse(number), form)


def _national_digits(number: str) -> str:
    return _NO_DIGITS.sub("", national_format(number))


def _as_on_page(number: str, on_page: str, page_number: str) -> str | None:
    """The number in the page's grouping, if that is one for it too. Both are of one country."""
    if len(number) != len(page_number) or _area_length(number) != _area_length(page_number):
        return None
    grouping = _grouping(on_page, page_number)
    if grouping is None:
        return None
    pattern, before, national = grouping
    return _fill(pattern, before + number[-len(national) :])


@functools.lru_cache(_PAGES_KEPT)
def _grouping(on_page: str, page_number: str) -> tuple[str, str, str] | None:
    """A page's text with each digit as `#`, and its digits: those before the number within its country, and that."""
    if not _PAGE_TEXT.fullmatch(on_page) or on_page in (page_number, f"00{page_number[1:]}"):  # as machines write it
        return None
    country, national = _country_and_national(page_number)
    digits = _NO_DIGITS.sub("", on_page)
    before = digits.removesuffix(national)
    if not digits.endswith(national) or before not in _befores(country):
        return None
    return _DIGIT.sub("#", on_page), before, national


@functools.lru_cache(_PAGES_KEPT)
def _befores(country: int) -> frozenset[str]:
    """The digits that may stand before those that make a number within its country."""
    trunk = phonenumbers.ndd_prefix_for_region(phonenumbers.region_code_for_country_code(country), True) or ""
    return frozenset(abroad + own for abroad in ("", f"{country}", f"00{country}") for own in ("", trunk))


def _area_length(number: str) -> int:
    """How many digits libphonenumber puts into the first group of a number, after the country code."""
    return _first_group(number[:-_LAST_DIGITS] + "0" * _LAST_DIGITS)


@functools.lru_cache(_PAGES_KEPT)
def _first_group(number: str) -> int:
    groups = _formatted_by_library(number, PhoneNumberFormat.INTERNATIONAL).partition(" ")[2]
    return len(re.split(r"[ -]", groups, maxsplit=1)[0])


def _fill(pattern: str, *candidates: str) -> str | None:
    """The pattern with each `#` replaced by a digit, of the first candidate that has as many."""
    parts = pattern.split("#")
    for digits in candidates:
        if len(digits) == len(parts) - 1:
            return "".join(map(str.__add__, parts, digits)) + parts[-1]
    return None
