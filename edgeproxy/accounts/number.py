"""Phone numbers, read as people and machines write them. All that come out are E.164.

What is read as what stands in this room's README, in one table. A text is first reduced to plain characters (entities,
tags, marks, foreign digits, URIs), then its first run of digits is found, and libphonenumber says what that can be.
Whatever the text, it takes a bounded number of calls of the library, and time linear in its length.
"""

import functools
import html
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber, PhoneNumberType, ValidationResult

# Its patterns are more than `re` remembers: without this they would be compiled again for every other country.
phonenumbers.enable_pattern_cache()

TEXT_MOST = 256  # characters; a longer text is no number
_NUMBERS_READ = 32_768  # how many distinct texts a worker remembers,
_SHORT_MOST = 64  # of so many characters,
_LONG_READ = 1024  # and how many longer ones

_DIGITS_LEAST = 4  # the whole of a number in the smallest countries
_DIGITS_MOST = 20  # with an international prefix or a country code that stands there for nothing
_SURELY_LEAST = 7  # digits without country code; what is shorter is a number only where its country has such numbers
_GERMANY = 49
_GERMAN_MOST = 11  # digits that are assigned in its area codes; libphonenumber takes up to 15
_PREFIX_DIGITS = "0189"  # with which the prefixes of national calls begin
_RUNS_MOST = 4  # runs of digits of a text that are looked at
_PARTS_MOST, _ENDS_MOST = 3, 2  # places where a run may be parted, and such after a valid number
_LISTED_MOST = 100  # numbers of a list, of which a form is read
_WORDS_MOST = 3  # of a vanity number
_LETTERS_LEAST = 3  # of a vanity number
_OPEN_LEAST = 10  # lengths of numbers that a country with an open plan has

_FOLDED_MOST = 8192  # characters
_PLANS_MOST = 1024
_PAGES_KEPT = 8192  # texts whose style a worker remembers
_SIMPLE_PREFIXES = re.compile(r"([0-9]?)(?:\|([0-9])[0-9]+)?")  # before national numbers, such as 0, or 0|180020

_is_valid = phonenumbers.is_valid_number
_PLACES_AND_MOBILES = (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)

# A run is digits and what separates them. The quantifiers are possessive: nothing is tried twice.
_RUN = re.compile(r"[0-9](?:[ ()\[\]./~'_\n-]*+[0-9])*+")
_BEFORE_RUN = " ()[]./~'_\n-"  # what may stand between the plus and its digits
_PLAIN = re.compile(r"[0-9+ ()./-]*+")
_NO_DIGITS = re.compile(r"[^0-9]++")
_BLANK = re.compile(r"(^|,)\s++(?=\d)")
_GAP = re.compile(r"([0-9]++)([^0-9]++)(?=([0-9]++))")
_MAY_END = re.compile(r"[/(\[\n]")  # in what separates digits: perhaps the end of the number, perhaps not
_ZERO_IN_BRACKETS = re.compile(r"\(\s?0\s?\)")
_GERMAN_FIXED = re.compile(r"(?!700|800|900)[2-9][0-9]*+")

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
_HOURS = re.compile(
    r"(?<![0-9+])(?:\d{1,2}(?:[:.]\d\d)?+ ?(?:[ap]\.?m\.?)?+ ?(?:-|to|bis|à|a) ?\d{1,2}(?:[:.]\d\d)?+"
    r" ?(?:uhr|hrs?|h|[ap]\.?m)(?![a-z])|\d{1,2}:\d\d(?!\d))",
    re.ASCII | re.IGNORECASE,
)
_EXTENSION = re.compile(r"[ ().-]*+(?:x|e?xt(?:n|ension)?|durchwahl|anexo|int|app|poste|wait)(?![a-z])", re.IGNORECASE)
_WORD = re.compile(r"[ ().-]*+([0-9A-Za-z]+)")
_KEYPAD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")

