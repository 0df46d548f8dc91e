"""What the calls API reads and writes: events and erasures in, lookups and routes out, all of it JSON."""

import re
from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any, Literal

import orjson
from aiohttp import web
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from edgeproxy import wording
from edgeproxy.accounts import moments
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.number import form_value, read_number
from edgeproxy.calls import course
from edgeproxy.calls.attribution import Found, Match
from edgeproxy.calls.caller import TEXT_MOST, Caller, read_caller
from edgeproxy.http.body import read_object
from edgeproxy.http.endpoint import Refusal
from edgeproxy.store.visits import Page

BODY_MOST = 16 * 1024

_CALL_ID = r"""[A-Za-z0-9.!%*_+`'~()<>:\\"/\[\]?{}@=-]{1,255}"""  # those of a Call-ID (RFC 3261 §25.1), and of base64


def _moment(value: object, info: ValidationInfo) -> int:
    """A moment as `moments` reads it; seconds and milliseconds since 1970 may be numbers."""
    text = value if isinstance(value, str) else ""
    if isinstance(value, int | float) and value >= 10**8:  # a smaller one would be a day without its dashes
        text = repr(value)
    return moments.read_ms(text, info.context["zone"] if info.context else UTC)


def _is_call_id(text: str) -> str:
    if re.fullmatch(_CALL_ID, text) is None:
        raise ValueError("must be 1 to 255 characters that a SIP Call-ID or base64 may have")
    return text


Moment = Annotated[int, BeforeValidator(_moment)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=128)]
CallerText = Annotated[str, StringConstraints(max_length=TEXT_MOST)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)


class Event(_Body):
    """One event of a call. `number` is the tracking number that was dialled; `caller` may be withheld."""

    call_id: Annotated[str, AfterValidator(_is_call_id), Field(json_schema_extra={"pattern": f"^{_CALL_ID}$"})]
    event: Literal["started", "answered", "ended"]
    number: Text | None = None
    caller: CallerText | None = None
    at: Moment | None = Field(None, description="without it, the moment at which the event comes in")

    @model_validator(mode="after")
    def _started_needs_a_number(self) -> "Event":
        if self.event == "started" and self.number is None:
            raise ValueError("number: is required when a call has started")
        return self


