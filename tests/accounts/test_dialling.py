"""Digits that are dialled: parsed as libphonenumber does, in a fraction of its time."""

from collections.abc import Callable

import phonenumbers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeproxy.accounts import dialling
from tests.accounts.examples import EXAMPLES, REGIONS, Example


def nearly(number: Example, at: int, digit: str, trunk: bool) -> str:
    prefix = phonenumbers.ndd_prefix_for_region(number.region, True) or ""
    digits = (prefix if trunk else "") + number.nsn
    return digits[: at % len(digits)] + digit + digits[at % len(digits) + 1 :]


@settings(max_examples=400, deadline=None)
@example("06000000", "RW")  # the zero is the number's own, and stands before others
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
    assert parsed(lambda: dialling.parsed(digits, region)) == theirs
