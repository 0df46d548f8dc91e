"""Answers the static numbers API: body → token → fields → limiter → points and number, in this order (CONTRACT §4)."""

import asyncio
import hmac
import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from aiohttp import hdrs, web
from cachetools import TTLCache

from edgeproxy.client_ip import ClientIP
from edgeproxy.errors import Fault
from edgeproxy.json_body import receive
from edgeproxy.model import Account, rate_limits
from edgeproxy.settings import Settings
from edgeproxy.static import wire
from edgeproxy.store import Store
from edgeproxy.store.functions import NotDurableError, RefusedError, UncertainError
from edgeproxy.store.static import Spent, Static, spent
from edgeproxy.telemetry import Counts

PATH = "/phone-service/v1/api/calltracking/ad-platform/phone/"
METHODS = ("update", "create", "delete", "list")

_log = logging.getLogger(__name__)
_ACCESS_TOKEN, _SITE_ID = "Access-Token", "SiteId"
_BODY_S = 10  # that a body may take to arrive
_ACCOUNT_S = 5
_OFFENDERS_KEPT = 65_536
_SHUT_OUT_S = 60
_CODES = {
    400: "VALIDATION_ERROR", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT", 429: "TOO_MANY_REQUESTS", 500: "INTERNAL_ERROR",
}  # fmt: skip


class _Refusal(Exception):
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        violations: list[wire.Violation] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.violations = violations
        self.retry_after = retry_after


@dataclass(slots=True)
class _Call:
    """One request on its way through, with what its answer's headers want of it."""

    account: Account | None = None
    window_left: int = 0
    spent: Spent | None = None


@dataclass(slots=True)
class _Offences:
    """An IP's bad access tokens of a minute."""

    count: int = 0


