"""Bodies of the static numbers API: JSON in, checked parts out; all violations at once (`README.md`, *Fields*)."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from edgeproxy import wording
from edgeproxy.accounts.number import is_valid, read_number
from edgeproxy.http.body import MalformedError as MalformedError
from edgeproxy.http.body import read_object

BODY_MOST = 64 * 1024
LISTED_MOST = 1000
VIOLATIONS_MOST = 50
PARTS = ("displayOptions", "redirectOptions", "poolName")  # of a number, in the order in which they are listed

_OWN_DIGITS = re.compile(r"7[0-9]{10}")
WRITTEN = re.compile(r"\+?[1-9](?:[ ().-]*[0-9]){4,14}")  # how numbers may be written
_FROM_INSIDE = re.compile(r"8[0-9]{10}")  # as it is dialled within the country of +7
_FAR_TOO_LONG_S = 1000  # stands for every time of four digits and more


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a body: the field's path, and why."""

    field: str
    message: str


class InvalidError(Exception):
    """The body is JSON, and not what the method takes."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__(violations)
        self.violations = violations


def e164(text: str) -> str:
    """The number that a text stands for: 7 and ten digits more, or any valid number with its country code.

    8 and ten digits, as they are dialled within the country, stand for that number if they are none of another country.

    Raises:
        ValueError: it stands for none.
    """
    if _OWN_DIGITS.fullmatch(text):
        return "+" + text
    number = read_number(text, "") if WRITTEN.fullmatch(text) else None
    if number is not None and is_valid(number):
        return number
    digits = re.sub(r"[ ().-]", "", text) if WRITTEN.fullmatch(text) else ""
    if _FROM_INSIDE.fullmatch(digits) and is_valid("+7" + digits[1:]):
        return "+7" + digits[1:]
    raise ValueError("must be a phone number like 7xxxxxxxxxx")


def _listed(value: object) -> object:
    if isinstance(value, list) and len(value) > LISTED_MOST:  # before each of them is read
        raise ValueError(f"must have at most {LISTED_MOST} entries")
    return value


def _whole(value: object) -> object:
    """A number as JSON has it: 30.0 is 30."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _seconds(value: object) -> object:
    """A time as it is sent both ways: 30, or "30"."""
    value = _whole(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}", value):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{3,}", value):
        return _FAR_TOO_LONG_S
    return value


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _digits(value: object) -> object:
    value = _whole(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Number = Annotated[str, BeforeValidator(_digits), AfterValidator(e164)]
Text = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f]*$")]
Required = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]*$")]


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class DisplayOptions(_Object):
    """How reports show the calls of a number."""

    source: Required
    medium: Text | None = None
    campaign: Text | None = None
    content: Text | None = None
    keyword: Text | None = None


class PstnOptions(_Object):
    """Where a call goes."""

    redirect_number: Number = Field(alias="redirectNumber")


class ReserveRedirect(_Object):
    """Where a call goes if nobody answers it first; `ignoreEarlyMedia` takes announcements for no answer."""

    reserve_number: Number = Field(alias="reserveNumber")
    reserve_time_out: Annotated[int, BeforeValidator(_seconds), Field(ge=10, le=120, alias="reserveTimeOut")]
    ignore_early_media: Annotated[bool, BeforeValidator(_flag), Field(alias="ignoreEarlyMedia")] = True


class RedirectOptions(_Object):
    """A redirect scenario. The documents spell the options `ptsnOptions`; `pstnOptions` is taken too."""

    redirect_type: Literal["PSTN"] = Field(alias="redirectType")
    ptsn_options: PstnOptions = Field(alias="ptsnOptions")
    reserve_redirect: ReserveRedirect | None = Field(None, alias="reserveRedirect")


class Change(_Object):
    """The body of `update` and `create`."""

    phone_number: Number = Field(alias="phoneNumber")
    display_options: DisplayOptions | None = Field(None, alias="displayOptions")
    redirect_options: RedirectOptions | None = Field(None, alias="redirectOptions")
    pool_name: Required | None = Field(None, alias="poolName")

    def parts(self) -> dict[str, Any]:
        """What the body sets, by the names of the wire and with all defaults."""
        dumped = self.model_dump(by_alias=True, exclude={"phone_number"})
        return {name: dumped[name] for name in PARTS if dumped[name] is not None}


