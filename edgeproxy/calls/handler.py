"""Answers the calls API: lookup, the events of a call, erasure (`README.md`)."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import hdrs, web

from edgeproxy.accounts import moments
from edgeproxy.accounts.account import Account
from edgeproxy.calls import attribution, course, wire
from edgeproxy.calls.attribution import Found, Match, Route
from edgeproxy.calls.caller import ANONYMOUS, Caller
from edgeproxy.http.endpoint import Call, Endpoint, OwnFaults, Refusal, Worker
from edgeproxy.store import visits
from edgeproxy.store.calls import Calls, Effect, Lease, Record
from edgeproxy.store.erasure import erase

PATH = "/calls"

_TRIES = 20  # at a call that others change at the same time
_AHEAD_MS = 86_400_000  # that an event's clock may be ahead


class CallsAPI(Endpoint):
    """Serves `/calls…` of the manage port."""

    NAME = "calls"
    OWN_FAULTS = OwnFaults(
        status=503,
        not_durable="taken in, but not known to be safe on disk: send it again",
        uncertain="it is not known whether this was taken in: send it again",
        fault="{}: try again",
        internal="Internal error",
    )

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._calls = Calls(worker.store, worker.settings.durable_replicas)
        self._operations: dict[tuple[str, str], Callable[[Call, Account, bytes], Awaitable[dict[str, Any]]]] = {
            ("GET", f"{PATH}/lookup"): self.lookup,
            ("POST", PATH): self.event,
            ("POST", f"{PATH}/erase"): self.erase,
        }

    def routes(self) -> list[web.RouteDef]:
        """All that is below `/calls`."""
        return [web.route("*", PATH + "{rest:(?:/.*)?}", self.handle)]

    async def answer(self, call: Call) -> web.Response:
        """Path → token → body → what is asked."""
        run = self._operation(call.request)
        account, body = await self.take_in(call, wire.BODY_MOST)
        return wire.respond(200, await run(call, account, body))

    def refuse(self, call: Call, refusal: Refusal) -> web.Response:
        """The errors, line by line."""
        return wire.respond(refusal.status, {"errors": list(refusal.errors)}, refusal.headers)

    def _operation(self, request: web.Request) -> Callable[[Call, Account, bytes], Awaitable[dict[str, Any]]]:
        path = request.path.rstrip("/")
        if run := self._operations.get((request.method, path)):
            return run
        allowed = ", ".join(method for method, known in self._operations if known == path)
        if allowed:
            raise Refusal(405, "there is no such method", headers={str(hdrs.ALLOW): allowed})
        raise Refusal(404, "there is no such path")

    # What calls ask -----------------------------------------------------------------------------------------------

    async def lookup(self, call: Call, account: Account, body: bytes) -> dict[str, Any]:
        """`GET /calls/lookup?number=&at=`: everyone whom the number may have been shown to at that moment."""
        number, at_ms = wire.read_lookup(call.request.query, account)
        at_ms = at_ms if at_ms is not None else await self._calls.now_ms(account)
        found = await attribution.lookup(self._calls, account, number, at_ms)
        if not found.known and not found.matches:
            raise Refusal(404, f"number: {number} is none of this account's")
        return wire.render(found, number, at_ms)

    async def event(self, call: Call, account: Account, body: bytes) -> dict[str, Any]:
        """`POST /calls`: takes in an event, in whatever order and however often it comes; `started` is told the route.

        What is known of a call is changed by comparing and setting, so of events at once none is lost. A call that has
        started and ended has a record, made once.
        """
        event, number, caller = wire.read_event(body, account)
        now_ms = await self._calls.now_ms(account)
        at_ms = event.at if event.at is not None else now_ms
        if at_ms > now_ms + _AHEAD_MS:
            raise Refusal(400, "at: is more than a day ahead")
        for _ in range(_TRIES):
            before = await self._calls.known(account, event.call_id)
            if caller.number is not None:
                before = before.holding(caller.number)
            known = before.fields
            if number is not None and known.get("number", number) != number:
                raise Refusal(400, f"number: the call {event.call_id} is on another number")
            if event.event in known:
                if before.concealed and before.plain and not await self._calls.put(account, before, known):
                    continue
                await self._calls.prove(account)  # the answer to the first may have been that it was not durable
                return wire.render_event(event, known)
            after = known | {event.event: at_ms}
            if number is not None:
                after["number"] = number
            if "anum" not in known:
                after |= await self._kept_of(account, caller)
            effect = None
            if event.event == "started" and number is not None:
                found = await attribution.lookup(self._calls, account, number, at_ms)
                route = attribution.route(found)
                after["answer"] = (
                    wire.render(found, number, at_ms) | {"route": asdict(route)} | course.corrected_moments(after)
                )
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
                return wire.render_event(event, after)
        raise Refusal(503, "too many events of this call at once: try again")

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
        taken, _ = course.in_order(known)
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

    async def erase(self, call: Call, account: Account, body: bytes) -> dict[str, Any]:
        """`POST /calls/erase`: forgets a visitor, a session or a caller, and gives a receipt."""
        erasure, caller = wire.read_erasure(body, account)
        # The line has no record: an id of a visitor or a caller's number is what is to be forgotten.
        with call.write("calls.erase", fields=erasure.model_dump(by_alias=True, exclude_none=True)):
            receipt = await erase(
                self._calls,
                account,
                tracking_id=erasure.tracking_id or "",
                session_id=erasure.session_id or "",
                caller=caller,
            )
        return {"erased": asdict(receipt), "at": moments.text(await self._calls.now_ms(account))}


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
