"""The Dynamic Numbers API, `POST /api` (`README.md`)."""

import asyncio
import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.web_exceptions import HTTPException, HTTPRequestEntityTooLarge
from cachetools import TTLCache
from crawleruseragents import is_crawler
from multidict import istr

from edgeproxy.accounts.account import Account, Origin, rate_limits, read_campaign
from edgeproxy.accounts.display import show_number
from edgeproxy.accounts.number import read_number
from edgeproxy.dynamic import signature, wire
from edgeproxy.dynamic.answer import Answer
from edgeproxy.dynamic.memory import Memory, Windows
from edgeproxy.errors import Fault, Kind
from edgeproxy.http.aiohttp_private import ask_for_body
from edgeproxy.http.body import CodingError, MalformedError, TooLargeError, inflate
from edgeproxy.http.client_ip import Client, ClientIP, read_client
from edgeproxy.settings import Settings
from edgeproxy.store import Ask, Resolution, Store
from edgeproxy.telemetry.logs import log_access
from edgeproxy.telemetry.metrics import Counts

X_SIGN = istr("X-SIGN")
X_HTTP_STATUSES = istr("X-HTTP-STATUSES")

_log = logging.getLogger(__name__)
_AGENTS_KEPT = 4096
_OFFENDERS_KEPT = 16_384
_REMEMBERED_S = 1800
_OVERSIZED = bytes(wire.BODY_MOST + 1)  # stands for a body that was not read to its end
_LOOK_UP_S = 1  # between look-ups of unknown accounts for an IP past its limit of bad signatures
_NUMBERS_AT_ONCE = 12  # that are read in one turn of the loop: some texts take the reader the better part of a ms
_TURN_S = 0.005
_OWN_SHARE = 0.1  # of the budget: what the gateway keeps for itself
_MOVES_MOST = 4  # times that the store may be asked for one request: it is told a session to join, the account changes

KNOWN = "known"


@functools.lru_cache(_AGENTS_KEPT)
def crawler_mark(user_agent: str, added: tuple[str, ...], ignored: tuple[str, ...]) -> str | None:
    """What tells that a visit is a crawler's: the part of its user agent that the account has `added`, or `KNOWN` for
    one of the usual list. None: nothing does, or the user agent has a part that the account has `ignored`.
    """
    agent = user_agent.lower()
    if any(part in agent for part in ignored):
        return None
    return next((part for part in added if part in agent), None) or (KNOWN if is_crawler(user_agent) else None)


@dataclass(slots=True)
class Call:
    """One HTTP request on its way through, with what its answer's headers and telemetry want of it."""

    body: bytes
    signatures: Sequence[str]
    client: Client
    deadline: float  # of time.monotonic, by which the store must have answered
    account: str | None = None  # once its signature has been verified
    limits: str = ""  # header lines: RateLimit-Policy and RateLimit
    bare: str = ""  # why no number may be spent on it: `crawler`, `dry_run`
    coded: bytes | None = None  # the body as it was sent and signed, where it was coded
    outcome: str = "success"  # of a success, how its numbers came out; for the access log alone


@dataclass(slots=True)
class _Offences:
    """An IP's bad signatures of a minute."""

    count: int = 0
    looked_up: float = 0.0  # when an unknown account was last looked up although the limit was passed


