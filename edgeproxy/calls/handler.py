"""Answers the calls API: lookup, the events of a call, erasure (`README.md`)."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC
from typing import Annotated, Any, Literal

import orjson
from aiohttp import hdrs, web
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
from edgeproxy.calls import attribution
from edgeproxy.calls.attribution import Found, Match, Route
from edgeproxy.calls.caller import ANONYMOUS, TEXT_MOST, Caller, read_caller
from edgeproxy.errors import Fault, NotDurableError, UncertainError
from edgeproxy.http.access import ACCESS_TOKEN, SHUT_OUT_S, Access, Bearer, ShutOutError, UnknownTokenError
from edgeproxy.http.body import CodingError, MalformedError, inflate, read_object, receive
from edgeproxy.http.client_ip import Client, ClientIP
from edgeproxy.settings import Settings
from edgeproxy.store import Store, visits
from edgeproxy.store.calls import Calls, Effect, Lease, Record
from edgeproxy.store.erasure import erase
from edgeproxy.store.visits import Page
from edgeproxy.telemetry import audit
from edgeproxy.telemetry.metrics import Counts

PATH = "/calls"
BODY_MOST = 16 * 1024

_log = logging.getLogger(__name__)
_BODY_S = 10  # that a body may take to arrive
_TRIES = 20  # at a call that others change at the same time
_AHEAD_MS = 86_400_000  # that an event's clock may be ahead
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


class _Refusal(Exception):
    def __init__(self, status: int, *errors: str, retry_after: int | None = None) -> None:
        super().__init__(status, errors)
        self.status = status
        self.errors = errors
        self.retry_after = retry_after


class CallsAPI:
    """Serves `/calls…` of the manage port."""

    def __init__(self, store: Store, settings: Settings, counts: Counts) -> None:
        self._calls = Calls(store, settings.durable_replicas)
        self._counts = counts
        self._client_ip = ClientIP(settings.trusted_proxies, settings.client_ip_header)
        self._access = Access(store, settings.bad_logins_per_minute)

    # What calls ask -----------------------------------------------------------------------------------------------

    async def lookup(self, bearer: Bearer, client: Client, query: Mapping[str, str]) -> dict[str, Any]:
        """`GET /calls/lookup?number=&at=`: everyone whom the number may have been shown to at that moment."""
        account = bearer.account
        errors = [f"{name}: there is no such parameter" for name in query if name not in ("number", "at")]
        number = _number(form_value(query.get("number", "")), account, errors)
        at_ms = None
        if "at" in query:
            try:
                at_ms = moments.read_ms(query["at"], moments.zone(account.timezone))
            except ValueError as error:
                errors.append(f"at: {error}")
        if errors:
            raise _Refusal(400, *errors)
        at_ms = at_ms if at_ms is not None else await self._calls.now_ms(account)
        found = await attribution.lookup(self._calls, account, number, at_ms)
        if not found.known and not found.matches:
            raise _Refusal(404, f"number: {number} is none of this account's")
        return _shown(found, number, at_ms)

    async def event(self, bearer: Bearer, client: Client, body: bytes) -> dict[str, Any]:
        """`POST /calls`: takes in an event, in whatever order and however often it comes; `started` is told the route.

        What is known of a call is changed by comparing and setting, so of events at once none is lost. A call that has
        started and ended has a record, made once.
        """
        account, event = bearer.account, _read(Event, body, bearer.account)
        errors: list[str] = []
        number = _number(event.number, account, errors) if event.number is not None else None
        caller = read_caller(event.caller, account.region) if event.caller is not None else Caller()
        if errors:
            raise _Refusal(400, *errors)
        now_ms = await self._calls.now_ms(account)
        at_ms = event.at if event.at is not None else now_ms
        if at_ms > now_ms + _AHEAD_MS:
            raise _Refusal(400, "at: is more than a day ahead")
        for _ in range(_TRIES):
            before = await self._calls.known(account, event.call_id)
            if caller.number is not None:
                before = before.holding(caller.number)
            known = before.fields
            if number is not None and known.get("number", number) != number:
                raise _Refusal(400, f"number: the call {event.call_id} is on another number")
            if event.event in known:
                if before.concealed and before.plain and not await self._calls.put(account, before, known):
                    continue
                await self._calls.prove(account)  # the answer to the first may have been that it was not durable
                return _answer(event, known)
            after = known | {event.event: at_ms}
            if number is not None:
                after["number"] = number
            if "anum" not in known:
                after |= await self._kept_of(account, caller)
            effect = None
            if event.event == "started" and number is not None:
                found = await attribution.lookup(self._calls, account, number, at_ms)
                route = attribution.route(found)
                after["answer"] = _shown(found, number, at_ms) | {"route": asdict(route)} | _corrected(after)
                after["record"] = _attributed(account, found, route, at_ms)
                effect = _effect(found, number)
            record = await self._complete(account, after)
            of_whom = after.get("record", {})
            told = {
                "call_id": before.shown_id,
                "event": event.event,
                "at": at_ms,
                "number": after.get("number"),
                "anum_md5": after.get("anum_md5"),
                **{name: of_whom.get(name) for name in ("session_id", "tracking_id", "source_id", "customer_id")},
                **visits.from_texts(of_whom),
            }
            if await self._calls.put(account, before, after, event=told, effect=effect, record=record):
                return _answer(event, after)
        raise _Refusal(503, "too many events of this call at once: try again")

    async def _kept_of(self, account: Account, caller: Caller) -> dict[str, str | None]:
        """What is kept of the caller that an event tells; nothing where it tells of none, so a later one can."""
        if caller.withheld:
            return {"anum": ANONYMOUS, "anum_md5": None}
        return {} if caller.number is None else {**await self._calls.caller(account, caller.number)}

    async def _complete(self, account: Account, known: dict[str, Any]) -> Record | None:
        """The record of a call that has started and ended; the same one again, if the answer is told after that."""
        if "started" not in known or "ended" not in known:
            return None
        if "cdr_id" not in known:
            known["cdr_id"] = await self._calls.next_cdr_id(account)
        taken, _ = _in_order(known)
        answered = taken.get("answered")
        seconds = (taken["ended"] - answered) // 1000 if answered is not None else 0
        fields: dict[str, str | None] = known["record"] | {
            "anum": known.get("anum"),
            "anum_md5": known.get("anum_md5"),
            "bnum": known["number"],
            "duration": str(seconds),
            "duration_adjusted": str(seconds),
            "answered": "1" if answered is not None else "0",
        }
        return Record(known["started"], fields)

    async def erase(self, bearer: Bearer, client: Client, body: bytes) -> dict[str, Any]:
        """`POST /calls/erase`: forgets a visitor, a session or a caller, and gives a receipt."""
        account, erasure = bearer.account, _read(Erasure, body, bearer.account)
        errors: list[str] = []
        caller = _caller(erasure.caller, account, errors) if erasure.caller is not None else ""
        if errors:
            raise _Refusal(400, *errors)
        # The line has no record: an id of a visitor or a caller's number is what is to be forgotten.
        with audit.write(
            "calls.erase", who=f"token:{bearer.mark}", ip=client.kept, account=account.name,
            fields=erasure.model_dump(by_alias=True, exclude_none=True),
        ):  # fmt: skip
            receipt = await erase(
                self._calls,
                account,
                tracking_id=erasure.tracking_id or "",
                session_id=erasure.session_id or "",
                caller=caller,
            )
        return {"erased": asdict(receipt), "at": _moment_text(await self._calls.now_ms(account))}

    # HTTP ---------------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request, whatever becomes of it."""
        began = time.monotonic()
        headers: dict[str, str] = {}
        try:
            methods: dict[tuple[str, str], Callable[[Bearer, Client, Any], Awaitable[dict[str, Any]]]] = {
                ("GET", "/calls/lookup"): self.lookup,
                ("POST", "/calls"): self.event,
                ("POST", "/calls/erase"): self.erase,
            }
            path = request.path.rstrip("/")
            work = methods.get((request.method, path))
            if work is None:
                allowed = [method for method, known in methods if known == path]
                if allowed:
                    headers[str(hdrs.ALLOW)] = ", ".join(allowed)
                raise _Refusal(
                    405 if allowed else 404, "there is no such method" if allowed else "there is no such path"
                )
            client = self._client_ip.find(request.remote, tuple(request.headers.getall(self._client_ip.header, ())))
            if not request.content.is_eof():
                await self._authenticate(request, client.counted)  # nobody else's body is waited for, nor kept
            body = await receive(request.content, request.content_length, BODY_MOST, _BODY_S)
            # After the body too, lest a token serve that is revoked while the rest of it is held back.
            bearer = await self._authenticate(request, client.counted)
            body = inflate(body, ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, ())), BODY_MOST)
            status, tree = 200, await work(bearer, client, request.query if request.method == hdrs.METH_GET else body)
        except _Refusal as refusal:
            status, tree = refusal.status, {"errors": list(refusal.errors)}
            if refusal.retry_after is not None:
                headers[str(hdrs.RETRY_AFTER)] = str(refusal.retry_after)
        except MalformedError as malformed:
            status, tree = 400, {"errors": [str(malformed)]}
        except web.RequestPayloadError:
            status, tree = 400, {"errors": ["the body is broken"]}
        except CodingError as coding:
            status, tree = 415, {"errors": [str(coding)]}
        except NotDurableError:
            status, tree = 503, {"errors": ["taken in, but not known to be safe on disk: send it again"]}
        except UncertainError:
            status, tree = 503, {"errors": ["it is not known whether this was taken in: send it again"]}
        except Fault as fault:
            status, tree = 503, {"errors": [f"{fault.text}: try again"]}
        except (web.HTTPException, asyncio.CancelledError):
            raise
        except Exception:
            _log.exception("a request of the calls API failed")
            status, tree = 500, {"errors": ["Internal error"]}
        self._counts.answered("calls", status, time.monotonic() - began)
        return web.Response(status=status, body=orjson.dumps(tree), content_type="application/json", headers=headers)

    async def _authenticate(self, request: web.Request, ip: str) -> Bearer:
        """Whose access token the request brings."""
        try:
            return await self._access.bearer(request.headers.getall(ACCESS_TOKEN, ()), ip)
        except ShutOutError:
            raise _Refusal(429, "too many bad access tokens from this address", retry_after=SHUT_OUT_S) from None
        except UnknownTokenError:
            raise _Refusal(401, f"{ACCESS_TOKEN}: is missing or unknown") from None


