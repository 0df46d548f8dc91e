"""How a tracking number is shown."""

import phonenumbers
import pytest

from edgeproxy.accounts.display import national_format, pattern_fits, show_number
from edgeproxy.accounts.number import is_valid, prepare, read_number

SHOWN = "+493015981158"


@pytest.mark.parametrize(
    ("own", "pattern", "on_page", "shown"),
    [
        (None, "### ## ## ## ##", "+493015981100", "030 15 98 11 58"),  # the documented example
        ("030 / 15 98 11 58", "### ## ## ## ##", "030 15981100", "030 / 15 98 11 58"),
        (None, "+## ## ########", "030 15981100", "+49 30 15981158"),
        (None, "## ##", "030-159811 00", "030-159811 58"),
    ],
)
def test_its_own_text_comes_before_the_pools_pattern(
    own: str | None, pattern: str | None, on_page: str, shown: str
) -> None:
    assert show_number(SHOWN, own, pattern, on_page, read_number(on_page, "DE")) == shown


@pytest.mark.parametrize(
    ("number", "on_page", "region", "shown"),
    [
        # The page's grouping, where the lengths are the page's.
        (SHOWN, "030-159811 00", "DE", "030-159811 58"),
        (SHOWN, "(030) 15.98.11/00", "DE", "(030) 15.98.11/58"),
        (SHOWN, "+49 30 15 98 11 00", "DE", "+49 30 15 98 11 58"),
        (SHOWN, "+49 (0)30 1598 1100", "DE", "+49 (0)30 1598 1158"),
        (SHOWN, "0049 30 159811-00", "DE", "0049 30 159811-58"),
        ("+442079460001", "0 2 0 7946-0000", "GB", "0 2 0 7946-0001"),
        ("+12125550123", "1 (212) 555.0100", "US", "1 (212) 555.0123"),
        ("+12125550123", "212.555.0100", "US", "212.555.0123"),
        ("+390612345678", "06 1234 5679", "IT", "06 1234 5678"),
        # Area code or subscriber part have other lengths.
        (SHOWN, "030 1598110", "DE", "030 15981158"),
        (SHOWN, "07621 159811", "DE", "030 15981158"),
        (SHOWN, "0800 9818110", "DE", "030 15981158"),
        (SHOWN, "+49 30 159811", "DE", "+49 30 15981158"),
        (SHOWN, "0049 30 159811", "DE", "+49 30 15981158"),
        (SHOWN, "+49 7621 159811", "DE", "+49 30 15981158"),
        # As machines write it.
        (SHOWN, "+493015981100", "DE", "+49 30 15981158"),
        (SHOWN, "00493015981100", "DE", "+49 30 15981158"),
        (SHOWN, "03015981100", "DE", "03015981158"),
        # Not plain digits and separators: no grouping to follow.
        (SHOWN, "<b>030</b> 15981100", "DE", "030 15981158"),
        (SHOWN, "Tel.: +49 30 15981100", "DE", "+49 30 15981158"),
        (SHOWN, "＋49 30 15981100", "DE", "+49 30 15981158"),
        (SHOWN, "tel:+493015981100", "DE", "+49 30 15981158"),
        (SHOWN, "&#43;49 30 15981100", "DE", "+49 30 15981158"),
        ("+525512345679", "+52 1 55 1234 5678", "MX", "+52 55 1234 5679"),  # not in the old form
        # A number of another country.
        (SHOWN, "020 7946 0000", "GB", "+49 30 15981158"),
        (SHOWN, "+44 20 7946 0000", "GB", "+49 30 15981158"),
    ],
)
def test_it_follows_the_page(number: str, on_page: str, region: str, shown: str) -> None:
    page_number = read_number(on_page, region)
    assert page_number is not None
    assert show_number(number, None, None, on_page, page_number) == shown


def test_without_a_page_it_is_shown_nationally() -> None:
    assert show_number(SHOWN, None, None, "", None) == "030 15981158"


def test_a_pattern_fits_national_or_international_digits() -> None:
    assert pattern_fits("### ########", SHOWN)
    assert pattern_fits("+## ## ########", SHOWN)
    assert not pattern_fits("## ##", SHOWN)


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_what_is_shown_leads_to_the_number(region: str) -> None:
    for kind in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE):
        page = phonenumbers.example_number_for_type(region, kind)
        if page is None:
            continue
        page_number = phonenumbers.format_number(page, phonenumbers.PhoneNumberFormat.E164)
        number = page_number[:-2] + f"{(int(page_number[-2:]) + 1) % 100:02}"
        for form in range(3):
            on_page = phonenumbers.format_number(page, form)
            shown = show_number(number, None, None, on_page, page_number)
            assert read_number(shown, region) == number, (on_page, shown)
            assert shown.startswith("+") == on_page.startswith("+")


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_the_national_format_is_libphonenumbers(region: str) -> None:
    for kind in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE):
        example = phonenumbers.example_number_for_type(region, kind)
        if example is None:
            continue
        number = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        for last in range(0, 1000, 37):
            one = f"{number[:-3]}{last:03}"
            expected = phonenumbers.format_number(phonenumbers.parse(one), phonenumbers.PhoneNumberFormat.NATIONAL)
            assert national_format(one) == expected


def test_once_prepared_no_number_of_any_country_waits_for_what_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    monkeypatch.setattr("phonenumbers.re_util.re.compile", None)
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE):
            if (example := phonenumbers.example_number_for_type(region, kind)) is not None:
                number = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
                assert read_number(number, "ZZ") == number
                assert is_valid(number)
                assert show_number(number, None, None, "x", number)