class Erasure(_Body):
    """Whom to forget: one of a visitor, a session, or a caller."""

    tracking_id: Text | None = Field(None, alias="trackingId")
    session_id: Text | None = Field(None, alias="sessionId")
    caller: Annotated[CallerText, StringConstraints(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "Erasure":
        if sum(value is not None for value in (self.tracking_id, self.session_id, self.caller)) != 1:
            raise ValueError("exactly one of trackingId, sessionId, caller is required")
        return self


# What is read ---------------------------------------------------------------------------------------------------------


def read_lookup(query: Mapping[str, str], account: Account) -> tuple[str, int | None]:
    """The number (E.164) and the moment (epoch ms; None: now) of a lookup; every fault is told at once.

    Raises:
        Refusal.
    """
    errors = [f"{name}: there is no such parameter" for name in query if name not in ("number", "at")]
    number = _number(form_value(query.get("number", "")), account, errors)
    at_ms = None
    if "at" in query:
        try:
            at_ms = moments.read_ms(query["at"], moments.zone(account.timezone))
        except ValueError as error:
            errors.append(f"at: {error}")
    if errors:
        raise Refusal(400, *errors)
    return number, at_ms


def read_event(body: bytes, account: Account) -> tuple[Event, str | None, Caller]:
    """An event, its number (E.164) if it tells one, and its caller.

    Raises:
        Refusal, MalformedError.
    """
    event: Event = _read(Event, body, account)
    errors: list[str] = []
    number = _number(event.number, account, errors) if event.number is not None else None
    caller = read_caller(event.caller, account.region) if event.caller is not None else Caller()
    if errors:
        raise Refusal(400, *errors)
    return event, number, caller


def read_erasure(body: bytes, account: Account) -> tuple[Erasure, str]:
    """An erasure, and the caller (E.164) whom it is to forget, or "".

    Raises:
        Refusal, MalformedError.
    """
    erasure: Erasure = _read(Erasure, body, account)
    errors: list[str] = []
    caller = _caller(erasure.caller, account, errors) if erasure.caller is not None else ""
    if errors:
        raise Refusal(400, *errors)
    return erasure, caller


def _number(text: str, account: Account, errors: list[str]) -> str:
    number = read_number(text, account.region)
    if number is None:
        errors.append("number: is not a phone number" if text else "number: is required")
    return number or ""


def _caller(text: str, account: Account, errors: list[str]) -> str:
    caller = read_caller(text, account.region)
    if caller.withheld:
        errors.append("caller: is withheld, so nobody is known by it")
    elif caller.number is None:
        errors.append("caller: is not a phone number")
    return caller.number or ""


def _read(model: type[Any], body: bytes, account: Account) -> Any:
    """The checked body; every fault is told at once.

    Raises:
        Refusal, MalformedError.
    """
    try:
        return model.model_validate(read_object(body), context={"zone": moments.zone(account.timezone)})
    except ValidationError as invalid:
        errors = []
        for error in invalid.errors(include_url=False, include_input=False):
            place = ".".join(str(step)[:64] for step in error["loc"])
            text = wording.why(error)
            errors.append(f"{place}: {text}" if place else text)
        raise Refusal(400, *errors) from None


# What is shown --------------------------------------------------------------------------------------------------------


def respond(status: int, tree: dict[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    """The answer that a tree is."""
    return web.Response(status=status, body=orjson.dumps(tree), content_type="application/json", headers=headers)


def render(found: Found, number: str, at_ms: int) -> dict[str, Any]:
    """What was found of a number at a moment."""
    return {
        "number": number,
        "at": moments.text(at_ms),
        "certainty": found.certainty,
        "matches": [_shown_match(match, at_ms) for match in found.matches],
    }


def _shown_match(match: Match, at_ms: int) -> dict[str, Any]:
    visit = match.visit
    last = visit.last.sent if visit else {}
    shown: dict[str, Any] = {"how": match.how, "why": match.why}
    if match.session_id is not None:
        shown |= {
            "sessionId": match.session_id,
            "trackingId": visit and visit.tracking_id,
            "number_on_page": match.page,
            "fullUrl": last.get("fullUrl"),
            "fullReferrer": last.get("fullReferrer"),
            "parameters": visit.parameters if visit else None,
            "first_touch": _shown_page(visit.first) if visit and visit.first else None,
            "last_page": visit and _shown_page(visit.last) | {"after_call": visit.came_after(at_ms)},
            "many_networks": match.many_networks,
        }
    if match.begin_ms is not None:
        shown |= {
            "begin": moments.text(match.begin_ms),
            "end": _moment_text(match.end_ms),
        }
    if match.pool is not None:
        shown["pool"] = match.pool.name
    if match.source is not None:
        shown |= {
            name: match.source.get(name) for name in ("source_id", "customer_id", "name", "media", "class", "status")
        }
    if match.static is not None:
        shown |= {name: match.static.get(name) for name in ("displayOptions", "poolName")}
    return shown


def _moment_text(ms: int | None) -> str | None:
    return None if ms is None else moments.text(ms)


def _shown_page(page: Page) -> dict[str, Any]:
    return {"at": _moment_text(page.at_ms), **page.told()}


def render_event(event: Event, known: dict[str, Any]) -> dict[str, Any]:
    """What an event is told: the route, for the one that started the call; else that it was taken in."""
    if event.event == "started":
        answer: dict[str, Any] = known["answer"]
        return {"call_id": event.call_id, **answer}
    return {"call_id": event.call_id, "cdr_id": known.get("cdr_id"), **course.corrected_moments(known)}