def _moment_text(ms: int | None) -> str | None:
    return None if ms is None else moments.text(ms)


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
        _Refusal, MalformedError.
    """
    try:
        return model.model_validate(read_object(body), context={"zone": moments.zone(account.timezone)})
    except ValidationError as invalid:
        errors = []
        for error in invalid.errors(include_url=False, include_input=False):
            place = ".".join(str(step)[:64] for step in error["loc"])
            text = wording.why(error)
            errors.append(f"{place}: {text}" if place else text)
        raise _Refusal(400, *errors) from None


# What is shown --------------------------------------------------------------------------------------------------------


def _shown(found: Found, number: str, at_ms: int) -> dict[str, Any]:
    return {
        "number": number,
        "at": _moment_text(at_ms),
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
        shown |= {"begin": _moment_text(match.begin_ms), "end": _moment_text(match.end_ms)}
    if match.pool is not None:
        shown["pool"] = match.pool.name
    if match.source is not None:
        shown |= {
            name: match.source.get(name) for name in ("source_id", "customer_id", "name", "media", "class", "status")
        }
    if match.static is not None:
        shown |= {name: match.static.get(name) for name in ("displayOptions", "poolName")}
    return shown


def _shown_page(page: Page) -> dict[str, Any]:
    return {"at": _moment_text(page.at_ms), **page.told()}


def _answer(event: Event, known: dict[str, Any]) -> dict[str, Any]:
    """What an event is told: the route, for the one that started the call; else that it was taken in."""
    if event.event == "started":
        answer: dict[str, Any] = known["answer"]
        return {"call_id": event.call_id, **answer}
    return {"call_id": event.call_id, "cdr_id": known.get("cdr_id"), **_corrected(known)}


_EVENTS = ("started", "answered", "ended")  # as they follow one another


def _in_order(known: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    """The moments of a call's events, epoch ms, none before the event that it follows; and which were told otherwise.

    It depends on what was told, and not on the order in which it was: an event that comes in late corrects the others.
    """
    taken: dict[str, int] = {}
    corrected: dict[str, Any] = {}
    earlier = ""
    for event in _EVENTS:
        if (told := known.get(event)) is None:
            continue
        taken[event] = max(told, taken.get(earlier, told))
        if taken[event] != told:
            corrected[event] = {
                "told": _moment_text(told),
                "taken": _moment_text(taken[event]),
                "why": f"a call is not {event} before it is {earlier}",
            }
        earlier = event
    return taken, corrected


def _corrected(known: dict[str, Any]) -> dict[str, Any]:
    """What is said of moments that were told out of order; nothing where none was."""
    _, corrected = _in_order(known)
    return {"corrected": corrected} if corrected else {}


def _attributed(account: Account, found: Found, route: Route, at_ms: int) -> dict[str, str | None]:
    """What a call's record holds of whom the call leads back to."""
    match = found.matches[0] if found.matches else Match("shared")
    sure = found.certainty in ("exact", "likely")
    visit = match.visit if sure else None
    source = match.source or {}
    parameters = visit.parameters if visit else {}
    expire = source.get("expire")
    return {
        "cnum": route.destination,
        "customer_id": source.get("customer_id"),
        "source_id": source.get("source_id"),
        "custnr": parameters.get("custnr") or None,
        "quarantined": "1" if expire and int(expire) <= at_ms else "0",
        "source_name": source.get("name"),
        "source_media": source.get("media"),
        "source_class": source.get("class"),
        "expire": expire,
        "campaign_id": source.get("campaign_id"),
        "session_id": match.session_id if sure else None,
        "tracking_id": visit.tracking_id if visit else None,
        "certainty": found.certainty,
        **visits.texts(visits.fields(visit, at_ms)),
    }


def _effect(found: Found, number: str) -> Effect | None:
    """What the call does to the lease that it came on: only to one that held the number, and that alone did."""
    if found.certainty != "exact":
        return None
    match = found.matches[0]
    if match.how != "lease" or match.pool is None or match.session_id is None or match.begin_ms is None:
        return None
    return Effect(match.pool, number, Lease(match.session_id, match.page or "", match.begin_ms, match.end_ms))