_TAG = re.compile(r"<(?!(?:tel|telprompt|callto|sips?):)[A-Za-z/!?][^<>]*+>", re.IGNORECASE)
_TEL = re.compile(r"(?<![A-Za-z])(?:tel|telprompt|callto):", re.IGNORECASE)
_SIP = re.compile(r"(?<![A-Za-z])sips?:", re.IGNORECASE)
_URI_END = re.compile(r"[<>\"?]")
_USER = re.compile(r"[ +0-9().-]++(?:[:;]|$)")
_IN_BRACKETS = re.compile(r"<(\+?[0-9][0-9 ().-]{4}[^<>]*+)>")
_WORDS = re.compile(r"[^\s<>\"',]++")
_DIALLED = re.compile(r"\+?[0-9().-]+")
_PARAMETER = re.compile(r"[;?]\s*+[A-Za-z-]++\s*+=")
_CONTEXT = re.compile(r";\s*phone-context\s*=\s*\+([0-9().-]++)", re.IGNORECASE)

# Numbers that a country has changed: as they were written before, without country code, and what they are since. A form
# is looked for only where libphonenumber does not call the number valid, and taken only where it calls the new one so.
_OLD_FORMS: dict[int, tuple[tuple[re.Pattern[str], str], ...]] = {
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
    return _is_valid(_parsed(number[1:], None))


def current_form(number: str) -> str:
    """An E.164 number as it is written since its country changed it; most are what they were."""
    for country_code, forms in _OLD_FORMS.items():
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
    parsed = _parsed(number[1:], None)
    return parsed.country_code or 0, phonenumbers.national_significant_number(parsed)


@functools.lru_cache(_PAGES_KEPT)
def is_written_for_abroad(text: str) -> bool:
    """Tell whether the number of a text is written with + or 00 before its country code."""
    plain = text if _PLAIN.fullmatch(text) else _plain(text)
    place = 0
    for run in _RUN.finditer(plain):
        digits = _digits(run[0])
        if len(digits) >= _SURELY_LEAST:
            return digits.startswith("00") or _has_plus(plain, place, run.start())
        place = run.end()
    return False


def _read_number(text: str, region: str) -> str | None:
    plain = text if _PLAIN.fullmatch(text) else _plain(text)
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
            completed = _whole(_digits(context[1]) + digits, region, True)
            return _e164(completed) if completed is not None else None
        number = _first(run[0], digits, region, international)
        if place == 0 and (word := _WORD.match(plain, run.end())):
            goes_on = word.start(1) == run.end()  # in letters, without a blank
            if number is None or not _is_valid(number) or (goes_on and not _is_open(number.country_code or 0)):
                number = _vanity(plain, run, region, international) or number
        if number is not None:
            return _e164(number)
        if len(digits) >= _SURELY_LEAST:
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


# From a text to plain characters --------------------------------------------------------------------------------------


class _Folded(dict[int, str | None]):
    """What a character becomes, for `str.translate`: filled as characters are seen."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        category = unicodedata.category(char)
        folded: str | None = char
        if char in "\r\n\t\x0b\x0c\x85\u2028\u2029":
            folded = "\n"
        elif category in ("Cf", "Mn", "Me"):  # zero-width and bidi marks; what makes emojis of digits
            folded = None
        elif category == "Zs":
            folded = " "
        elif category == "Nd":
            folded = str(unicodedata.decimal(char))
        elif category == "Pd" or char in "\u2212\u30fc\u223c\u2053\uff5e":
            folded = "-"
        elif code > 127:
            compatible = unicodedata.normalize("NFKC", char)
            if char in "\u2018\u2019\u2032":
                folded = "'"
            elif len(compatible) == 1 and compatible.isascii() and not compatible.isdigit():  # not of footnotes: ²
                folded = compatible
        if len(self) < _FOLDED_MOST:
            self[code] = folded
        return folded


_folded = _Folded()


def _plain(text: str) -> str:
    """The part of a text that may hold a number, in ASCII as far as it matters."""
    for _ in range(2):  # what was escaped is escaped once more by some
        decoded = html.unescape(unquote(text)) if "%" in text or "&" in text else text
        if decoded == text:
            break
        text = decoded
    text = text.translate(_folded)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if ":" in text:
        if uri := _SIP.search(text):
            return _user(text[uri.end() :])
        if uri := _TEL.search(text):
            text = text[uri.end() :]
    if "<" in text and (inner := _IN_BRACKETS.search(text)):
        text = inner[1]
    if "@" in text:
        text = _WORDS.sub(lambda word: _word(word[0]), text)
    return _HOURS.sub(",", text)


def _user(uri: str) -> str:
    """The user part of a SIP URI, with its parameters; host, port and their parameters say nothing of a number."""
    end = _URI_END.search(uri)
    user, at, _ = (uri[: end.start()] if end else uri).partition("@")
    if (not at and not user.startswith("+")) or not (user.isascii() and _USER.match(user)):
        return ""  # a host alone, or no number
    number, parameter, more = user.partition(";")
    return number.partition(":")[0] + parameter + more  # without a password


def _word(word: str) -> str:
    """A word of a text; of one with an `@`, the part before it if that is a number."""
    user, at, _ = word.partition("@")
    return word if not at else user if _DIALLED.fullmatch(user.partition(";")[0]) else ","


# From digits to a number ----------------------------------------------------------------------------------------------


def _first(run: str, digits: str, region: str, international: bool) -> PhoneNumber | None:
    """The first number of a run of digits: as a rule all of it."""
    if len(digits) < _DIGITS_LEAST:
        return None
    if len(run) > len(digits) + 1 and _MAY_END.search(run):
        ends = [first for gap, first, rest in _parted(run) if _may_end(gap)]
        for first in ends[:_ENDS_MOST]:
            number = _valid(first, region, international)
            if number and len(phonenumbers.national_significant_number(number)) >= _SURELY_LEAST:
                return number
    number = _whole(digits, region, international)
    abroad = digits.startswith("00")
    if "(" in run and (international or abroad) and not (number and _is_valid(number)):
        without_zero = _digits(_ZERO_IN_BRACKETS.sub("", run, count=1))
        number = _valid(without_zero, region, international) or number
    if number is None and len(run) > len(digits):
        number = _first_of_two(run, region, international)
    if international or (digits.startswith("0") and not abroad):
        return number
    return _with_lost_plus(digits, region, number)


def _first_of_two(run: str, region: str, international: bool) -> PhoneNumber | None:
    """The first of two numbers in a run: what is left may be one too, or begins with one of the same length."""
    tried = ends = 0
    least = _SURELY_LEAST if international else _fewest_digits(region)
    for gap, first, rest in _parted(run):
        may_end = _MAY_END.search(gap[2])
        if len(first) < least or not (may_end or rest[0] in ("0", run[0])):
            continue
        if number := _valid(first, region, international):
            if may_end or _valid(rest, region, False) or _valid(rest[: len(first)], region, False):
                return number
            ends += 1
        tried += 1
        if tried == _PARTS_MOST or ends == _ENDS_MOST:
            break
    return None


@functools.lru_cache(_PLANS_MOST)
def _fewest_digits(region: str) -> int:
    metadata = PhoneMetadata.metadata_for_region(region, None)
    lengths = metadata.general_desc.possible_length if metadata and metadata.general_desc else ()
    return min(lengths, default=_DIGITS_LEAST)


def _with_lost_plus(digits: str, region: str, number: PhoneNumber | None) -> PhoneNumber | None:
    """The `number`, if it is valid; else the one with a country code whose plus was lost, or is 00."""
    other = _dialled(digits.lstrip("0"), None)
    if other is None or (number is not None and _is_valid(number)):
        return number
    of_here = digits[0] == "0" or other.country_code == phonenumbers.country_code_for_region(region)
    return other if _is_valid(other) or (number is None and of_here) else number


def _parted(run: str) -> Iterator[tuple[re.Match[str], str, str]]:
    """Where a run may be parted: a match of `_GAP`, and all digits on both sides."""
    digits, before = _digits(run), 0
    for gap in _GAP.finditer(run):
        before += len(gap[1])
        if before > _DIGITS_MOST:
            return
        if before >= _DIGITS_LEAST:
            yield gap, digits[:before], digits[before:]


def _may_end(gap: re.Match[str]) -> bool:
    """Tell whether what separates digits may be the end of a number.

    A slash without blanks is, where fewer digits follow than stand before it (901820/21, and not 15.98.11/00), or a
    whole number may.
    """
    separators = gap[2]
    if separators != "/":
        return _MAY_END.search(separators) is not None
    return len(gap[3]) < len(gap[1]) or len(gap[3]) >= _DIGITS_LEAST


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
        number = _valid(digits, region, international)
        if number is None:
            continue
        # In an open plan nearly all digits are valid. But a call to a place or a mobile begins with a 0 there, which
        # `365 days` does not.
        if international or digits.startswith("0") or not _is_open(number.country_code or 0):
            return number
        if phonenumbers.number_type(number) not in _PLACES_AND_MOBILES:
            return number
    return None


@functools.lru_cache(_PLANS_MOST)
def _is_open(country_code: int) -> bool:
    """Tell whether numbers of a country have nearly any length."""
    region = phonenumbers.region_code_for_country_code(country_code)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(country_code, region)
    return len(metadata.general_desc.possible_length) >= _OPEN_LEAST if metadata and metadata.general_desc else False


def _valid(digits: str, region: str, international: bool) -> PhoneNumber | None:
    number = _whole(digits, region, international)
    return number if number is not None and _is_valid(number) else None


def _whole(digits: str, region: str, international: bool) -> PhoneNumber | None:
    """The number that all these digits are, if they are one."""
    if international and (digits.startswith("00") or not digits.startswith("0")):
        return _dialled(digits.lstrip("0"), None)
    return _dialled(digits, region)


def _dialled(digits: str, region: str | None) -> PhoneNumber | None:
    """What digits stand for that are dialled in a region, or that begin with a country code (None)."""
    if not _DIGITS_LEAST <= len(digits) <= _DIGITS_MOST:
        return None
    try:
        number = _parsed(digits, region)
    except phonenumbers.NumberParseException:
        return None
    country_code, national = number.country_code or 0, phonenumbers.national_significant_number(number)
    for old, current in _OLD_FORMS.get(country_code, ()):
        if (form := old.fullmatch(national)) and not _is_valid(number):
            renewed = _parsed(f"{country_code}{form.expand(current)}", None)
            if _is_valid(renewed):
                return renewed
    possible = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    unsure = not possible or len(national) < _SURELY_LEAST or (national[0] == "0" and _is_zero_dialled(country_code))
    if unsure and not _is_valid(number):
        return None
    if country_code == _GERMANY and len(national) > _GERMAN_MOST and _GERMAN_FIXED.fullmatch(national):
        return None
    e164 = f"{country_code}{national}"
    if national[0] in _PREFIX_DIGITS and not digits.endswith(e164) and _parsed(e164, None) != number:
        return None  # what was left of it could be taken for a prefix once more
    return number


def _parsed(digits: str, region: str | None) -> PhoneNumber:
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
        if digits[0] == "0" != digits[1] and "0" in plan.trunks and plan.abroad.startswith("00"):
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


def _is_zero_dialled(country_code: int) -> bool:
    """Tell whether a zero before a number may be the prefix of national calls, and no part of it."""
    plan = _country_plan(country_code)
    return plan is None or "0" in plan.trunks


class _Plan(NamedTuple):
    """How calls are dialled where that is simple: what stands before national numbers begins with one of `trunks`."""

    country_code: int
    trunks: str
    abroad: str


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
    return _Plan(metadata.country_code, trunks, metadata.international_prefix or "") if simple else None
