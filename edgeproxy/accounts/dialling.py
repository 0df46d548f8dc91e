"""What digits stand for that are dialled: in a region, or after a country code.

libphonenumber decides, but for what it does not know: numbers that a country has changed, and prefixes that could be
taken for one once more.
"""

import functools
import re
from typing import NamedTuple

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber, ValidationResult

_is_valid = phonenumbers.is_valid_number

# Its patterns are more than `re` remembers: without this they would be compiled again for every other country.
phonenumbers.enable_pattern_cache()

DIGITS_LEAST = 4  # the whole of a number in the smallest countries
DIGITS_MOST = 20  # with an international prefix or a country code that stands there for nothing
SURELY_LEAST = 7  # digits without country code; what is shorter is a number only where its country has such numbers
_GERMANY = 49
_GERMAN_MOST = 11  # digits that are assigned in its area codes; libphonenumber takes up to 15
_PREFIX_DIGITS = "0189"  # with which the prefixes of national calls begin
_OPEN_LEAST = 10  # lengths of numbers that a country with an open plan has
_PLANS_MOST = 1024
_SIMPLE_PREFIXES = re.compile(r"([0-9]?)(?:\|([0-9])[0-9]+)?")  # before national numbers, such as 0, or 0|180020
_GERMAN_FIXED = re.compile(r"(?!700|800|900)[2-9][0-9]*+")

# Numbers that a country has changed: as they were written before, without country code, and what they are since. A form
# is looked for only where libphonenumber does not call the number valid, and taken only where it calls the new one so.
OLD_FORMS: dict[int, tuple[tuple[re.Pattern[str], str], ...]] = {
    country_code: tuple((re.compile(old), current) for old, current in forms)
    for country_code, forms in {
        39: ((r"([1-9]\d{4,9})", r"0\1"),),  # Italy: the zero is dialled from abroad too since 1998
        44: ((r"171(\d{7})", r"207\1"), (r"181(\d{7})", r"208\1")),  # London, 2000
        52: ((r"(?:1|01|044|045)(\d{10})", r"\1"),),  # Mexico: no digits before ten since 2019
        55: ((r"([1-9]{2})([6-9]\d{7})", r"\g<1>9\2"),),  # Brazil: mobile numbers got a 9, 2012 to 2016
        57: ((r"([124-8]\d{7})", r"60\1"),),  # Colombia, 2021
        84: (  # Vietnam: mobile numbers, 2018
            (r"16([2-9]\d{7})", r"3\1"),
            (r"120(\d{7})", r"70\1"), (r"121(\d{7})", r"79\1"), (r"122(\d{7})", r"77\1"),
            (r"12([68]\d{7})", r"7\1"), (r"12([345]\d{7})", r"8\1"),
            (r"127(\d{7})", r"81\1"), (r"129(\d{7})", r"82\1"),
            (r"18([68]\d{7})", r"5\1"), (r"199(\d{7})", r"59\1"),
        ),
        225: (  # Ivory Coast: mobile numbers, 2021
            (r"([04-9][1-3]\d{6})", r"01\1"), (r"([04-9][4-6]\d{6})", r"05\1"), (r"([04-9][7-9]\d{6})", r"07\1"),
        ),
        229: ((r"(\d{8})", r"01\1"),),  # Benin, 2024
        237: ((r"([23]\d{7})", r"2\1"), (r"([5-9]\d{7})", r"6\1")),  # Cameroon, 2014
    }.items()
}  # fmt: skip


def valid(digits: str, region: str, international: bool) -> PhoneNumber | None:
    """Like `whole`, of a range that is known."""
    number = whole(digits, region, international)
    return number if number is not None and _is_valid(number) else None


def whole(digits: str, region: str, international: bool) -> PhoneNumber | None:
    """The number that all these digits are, if they are one; `international` where a plus stands before them."""
    if international and (digits.startswith("00") or not digits.startswith("0")):
        return dialled(digits.lstrip("0"), None)
    return dialled(digits, region)


def dialled(digits: str, region: str | None) -> PhoneNumber | None:
    """What digits stand for that are dialled in a region, or that begin with a country code (None)."""
    if not DIGITS_LEAST <= len(digits) <= DIGITS_MOST:
        return None
    try:
        number = parsed(digits, region)
    except phonenumbers.NumberParseException:
        return None
    country_code, national = number.country_code or 0, phonenumbers.national_significant_number(number)
    for old, current in OLD_FORMS.get(country_code, ()):
        if (form := old.fullmatch(national)) and not _is_valid(number):
            renewed = parsed(f"{country_code}{form.expand(current)}", None)
            if _is_valid(renewed):
                return renewed
    possible = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    unsure = not possible or len(national) < SURELY_LEAST or (national[0] == "0" and _is_zero_dialled(country_code))
    if unsure and not _is_valid(number):
        return None
    if country_code == _GERMANY and len(national) > _GERMAN_MOST and _GERMAN_FIXED.fullmatch(national):
        return None
    e164 = f"{country_code}{national}"
    if national[0] in _PREFIX_DIGITS and not digits.endswith(e164) and parsed(e164, None) != number:
        return None  # what was left of it could be taken for a prefix once more
    return number


