"""The values in account files: numbers and ranges, times, networks, regions and time zones, as people write them."""

import ipaddress
import re
import zoneinfo
from typing import Annotated, Any

import phonenumbers
from pydantic import AfterValidator, BeforeValidator, SecretStr, StringConstraints, ValidationInfo

from edgeproxy import wording
from edgeproxy.accounts.account import ACCOUNT_NAME
from edgeproxy.accounts.number import read_number

_DURATION = re.compile(r"([0-9]{1,15})\s*(ms|s|m|h|d)?", re.ASCII)
_UNIT_MS = {"ms": 1, "s": 1000, None: 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION_MOST_D = 3660
_RANGE_MOST = 100_000
_AGENT_PART_LEAST, _AGENT_PART_MOST = 3, 128  # characters: less stands in most user agents
_NUMBERS_MOST = 1_000_000  # of a file, its ranges spelled out
_TOKEN_LENGTHS = 8, 256
SHOWN_MOST = 64  # characters of a text that an error shows
_NUMBERS_LEFT = "numbers left"  # in the context of a validation
_REGION = "region"  # of the account that is validated


def context() -> dict[str, Any]:
    """What pydantic is to carry along as it validates a file: how many numbers that may hold yet, and the region."""
    return {_NUMBERS_LEFT: _NUMBERS_MOST}


def shown(text: object) -> str:
    """A text of the file as an error shows it: quoted, and cut off where it is long."""
    text = str(text)
    return repr(text if len(text) <= SHOWN_MOST else text[:SHOWN_MOST] + "…")


def _e164(text: str, info: ValidationInfo) -> str:
    if ".." in text:  # read as a number, it would be its first one alone
        raise ValueError(f"{shown(text)} is a range, and this is one number")
    number = read_number(text, info.context.get(_REGION, "") if info.context else "")
    if number is None:
        raise ValueError(f"{shown(text)} is not a phone number, such as +493015981151")
    return number


def _number_range(text: object, info: ValidationInfo) -> list[str]:
    if not isinstance(text, str):
        raise ValueError("must be a number, or a range such as +493015981151..+493015981190")
    first, dots, last = text.partition("..")
    low = high = _e164(first.strip(), info)
    if dots:
        high = _e164(last.strip(), info)
        if len(low) != len(high) or not int(low) <= int(high) < int(low) + _RANGE_MOST:
            raise ValueError(f"{shown(text)}: a range goes up, within one length, over at most {_RANGE_MOST} numbers")
    if info.context is not None:
        info.context[_NUMBERS_LEFT] -= int(high) - int(low) + 1
        if info.context[_NUMBERS_LEFT] < 0:
            raise ValueError(f"the file holds more than {_NUMBERS_MOST} numbers: split it")
    return [f"+{number}" for number in range(int(low), int(high) + 1)]


def _rest_ms(text: object) -> int:
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found:
        raise ValueError("must be a time such as 1500ms, 2s, 30m, 24h or 7d")
    ms = int(found[1]) * _UNIT_MS[found[2]]
    if ms > _DURATION_MOST_D * _UNIT_MS["d"]:
        raise ValueError(f"must be at most {_DURATION_MOST_D}d")
    return ms


def _duration_ms(text: object) -> int:
    ms = _rest_ms(text)
    if not ms:
        raise ValueError("must be more than 0")
    return ms


def _replaces(value: object) -> object:
    if value == "all":
        return []
    if not isinstance(value, list) or not value:
        raise ValueError("must be the numbers on page that this pool replaces, or all")
    return value


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = wording.meant(name, sorted(zoneinfo.available_timezones()))
        raise ValueError(f"{shown(name)} is not a time zone, such as Europe/Berlin{known}") from None
    return name


def _region(name: str, info: ValidationInfo) -> str:
    if name not in phonenumbers.SUPPORTED_REGIONS:
        known = wording.meant(name, sorted(phonenumbers.SUPPORTED_REGIONS))
        raise ValueError(f"{shown(name)} is not a region code, such as DE{known}")
    if info.context is not None:
        info.context[_REGION] = name  # for the fields of this account, which come after it
    return name


def _network(text: object) -> str:
    try:
        return str(ipaddress.ip_network(str(text)))
    except ValueError:
        meant = wording.meant_network(str(text))
        raise ValueError(f"{shown(text)} is not a network such as 192.0.2.0/24, nor an address{meant}") from None


def _name(text: str) -> str:
    if not ACCOUNT_NAME.fullmatch(text):
        raise ValueError("a name has 1 to 64 letters, digits, dots, dashes and underscores")
    return text


def _token(token: SecretStr) -> SecretStr:
    least, most = _TOKEN_LENGTHS
    if not least <= len(token.get_secret_value()) <= most:
        raise ValueError(f"a token has {least} to {most} characters")
    return token


def _custom_field(name: str) -> str:
    if not re.fullmatch("custom_([1-9]|1[0-9]|20)", name):
        raise ValueError(f"{shown(name)} is none of custom_1 to custom_20")
    return name


Number = Annotated[str, AfterValidator(_e164)]
Name = Annotated[str, AfterValidator(_name)]
Duration = Annotated[int, BeforeValidator(_duration_ms)]
Replaces = Annotated[list[Number], BeforeValidator(_replaces)]
Numbers = Annotated[list[str], BeforeValidator(_number_range)]  # one number, or a range spelled out
Rest = Annotated[int, BeforeValidator(_rest_ms)]  # may be 0
TIMES = (BeforeValidator(_duration_ms), BeforeValidator(_rest_ms))
CustomField = Annotated[str, AfterValidator(_custom_field)]
Network = Annotated[str, BeforeValidator(_network)]
Region = Annotated[str, AfterValidator(_region)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Zone = Annotated[str, AfterValidator(_zone)]
AgentPart = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True, min_length=_AGENT_PART_LEAST, max_length=_AGENT_PART_MOST),
]
Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
