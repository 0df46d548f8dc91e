"""Phone numbers, read as people and machines write them. All that come out are E.164.

What is read as what stands in this room's README, in one table. A text is first reduced to plain characters
(`plain_text`), then its first run of digits is found, and libphonenumber says what that can be (`dialling`).
Whatever the text, it takes a bounded number of calls of the library, and time linear in its length.
"""

import functools
import re
from collections.abc import Iterator

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType

from edgeproxy.accounts.dialling import (
    DIGITS_LEAST,
    DIGITS_MOST,
    OLD_FORMS,
    SURELY_LEAST,
    fewest_digits,
    is_open,
    parsed,
    valid,
    whole,
    with_lost_plus,
)  # fmt: skip
from edgeproxy.accounts.plain_text import to_plain

TEXT_MOST = 256  # characters; a longer text is no number
_NUMBERS_READ = 32_768  # how many distinct texts a worker remembers,
_SHORT_MOST = 64  # of so many characters,
_LONG_READ = 1024  # and how many longer ones

_RUNS_MOST = 4  # runs of digits of a text that are looked at
_PARTS_MOST, _ENDS_MOST = 3, 2  # places where a run may be parted, and such after a valid number
_LISTED_MOST = 100  # numbers of a list, of which a form is read
_WORDS_MOST = 3  # of a vanity number
_LETTERS_LEAST = 3  # of a vanity number
_PAGES_KEPT = 8192  # texts whose style a worker remembers

_is_valid = phonenumbers.is_valid_number
_PLACES_AND_MOBILES = (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)

# A run is digits and what separates them. The quantifiers are possessive: nothing is tried twice.
_RUN = re.compile(r"[0-9](?:[ ()\[\]./~'_\n-]*+[0-9])*+")
_BEFORE_RUN = " ()[]./~'_\n-"  # what may stand between the plus and its digits
_NO_DIGITS = re.compile(r"[^0-9]++")
_BLANK = re.compile(r"(^|,)\s++(?=\d)")
_GAP = re.compile(r"([0-9]++)([^0-9]++)(?=([0-9]++))")
_MAY_END = re.compile(r"[/(\[\n]")  # in what separates digits: perhaps the end of the number, perhaps not
_ZERO_IN_BRACKETS = re.compile(r"\(\s?0\s?\)")

# What begins like a number and is none: dates, addresses of hosts, times.
_NO_NUMBER = re.compile(
    r"""(?: (?:19|20)\d\d ([-./])\x20? (?:1[0-2]|0?[1-9]) \1\x20? (?:3[01]|[12]\d|0?[1-9])
          | (?:3[01]|[12]\d|0?[1-9]) ([-./])\x20? (?:3[01]|[12]\d|0?[1-9]) \2\x20? (?:19|20)\d\d
        ) (?![-./]?\d)
        | (?!\d\d\.\d\d\.\d\d\.\d\d(?!\d))
          (?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d) (?:\.(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3} (?!\.?\d) (?::\d++)?+
        | \d{1,2}:\d\d (?!\d)""",
    re.VERBOSE | re.ASCII,
)
_EXTENSION = re.compile(r"[ ().-]*+(?:x|e?xt(?:n|ension)?|durchwahl|anexo|int|app|poste|wait)(?![a-z])", re.IGNORECASE)
_WORD = re.compile(r"[ ().-]*+([0-9A-Za-z]+)")
_KEYPAD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")

_PARAMETER = re.compile(r"[;?]\s*+[A-Za-z-]++\s*+=")
_CONTEXT = re.compile(r";\s*phone-context\s*=\s*\+([0-9().-]++)", re.IGNORECASE)


def read_number(text: str, region: str) -> str | None:
    """The first phone number of a text as E.164, or None where there is none.

    `region` (ISO 3166) is where a national number is read; "" stands for none. What comes out is as long as a number of
    its country can be, and reads as itself. A text of more than 256 characters is no number.
    """
    if len(text) <= _SHORT_MOST:
        return _read_short(text, region)
    return _read_long(text, region) if len(text) <= TEXT_MOST else None


@functools.lru_cache(_NUMBERS_READ)
def is_valid(number: str) -> bool:
    """Tell whether libphonenumber knows a range that an E.164 number is of: more than that it may be one."""
    return _is_valid(parsed(number[1:], None))


def current_form(number: str) -> str:
    """An E.164 number as it is written since its country changed it; most are what they were."""
    for country_code, forms in OLD_FORMS.items():
        if number.startswith(f"+{country_code}"):
            national = number[len(str(country_code)) + 1 :]
            if any(old.fullmatch(national) for old, _ in forms):
                return read_number(number, "") or number
    return number


def form_value(text: str) -> str:
    """A number, or some in a list, as a form or a query meant it: a blank before its first digit was a `+`.

    Who puts `destnr=+4612345678` into a form as it is sends a blank: the `+` has to be escaped there, and often is not.
    """
    return _BLANK.sub(r"\1+", text, count=_LISTED_MOST)


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


def country_and_national(number: str) -> tuple[int, str]:
    """The country code of an E.164 number, and its digits after that. No country code begins with another."""
    found = parsed(number[1:], None)
    return found.country_code or 0, phonenumbers.national_significant_number(found)


@functools.lru_cache(_PAGES_KEPT)
def is_written_for_abroad(text: str) -> bool:
    """Tell whether the number of a text is written with + or 00 before its country code."""
    plain = to_plain(text)
    place = 0
    for run in _RUN.finditer(plain):
        digits = _digits(run[0])
        if len(digits) >= SURELY_LEAST:
            return digits.startswith("00") or _has_plus(plain, place, run.start())
        place = run.end()
    return False