def parsed(digits: str, region: str | None) -> PhoneNumber:
    """`phonenumbers.parse` of digits that are dialled in a region, or that begin with a country code (None).

    The library takes its time for what cannot be in digits. Where it would only cut off the country code, or the zero
    before a number of the region, that is done here.

    Raises:
        NumberParseException: nothing can be made of them.
    """
    if region is None:
        for length in (1, 2, 3):
            country_code = int(digits[:length]) if digits[0] != "0" else 0
            if country_code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
                plan = _country_plan(country_code)
                if plan is not None and digits[length] not in plan.trunks:
                    return _made(country_code, digits[length:])
                break
        return phonenumbers.parse("+" + digits)
    if plan := _region_plan(region):
        if digits[0] != "0" and digits[0] not in plan.trunks and not digits.startswith(str(plan.country_code)):
            return _made(plan.country_code, digits)
        zero_before = digits[0] == "0" != digits[1] and "0" in plan.trunks and plan.abroad.startswith("00")
        if zero_before and not plan.numbers.fullmatch(digits):  # else the zero may be the number's own, as in Rwanda
            return _made(plan.country_code, digits[1:])
    return phonenumbers.parse(digits, region)


def _made(country_code: int, national: str) -> PhoneNumber:
    zeros = min(len(national) - len(national.lstrip("0")), len(national) - 1)
    return PhoneNumber(
        country_code=country_code,
        national_number=int(national),
        italian_leading_zero=True if zeros else None,
        number_of_leading_zeros=zeros if zeros > 1 else None,
    )


def with_lost_plus(digits: str, region: str, number: PhoneNumber | None) -> PhoneNumber | None:
    """The `number`, if it is valid; else the one with a country code whose plus was lost, or is 00."""
    other = dialled(digits.lstrip("0"), None)
    if other is None or (number is not None and _is_valid(number)):
        return number
    of_here = digits[0] == "0" or other.country_code == phonenumbers.country_code_for_region(region)
    return other if _is_valid(other) or (number is None and of_here) else number


@functools.lru_cache(_PLANS_MOST)
def fewest_digits(region: str) -> int:
    """The digits of the shortest numbers of a region."""
    metadata = PhoneMetadata.metadata_for_region(region, None)
    lengths = metadata.general_desc.possible_length if metadata and metadata.general_desc else ()
    return min(lengths, default=DIGITS_LEAST)


@functools.lru_cache(_PLANS_MOST)
def is_open(country_code: int) -> bool:
    """Tell whether numbers of a country have nearly any length."""
    region = phonenumbers.region_code_for_country_code(country_code)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(country_code, region)
    return len(metadata.general_desc.possible_length) >= _OPEN_LEAST if metadata and metadata.general_desc else False


def _is_zero_dialled(country_code: int) -> bool:
    """Tell whether a zero before a number may be the prefix of national calls, and no part of it."""
    plan = _country_plan(country_code)
    return plan is None or "0" in plan.trunks


class _Plan(NamedTuple):
    """How calls are dialled where that is simple: what stands before national numbers begins with one of `trunks`."""

    country_code: int
    trunks: str
    abroad: str
    numbers: re.Pattern[str]  # those of the country, as far as its metadata go


@functools.lru_cache(_PLANS_MOST)
def _region_plan(region: str) -> _Plan | None:
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region, None)
    plan = _plan(metadata)
    return plan if plan is not None and plan.abroad.isdigit() and plan.abroad.startswith("0") else None


@functools.lru_cache(_PLANS_MOST)
def _country_plan(country_code: int) -> _Plan | None:
    region = phonenumbers.region_code_for_country_code(country_code)
    return _plan(phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(country_code, region))


def _plan(metadata: PhoneMetadata | None) -> _Plan | None:
    if metadata is None or metadata.country_code is None:
        return None
    simple = _SIMPLE_PREFIXES.fullmatch(metadata.national_prefix_for_parsing or "")
    trunks = simple[1] + (simple[2] or "") if simple else ""
    if not simple or metadata.general_desc is None:
        return None
    numbers = re.compile(metadata.general_desc.national_number_pattern or "")
    return _Plan(metadata.country_code, trunks, metadata.international_prefix or "", numbers)
