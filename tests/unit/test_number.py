import phonenumbers
import pytest

from edgeproxy.accounts.number import is_valid, national_format, prepare, read_number, show_number


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("+493015981100", "DE", "+493015981100"),
        ("  +49 30 15 98 11 00  ", "DE", "+493015981100"),
        ("%2B493015981100", "DE", "+493015981100"),
        ("030%2015981100", "DE", "+493015981100"),
        ("tel:+493015981100", "DE", "+493015981100"),
        ("TEL:+493015981100", "DE", "+493015981100"),
        ("telprompt:+493015981100", "DE", "+493015981100"),
        ("tel://+493015981100", "DE", "+493015981100"),
        ("+49 (0) 30 15981100", "DE", "+493015981100"),
        ("+49(0)30/15 98 11-00", "DE", "+493015981100"),
        ("030 15 98 11 00", "DE", "+493015981100"),
        ("(030) 15.98.11.00", "DE", "+493015981100"),
        ("0049 30 15981100", "DE", "+493015981100"),
        ("<b>030</b> <span>15981100</span>", "DE", "+493015981100"),
        ("030\r\n15981100", "DE", "+493015981100"),
        ("020 7946 0000", "GB", "+442079460000"),
        ("+442079460000", "DE", "+442079460000"),
        ("12345", "DE", "+4912345"),
        ("1234", "DE", None),
        ("+1234", "DE", None),
        ("1" * 21, "DE", None),
        ("", "DE", None),
        ("call us", "DE", None),
        ("+493015981100" + " " * 256, "DE", None),
        ("+", "DE", None),
        ("+999999999999", "DE", None),
        ("\u0661\u0662\u0663\u0664\u0665\u0666", "DE", None),
    ],
)
def test_reading_a_number(text: str, region: str, number: str | None) -> None:
    assert read_number(text, region) == number


@pytest.mark.parametrize(
    ("number", "own", "pattern", "on_page", "shown"),
    [
        ("+493015981158", None, "### ## ## ## ##", "+493015981100", "030 15 98 11 58"),  # [S0]
        ("+493015981158", "030 / 15 98 11 58", "### ## ## ## ##", "030 15981100", "030 / 15 98 11 58"),
        ("+493015981158", None, "+## ## ########", "030 15981100", "+49 30 15981158"),
        ("+493015981158", None, "## ##", "030-159811 00", "030-159811 58"),
        ("+493015981158", None, None, "030-159811 00", "030-159811 58"),
        ("+493015981158", None, None, "(030) 15.98.11/00", "(030) 15.98.11/58"),
        ("+493015981158", None, None, "+49 30 15981100", "030 15981158"),
        ("+493015981158", None, None, "0049 30 159811", "030 15981158"),
        ("+493015981158", None, None, "030 1598110", "030 15981158"),
        ("+493015981158", None, None, "<b>030</b> 15981100", "030 15981158"),
        ("+442079460001", None, None, "", "020 7946 0001"),
        ("+442079460001", None, None, "0 2 0 7946-0000", "0 2 0 7946-0001"),
    ],
)
def test_showing_a_number(number: str, own: str | None, pattern: str | None, on_page: str, shown: str) -> None:
    assert show_number(number, own, pattern, on_page) == shown


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
                assert show_number(number, None, None, "x")