def _read_number(text: str, region: str) -> str | None:
    plain = to_plain(text)
    context = _CONTEXT.search(plain) if ";" in plain else None
    if (";" in plain or "?" in plain) and (parameter := _PARAMETER.search(plain)):
        plain = plain[: parameter.start()]
    place = 0
    for _ in range(_RUNS_MOST):
        run = _RUN.search(plain, place)
        if run is None:
            return None
        international = _has_plus(plain, place, run.start())
        if not international and (no_number := _NO_NUMBER.match(plain, run.start())):
            place = no_number.end()
            continue
        digits = _digits(run[0])
        if context is not None and not international:
            completed = whole(_digits(context[1]) + digits, region, True)
            return _e164(completed) if completed is not None else None
        number = _first(run[0], digits, region, international)
        if place == 0 and (word := _WORD.match(plain, run.end())):
            goes_on = word.start(1) == run.end()  # in letters, without a blank
            if number is None or not _is_valid(number) or (goes_on and not is_open(number.country_code or 0)):
                number = _vanity(plain, run, region, international) or number
        if number is not None:
            return _e164(number)
        if len(digits) >= SURELY_LEAST:
            return None
        place = run.end()
    return None


_read_short = functools.lru_cache(_NUMBERS_READ)(_read_number)
_read_long = functools.lru_cache(_LONG_READ)(_read_number)


def _has_plus(text: str, place: int, start: int) -> bool:
    """Tell whether a plus stands before a run of digits that starts there, at or after `place`."""
    return text[place:start].rstrip(_BEFORE_RUN).endswith("+")


def _e164(number: PhoneNumber) -> str:
    return f"+{number.country_code}{phonenumbers.national_significant_number(number)}"


def _digits(text: str) -> str:
    return text if text.isdigit() else _NO_DIGITS.sub("", text)


def _first(run: str, digits: str, region: str, international: bool) -> PhoneNumber | None:
    """The first number of a run of digits: as a rule all of it."""
    if len(digits) < DIGITS_LEAST:
        return None
    if len(run) > len(digits) + 1 and _MAY_END.search(run):
        ends = [first for gap, first, rest in _parted(run) if _may_end(gap)]
        for first in ends[:_ENDS_MOST]:
            number = valid(first, region, international)
            if number and len(phonenumbers.national_significant_number(number)) >= SURELY_LEAST:
                return number
    number = whole(digits, region, international)
    abroad = digits.startswith("00")
    if "(" in run and (international or abroad) and not (number and _is_valid(number)):
        without_zero = _digits(_ZERO_IN_BRACKETS.sub("", run, count=1))
        number = valid(without_zero, region, international) or number
    if number is None and len(run) > len(digits):
        number = _first_of_two(run, region, international)
    if international or (digits.startswith("0") and not abroad):
        return number
    return with_lost_plus(digits, region, number)


def _first_of_two(run: str, region: str, international: bool) -> PhoneNumber | None:
    """The first of two numbers in a run: what is left may be one too, or begins with one of the same length."""
    tried = ends = 0
    least = SURELY_LEAST if international else fewest_digits(region)
    for gap, first, rest in _parted(run):
        may_end = _MAY_END.search(gap[2])
        if len(first) < least or not (may_end or rest[0] in ("0", run[0])):
            continue
        if number := valid(first, region, international):
            if may_end or valid(rest, region, False) or valid(rest[: len(first)], region, False):
                return number
            ends += 1
        tried += 1
        if tried == _PARTS_MOST or ends == _ENDS_MOST:
            break
    return None


def _parted(run: str) -> Iterator[tuple[re.Match[str], str, str]]:
    """Where a run may be parted: a match of `_GAP`, and all digits on both sides."""
    digits, before = _digits(run), 0
    for gap in _GAP.finditer(run):
        before += len(gap[1])
        if before > DIGITS_MOST:
            return
        if before >= DIGITS_LEAST:
            yield gap, digits[:before], digits[before:]


def _may_end(gap: re.Match[str]) -> bool:
    """Tell whether what separates digits may be the end of a number.

    A slash without blanks is, where fewer digits follow than stand before it (901820/21, and not 15.98.11/00), or a
    whole number may.
    """
    separators = gap[2]
    if separators != "/":
        return _MAY_END.search(separators) is not None
    return len(gap[3]) < len(gap[1]) or len(gap[3]) >= DIGITS_LEAST


def _vanity(text: str, run: re.Match[str], region: str, international: bool) -> PhoneNumber | None:
    """A number whose last digits are written as words, by the letters of a keypad."""
    place, digits, letters = run.end(), _digits(run[0]), 0
    if _EXTENSION.match(text, place):
        return None
    for _ in range(_WORDS_MOST):
        word = _WORD.match(text, place)
        if word is None:
            return None
        place = word.end()
        letters += sum(char.isalpha() for char in word[1])
        digits += word[1].upper().translate(_KEYPAD)
        if letters < _LETTERS_LEAST:
            continue
        number = valid(digits, region, international)
        if number is None:
            continue
        # In an open plan nearly all digits are valid. But a call to a place or a mobile begins with a 0 there, which
        # `365 days` does not.
        if international or digits.startswith("0") or not is_open(number.country_code or 0):
            return number
        if phonenumbers.number_type(number) not in _PLACES_AND_MOBILES:
            return number
    return None