class Handler:
    """Answers `POST /api`."""

    PATH = "/api"
    BODY_MOST = wire.BODY_MOST

    def __init__(self, store: Store, settings: Settings, counts: Counts) -> None:
        self._store = store
        self._counts = counts
        self._access_log = settings.access_log
        self._client_ip = ClientIP(settings.trusted_proxies, settings.client_ip_header)
        self._ip_header = istr(settings.client_ip_header)
        self._memory = Memory(_REMEMBERED_S)
        self._windows = Windows()
        self._body_s = settings.body_s
        self._wait_s = settings.budget_ms / 1000 * (1 - _OWN_SHARE)
        self._offences: TTLCache[str, _Offences] = TTLCache(_OFFENDERS_KEPT, 60)
        self._offences_most = settings.bad_signatures_per_minute
        is_crawler("")  # compiles the list, which would cost the first visitor half the budget

    async def resolve(self, call: Call) -> bytes:
        """The data path: bytes in, proved, decided once in the store, and out.

        Raises:
            Fault: any of the catalogue.
        """
        tree = wire.parse(call.body)
        name = wire.account_name(tree)
        admitted, join = -1, ""
        for _ in range(_MOVES_MOST):
            known = self._store.known_account(name) or await self._unknown_account(name, call)
            account = self._verify(call, known)
            page = wire.check(tree, call.body)
            if len(page.numbers) > _NUMBERS_AT_ONCE:
                await _read_ahead(page.numbers, account.region)
            ask, shown = self.ask(call, account, page, admitted, join)
            resolution = await self._store.resolve(account, ask, call.deadline)
            if resolution.join:
                join = resolution.session_id
            elif resolution.moved:
                self._store.forget(name)
            else:
                return self._render(call, account, ask, shown, resolution)
            admitted = max(admitted, resolution.window_left)
        raise Fault(Kind.STORE_UNAVAILABLE)

    async def _unknown_account(self, name: str, call: Call) -> Account | None:
        """Read an account that this worker does not remember; once a second for those who mostly sign badly."""
        if not call.signatures:
            return None
        offences = self._offences.get(call.client.counted)
        if offences is not None and offences.count >= self._offences_most:
            now = time.monotonic()
            if now - offences.looked_up < _LOOK_UP_S:
                return None
            offences.looked_up = now
        return await self._store.account(name, call.deadline)

    def _verify(self, call: Call, account: Account | None) -> Account:
        outcome = signature.verify(call.coded or call.body, call.signatures, account.secrets if account else ())
        if outcome is signature.Outcome.MISSING:
            raise Fault(Kind.MISSING_SIGNATURE)
        if account is None or outcome is signature.Outcome.BAD:
            offender = call.client.counted
            if (offences := self._offences.get(offender)) is None:
                offences = self._offences[offender] = _Offences()  # setting it begins its minute
            offences.count += 1
            raise Fault(Kind.INVALID_SIGNATURE)
        call.account = account.name
        return account

    def ask(
        self, call: Call, account: Account, page: wire.Page, admitted: int, join: str = ""
    ) -> tuple[Ask, list[str]]:
        """What to ask the store, and the numbers as sent that `Ask.pages` stand for, in the same order.

        `join` is the session that the store told to join, or "".
        """
        limited, visitor = call.client.counted, read_client(page.request_ip)
        if account.limit_by == "signed":
            if visitor is None:
                raise Fault(Kind.INVALID_PARAMETER, "requestIpAddress: this account is limited by it, and it is no IP")
            limited = f"{account.name} {visitor.counted}"  # nobody but this account vouches for that address
        origin = None
        if account.matches_origins:
            origin = Origin.of(page.full_url, page.full_referrer, page.parameters)
        shown, pages = [], []
        for sent in page.numbers:
            number = read_number(sent, account.region)
            if number is not None:
                shown.append(sent)
                pages.append((number, account.pool_for(number, origin)))
        call.bare = "dry_run" if page.dry_run else ""
        if not page.is_app and crawler_mark(page.user_agent, account.crawlers, account.no_crawlers):
            call.bare = "crawler"
            self._counts.add("crawlers")
        kept: dict[str, str | dict[str, str]] = {
            "type": "app" if page.is_app else "web",
            "trackingId": page.tracking_id,
            "fullUrl": page.full_url[: wire.URL_MOST],
            "fullReferrer": page.full_referrer[: wire.URL_MOST],
        }
        if len(page.full_url) > wire.URL_MOST:  # a click's id may stand at its end
            kept["campaign"] = read_campaign(page.full_url, page.parameters)
        session_id = join or (page.session_id if _is_session_id(page.session_id) else "")
        context = b'"requestIpAddress":"%s","parameters":%s' % (
            visitor.kept.encode() if visitor else b"", orjson.dumps(page.parameters),
        )  # fmt: skip
        ask = Ask(
            limited, session_id, page.tracking_id, call.bare != "", tuple(pages),
            orjson.dumps(page.user_agent), context, orjson.dumps(kept), admitted, join != "",
        )  # fmt: skip
        return ask, shown

    def _render(self, call: Call, account: Account, ask: Ask, shown: list[str], resolution: Resolution) -> bytes:
        refused = resolution.refused
        if refused is Kind.STORE_UNAVAILABLE:
            return self._from_memory(call, account, ask, shown)
        call.limits = rate_limits(account, resolution.window_left, resolution.points_left, resolution.day_left_ms)
        if refused is Kind.BLOCKED_IP:
            raise Fault(refused, account.per_second, retry_after=-(-resolution.wait_ms // 1000))
        if refused is Kind.BUDGET_EXHAUSTED:
            raise Fault(refused, retry_after=-(-resolution.day_left_ms // 1000))
        if refused is not None:
            raise Fault(refused)
        now = time.monotonic()
        remembered = {}
        replaced = []
        for sent, (on_page, pool), number in zip(shown, ask.pages, resolution.numbers, strict=True):
            if isinstance(number, str):
                if "/" in number:  # leased from another pool, when an earlier page matched that
                    number, _, index = number.partition("/")
                    pool = int(index) - 1
                remembered[on_page] = (now, number)
                replaced.append((sent, number, _local(account, pool, sent, on_page, number)))
        if remembered and not ask.bare:
            self._memory.keep(account.name, resolution.session_id, remembered, now)
        if self._access_log:
            call.outcome = _outcome(call, account, ask, resolution)
        return wire.render(replaced, resolution.session_id)

    def _from_memory(self, call: Call, account: Account, ask: Ask, shown: list[str]) -> bytes:
        """Answer a session that was answered lately without the store; it keeps its numbers.

        Raises:
            Fault: `STORE_UNAVAILABLE`, for all others; `BLOCKED_IP`.
        """
        now = time.monotonic()
        replaced = []
        for sent, (on_page, pool) in zip(shown, ask.pages, strict=True):
            lease_s = account.pools[pool].idle_ttl_ms / 1000 if pool >= 0 else _REMEMBERED_S
            since = now - min(lease_s, _REMEMBERED_S)
            number = self._memory.recall(account.name, ask.session_id, on_page, since)
            if number is not None:
                replaced.append((sent, number, _local(account, pool, sent, on_page, number)))
        if not replaced:
            raise Fault(Kind.STORE_UNAVAILABLE)
        if not self._windows.take(ask.ip, account.per_second, now):
            raise Fault(Kind.BLOCKED_IP, account.per_second, retry_after=1)
        self._counts.add("from_memory")
        call.outcome = "from_memory"
        return wire.render(replaced, ask.session_id)

    # HTTP ---------------------------------------------------------------------------------------------------------

    async def handle(self, request: web.BaseRequest) -> Answer:
        """Read the request, answer it by `resolve`, and count it."""
        headers = request.headers
        if hdrs.EXPECT in headers and request.version >= HttpVersion11:
            await _meet_expectation(request)
        try:
            length = headers.get(hdrs.CONTENT_LENGTH)
            if length is not None and request.content.is_eof() and int(length) <= wire.BODY_MOST:
                body = request.content.read_nowait()  # as a rule it came with the head
            else:
                body = await self._receive(request, length)
        except HTTPException:
            raise
        except Exception:
            self._counts.unread(400)
            raise web.HTTPBadRequest from None
        started = time.monotonic()
        signatures = signature.sent(headers.getall(X_SIGN, ()), request.raw_path.partition("?")[2])
        client = self._client_ip.find(request.remote, tuple(headers.getall(self._ip_header, ())))
        call = Call(body, signatures, client, started + self._wait_s)
        if hdrs.CONTENT_ENCODING in headers and body is not _OVERSIZED:
            call.body, call.coded = self._inflated(body, ",".join(headers.getall(hdrs.CONTENT_ENCODING))), body
        retry_after = None
        status, outcome = 200, "success"
        try:
            answer = await self.resolve(call)
        except Fault as fault:
            answer, status, outcome = wire.render_fault(fault), fault.kind.status, fault.kind.label
            retry_after = fault.retry_after
        except Exception:
            _log.exception("a request failed")
            kind = Kind.INTERNAL_ERROR
            answer, status, outcome = wire.render_fault(Fault(kind)), kind.status, kind.label
        took_s = time.monotonic() - started
        self._counts.request(outcome, took_s)
        if self._access_log:
            log_access(
                account=call.account,
                ip=call.client.kept,
                status=status,
                outcome=call.outcome if outcome == "success" else outcome,
                took_s=took_s,
                size=len(answer),
            )
        limits = call.limits if retry_after is None else f"{call.limits}Retry-After: {retry_after}\r\n"
        response = Answer(status if X_HTTP_STATUSES in headers else 200, answer, limits)
        if body is _OVERSIZED:
            response.force_close()  # what is left of the body is not worth reading
        return response

    async def _receive(self, request: web.BaseRequest, length: str | None) -> bytes:
        """A body that did not come with its head, or is larger than it may be, or comes in chunks.

        Raises:
            HTTPNotImplemented, HTTPRequestTimeout; whatever the connection broke with.
        """
        if length is None and request.headers.get(hdrs.TRANSFER_ENCODING, "chunked").lower() != "chunked":
            raise web.HTTPNotImplemented  # it is framed by chunks, but coded before that
        if length is not None and int(length) > wire.BODY_MOST:
            return _OVERSIZED
        if request.content.is_eof():
            return request.content.read_nowait()
        try:
            async with asyncio.timeout(self._body_s):
                return await request.read()
        except TimeoutError:
            self._counts.unread(408)
            raise web.HTTPRequestTimeout from None
        except HTTPRequestEntityTooLarge:
            return _OVERSIZED

    def _inflated(self, body: bytes, coding: str) -> bytes:
        """A body as it was before it was coded, within the limit of any body: its account is named in it.

        Raises:
            HTTPUnsupportedMediaType: the coding is not read.
        """
        try:
            return inflate(body, coding, wire.BODY_MOST)
        except CodingError as error:
            self._counts.unread(415)
            text = orjson.dumps({"success": False, "error": str(error)}).decode()
            raise web.HTTPUnsupportedMediaType(
                text=text, content_type="application/json", headers={hdrs.ACCEPT_ENCODING: "gzip, deflate"}
            ) from None
        except TooLargeError:
            return _OVERSIZED
        except MalformedError:
            return b""  # no JSON either


async def _meet_expectation(request: web.BaseRequest) -> None:
    """Ask for the body of a client that waits to be asked. Raises: HTTPExpectationFailed."""
    if request.headers[hdrs.EXPECT].lower() != "100-continue":
        raise web.HTTPExpectationFailed
    await ask_for_body(request)


def _outcome(call: Call, account: Account, ask: Ask, resolution: Resolution) -> str:
    """Of an answer, the first of these that holds of a number on its page, for the access log.

    `crawler`, `dry_run`: it stays, because nothing is spent on such. `original`: it stays, because its pool had none
    free. `shared`: it was shown its pool's shared number. `no_pool`: it stays, because no pool and no source replaces
    it; of a page where others were replaced this is not told. `success`: none of these.
    """
    kept = shared = unserved = served = False
    for (_, pool), number in zip(ask.pages, resolution.numbers, strict=True):
        if number is False:
            kept |= pool >= 0
            unserved |= pool < 0
        elif pool >= 0 and number == account.pools[pool].shared_number:
            shared = True
        else:
            served = True
    if kept:
        return call.bare or "original"
    if shared:
        return "shared"
    return "no_pool" if unserved and not served else "success"


def _local(account: Account, pool: int, sent: str, on_page: str, number: str) -> str:
    pattern = account.pools[pool].pattern if pool >= 0 else None  # a source's number has none
    return show_number(number, account.displays.get(number), pattern, sent, on_page)


async def _read_ahead(numbers: Sequence[str], region: str) -> None:
    """Read many numbers, so that they are known when they are asked for, in as many turns of the loop as it takes."""
    turn = time.monotonic()
    for sent in numbers:
        read_number(sent, region)
        if time.monotonic() - turn > _TURN_S:
            await asyncio.sleep(0)
            turn = time.monotonic()


def _is_session_id(text: str) -> bool:
    return len(text) == 36 and text.replace("-", "").isalnum() and text.isascii()
