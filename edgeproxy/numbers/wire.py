"""What the static numbers API reads and writes: JSON in, checked parts out, all violations at once (`README.md`)."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import orjson
from aiohttp import hdrs, web
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from edgeproxy import wording
from edgeproxy.accounts.number import is_valid, read_number
from edgeproxy.errors import RefusedError
from edgeproxy.http.body import MalformedError as MalformedError
from edgeproxy.http.body import read_object
from edgeproxy.http.endpoint import Refusal

Method = Literal["update", "create", "delete", "list"]
METHODS: tuple[Method, ...] = get_args(Method)

BODY_MOST = 64 * 1024
LISTED_MOST = 1000
VIOLATIONS_MOST = 50
PARTS = ("displayOptions", "redirectOptions", "poolName")  # of a number, in the order in which they are listed

_OWN_DIGITS = re.compile(r"7[0-9]{10}")
WRITTEN = re.compile(r"\+?[1-9](?:[ ().-]*[0-9]){4,14}")  # how numbers may be written
_FROM_INSIDE = re.compile(r"8[0-9]{10}")  # as it is dialled within the country of +7
_FAR_TOO_LONG_S = 1000  # stands for every time of four digits and more
_CODES = {
    400: "VALIDATION_ERROR", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT", 415: "UNSUPPORTED_MEDIA_TYPE", 429: "TOO_MANY_REQUESTS", 500: "INTERNAL_ERROR",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a body: the field's path, and why."""

    field: str
    message: str


class InvalidError(Refusal):
    """The body is JSON, and not what the method takes."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__(400, "the request is not valid")
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
    """A redirect scenario. The public documents spell the options `ptsnOptions`; `pstnOptions` is taken too."""

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

    def parts(self) -> dict[str, Any]:
        """What the body sets: nothing."""
        return {}


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


def method(request: web.Request) -> Method:
    """The method that a path ends in. Raises: Refusal."""
    named = request.match_info["method"]
    for known in METHODS:
        if known == named:
            break
    else:
        raise Refusal(404, "there is no such method")
    if request.method != hdrs.METH_POST:
        raise Refusal(405, "only POST is allowed", headers={str(hdrs.ALLOW): hdrs.METH_POST})
    return known


def parse(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        MalformedError: it is none, or too large.
    """
    if len(body) > BODY_MOST:
        raise MalformedError(f"the body is larger than {BODY_MOST} bytes")
    return read_object(body)


def check(method: Method, tree: dict[str, Any]) -> Change | One | Many:
    """Check the body of a method. Raises: InvalidError."""
    match method:
        case "list":
            return check_many(tree)
        case "delete":
            return check_one(tree)
        case "update" | "create":
            return check_change(tree)


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


def render(numbers: list[str], records: list[dict[str, Any]]) -> bytes:
    """What `list` answers: of each number (E.164), in their order, its parts."""
    return orjson.dumps(
        [
            {"phoneNumber": number.removeprefix("+"), **show(parts)}
            for number, parts in zip(numbers, records, strict=True)
        ]
    )


def refusal(refused: RefusedError, day_left_ms: int) -> Refusal:
    """What the store's refusal is to the client; `day_left_ms` is the time to the account's midnight."""
    if refused.why == "points":
        return Refusal(429, "the daily point budget is exhausted", retry_after=-(-day_left_ms // 1000))
    if refused.why == "missing":
        number = str(refused.detail.get("number", "")).removeprefix("+")
        return Refusal(404, f"phoneNumber: {number + ' ' if number else ''}is no static number of this site")
    return Refusal(409, "phoneNumber: is not in the state that this needs: update and delete want a number in use, "
                   "create a free one")  # fmt: skip


def respond(body: bytes) -> web.Response:
    """The answer of success; of all methods but `list` it is empty."""
    return web.Response(body=body, content_type="application/json" if body else None)


def respond_refusal(refusal: Refusal) -> web.Response:
    """The answer that is a refusal, with its code."""
    (message,) = refusal.errors
    data: dict[str, Any] = {"apiErrorData": {"errorCode": _CODES[refusal.status], "errorMessage": message}}
    if isinstance(refusal, InvalidError):
        violations = [{"field": violation.field, "message": violation.message} for violation in refusal.violations]
        data["validationErrorData"] = {"violations": violations}
    return web.Response(
        status=refusal.status,
        body=orjson.dumps({"data": data}),
        content_type="application/json",
        headers=refusal.headers,
    )
