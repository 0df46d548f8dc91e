"""Numbers of every region and kind, as libphonenumber gives them for examples."""

from collections.abc import Iterator
from dataclasses import dataclass

import phonenumbers
from phonenumbers import PhoneNumberType

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