class StaticAPI:
    """Serves `PATH` of the manage port."""

    def __init__(self, store: Store, settings: Settings, counts: Counts) -> None:
        self._store = store
        self._static = Static(store, settings.durable_replicas)
        self._counts = counts
        self._bad_tokens_most = settings.bad_logins_per_minute
        self._client_ip = ClientIP(settings.trusted_proxies, settings.client_ip_header)
        self._offences: TTLCache[str, _Offences] = TTLCache(_OFFENDERS_KEPT, _SHUT_OUT_S)

    async def answer(self, request: web.Request, call: _Call) -> bytes:
        """The body of a success: its path through this API.

        Raises:
            _Refusal, wire.MalformedError, wire.InvalidError, RefusedError, Fault, NotDurableError, UncertainError.
        """
        method = request.match_info["method"]
        ip = self._client_ip.find(request.remote, tuple(request.headers.getall(self._client_ip.header, ()))).counted
        body = await receive(request.content, request.content_length, wire.BODY_MOST, _BODY_S)
        # After the body, lest a token serve that is revoked while the rest of it is held back.
        account = call.account = await self._authenticate(request, ip)
        tree = wire.parse(body)
        match method:
            case "list":
                numbers = wire.check_many(tree).phone_numbers
                await self._admit(call, account, ip)
                records, call.spent = await self._static.read(account, numbers)
                return orjson.dumps([_listed(number, parts) for number, parts in zip(numbers, records, strict=True)])
            case "delete":
                number = wire.check_one(tree).phone_number
                await self._admit(call, account, ip)
                call.spent = await self._static.change(account, "delete", number, {})
            case _:
                change = wire.check_change(tree)
                await self._admit(call, account, ip)
                what: Literal["create", "update"] = "create" if method == "create" else "update"
                call.spent = await self._static.change(account, what, change.phone_number, change.parts())
        return b""

    async def _authenticate(self, request: web.Request, ip: str) -> Account:
        """The account whose token and site these are."""
        tokens = request.headers.getall(_ACCESS_TOKEN, ())
        if (offences := self._offences.get(ip)) is not None and offences.count >= self._bad_tokens_most:
            raise _Refusal(429, "too many bad access tokens from this address", retry_after=_SHUT_OUT_S)
        name = await self._static.account_of(tokens[0]) if len(tokens) == 1 and tokens[0] else None
        account = await self._store.account(name, time.monotonic() + _ACCOUNT_S) if name else None
        if account is None or account.site is None:
            if tokens:
                if (offences := self._offences.get(ip)) is None:
                    offences = self._offences[ip] = _Offences()  # setting it begins its minute
                offences.count += 1
            raise _Refusal(401, f"{_ACCESS_TOKEN}: is missing or unknown")
        sites = request.headers.getall(_SITE_ID, ())
        if len(sites) != 1 or not hmac.compare_digest(sites[0].encode(errors="surrogateescape"), account.site.encode()):
            raise _Refusal(403, f"{_SITE_ID}: is not the site of this access token")
        return account

    async def _admit(self, call: _Call, account: Account, ip: str) -> None:
        window = await self._static.admit(ip, account.per_second)
        if not window.passed:
            message = f"more than {account.per_second} requests per second"
            raise _Refusal(429, message, retry_after=-(-window.wait_ms // 1000))
        call.window_left = window.left

    # HTTP ---------------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request, whatever becomes of it."""
        call = _Call()
        try:
            if request.match_info["method"] not in METHODS:
                raise _Refusal(404, "there is no such method")
            if request.method != hdrs.METH_POST:
                raise _Refusal(405, "only POST is allowed")
            body = await self.answer(request, call)
            response = web.Response(body=body, content_type="application/json" if body else None)
        except _Refusal as refusal:
            response = _refuse(refusal)
        except wire.MalformedError as malformed:
            response = _refuse(_Refusal(400, str(malformed)))
        except web.RequestPayloadError:
            response = _refuse(_Refusal(400, "the body is not in the encoding that it announces"))
        except wire.InvalidError as invalid:
            response = _refuse(_Refusal(400, "the request is not valid", violations=invalid.violations))
        except RefusedError as refused:
            response = _refuse(_of_store(refused, call))
        except NotDurableError:
            text = "the change was made, but is not known to be safe on disk: look before you repeat it"
            response = _refuse(_Refusal(500, text))
        except UncertainError:
            response = _refuse(_Refusal(500, "it is not known whether the change was made: look before you repeat it"))
        except Fault as fault:
            response = _refuse(_Refusal(500, fault.text))
        except (web.HTTPException, asyncio.CancelledError):
            raise
        except Exception:
            _log.exception("a request of the static numbers API failed")
            response = _refuse(_Refusal(500, "internal error"))
        if call.account is not None and call.spent is not None:
            left = call.spent
            response.headers.update(rate_limits(call.account, call.window_left, left.points_left, left.day_left_ms))
        self._counts.static_request(response.status)
        return response


def _listed(number: str, parts: dict[str, Any]) -> dict[str, Any]:
    return {"phoneNumber": number.removeprefix("+"), **wire.show(parts)}


def _of_store(refused: RefusedError, call: _Call) -> _Refusal:
    if refused.why == "points":
        call.spent = spent(refused.detail)
        retry_after = -(-call.spent.day_left_ms // 1000)
        return _Refusal(429, "the daily point budget is exhausted", retry_after=retry_after)
    if refused.why == "missing":
        number = str(refused.detail.get("number", "")).removeprefix("+")
        return _Refusal(404, f"phoneNumber: {number + ' ' if number else ''}is no static number of this site")
    return _Refusal(409, "phoneNumber: is not in the state that this needs: update and delete want a number in use, "
                    "create a free one")  # fmt: skip


def _refuse(refusal: _Refusal) -> web.Response:
    data: dict[str, Any] = {"apiErrorData": {"errorCode": _CODES[refusal.status], "errorMessage": refusal.message}}
    if refusal.violations is not None:
        violations = [{"field": violation.field, "message": violation.message} for violation in refusal.violations]
        data["validationErrorData"] = {"violations": violations}
    headers = {} if refusal.retry_after is None else {str(hdrs.RETRY_AFTER): str(refusal.retry_after)}
    if refusal.status == 405:
        headers[str(hdrs.ALLOW)] = hdrs.METH_POST
    return web.Response(
        status=refusal.status, body=orjson.dumps({"data": data}), content_type="application/json", headers=headers
    )