class One(_Object):
    """The body of `delete`."""

    phone_number: Number = Field(alias="phoneNumber")


class Many(_Object):
    """The body of `list`."""

    phone_numbers: Annotated[
        list[Number],
        BeforeValidator(_listed),
        Field(alias="phoneNumbers", min_length=1, max_length=LISTED_MOST),
    ]


_NO_DISPLAY = dict.fromkeys(DisplayOptions.model_fields)


def show(parts: dict[str, Any]) -> dict[str, Any]:
    """A number's parts as `list` shows them; null for those that are not set.

    A number in use always has a part, and `displayOptions: null` means free: one in use shows them in any case.
    """
    redirect = parts.get("redirectOptions")
    if redirect is not None:
        reserve = redirect["reserveRedirect"]
        redirect = {
            "redirectType": redirect["redirectType"],
            "ptsnOptions": {"redirectNumber": redirect["ptsnOptions"]["redirectNumber"].removeprefix("+")},
            "reserveRedirect": reserve and reserve | {"reserveNumber": reserve["reserveNumber"].removeprefix("+")},
        }
    return {
        "displayOptions": parts.get("displayOptions") or (_NO_DISPLAY if parts else None),
        "redirectOptions": redirect,
        "poolName": parts.get("poolName"),
    }


def parse(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        MalformedError: it is none, or too large.
    """
    if len(body) > BODY_MOST:
        raise MalformedError(f"the body is larger than {BODY_MOST} bytes")
    return read_object(body)


def check_change(tree: dict[str, Any]) -> Change:
    """Check the body of `update` or `create`.

    Raises:
        InvalidError: with all violations, in the order of the fields (`README.md`, *Fields*).
    """
    more = []
    redirect = tree.get("redirectOptions")
    if isinstance(redirect, dict) and "pstnOptions" in redirect:
        redirect = dict(redirect)
        spelt_right = redirect.pop("pstnOptions")
        if "ptsnOptions" in redirect:
            more.append(Violation("redirectOptions.pstnOptions", "stands there twice, as ptsnOptions too"))
        redirect.setdefault("ptsnOptions", spelt_right)
        tree = tree | {"redirectOptions": redirect}
    if all(tree.get(name) is None for name in PARTS):
        more.append(Violation("", "at least one of displayOptions, redirectOptions, poolName is required"))
    change: Change = _check(Change, tree, more)
    return change


def check_one(tree: dict[str, Any]) -> One:
    """Check the body of `delete`. Raises: InvalidError."""
    one: One = _check(One, tree, [])
    return one


def check_many(tree: dict[str, Any]) -> Many:
    """Check the body of `list`. Raises: InvalidError."""
    many: Many = _check(Many, tree, [])
    return many


def _check(model: type[_Object], tree: dict[str, Any], more: list[Violation]) -> Any:
    violations: list[Violation] = []
    checked = None
    try:
        checked = model.model_validate(tree)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_input=False):
            place = ".".join(str(step)[:64] for step in error["loc"])
            violations.append(Violation(place.encode(errors="replace").decode(), _why(error)))
    violations += more
    if len(violations) > VIOLATIONS_MOST:
        told = violations[: VIOLATIONS_MOST - 1]
        violations = [*told, Violation("", f"{len(violations) - len(told)} more violations are not listed")]
    if violations:
        raise InvalidError(violations)
    return checked


def _why(error: Any) -> str:
    match error["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden" if error["loc"] == ("reserveRedirect",):
            return "there is no such field here: it belongs into redirectOptions"
        case "extra_forbidden":
            return "there is no such field"
        case "string_type":
            return "must be a string"
        case "string_too_short" | "too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {error['ctx']['max_length']} characters"
        case "too_long":
            return f"must have at most {error['ctx']['max_length']} entries"
        case "string_pattern_mismatch":
            return "must not hold control characters"
        case "greater_than_equal" | "less_than_equal":
            return "must be from 10 to 120 seconds"
        case "int_type":
            return "must be whole seconds, as a number or a string"
        case "bool_type":
            return "must be true or false"
        case "literal_error":
            return "must be PSTN"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be an object"
        case "list_type":
            return "must be an array"
        case _:
            return wording.why(error)
