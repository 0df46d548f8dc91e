"""Answers the static numbers API: body → token → fields → limiter → points and number, in this order."""

import asyncio
import hmac
import logging
import time
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson
from aiohttp import hdrs, web

from edgeproxy.accounts.account import Account, rate_limits
from edgeproxy.errors import Fault, NotDurableError, RefusedError, UncertainError
from edgeproxy.http.access import ACCESS_TOKEN, SHUT_OUT_S, Access, Bearer, ShutOutError, UnknownTokenError
from edgeproxy.http.aside import aside
from edgeproxy.http.body import CodingError, inflate, receive
from edgeproxy.http.client_ip import ClientIP
from edgeproxy.numbers import wire
from edgeproxy.settings import Settings
from edgeproxy.store import Store
from edgeproxy.store.static import Spent, Static, spent
from edgeproxy.telemetry import audit
from edgeproxy.telemetry.metrics import Counts

PATH = "/phone-service/v1/api/calltracking/ad-platform/phone/"
Method = Literal["update", "create", "delete", "list"]
METHODS: tuple[Method, ...] = get_args(Method)

_log = logging.getLogger(__name__)
_SITE_ID = "SiteId"
_BODY_S = 10  # that a body may take to arrive
_CODES = {
    400: "VALIDATION_ERROR", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT", 415: "UNSUPPORTED_MEDIA_TYPE", 429: "TOO_MANY_REQUESTS", 500: "INTERNAL_ERROR",
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
    window_left: int | None = None  # None: the limiter was not asked
    spent: Spent | None = None


class StaticAPI:
    """Serves `PATH` of the manage port."""

    def __init__(self, store: Store, settings: Settings, counts: Counts) -> None:
        self._store = store
        self._static = Static(store, settings.durable_replicas)
        self._counts = counts
        self._access = Access(store, settings.bad_logins_per_minute)
        self._client_ip = ClientIP(settings.trusted_proxies, settings.client_ip_header)

    async def answer(self, request: web.Request, method: Method, call: _Call) -> bytes:
        """The body of a success: its path through this API.

        Raises:
            _Refusal, wire.MalformedError, wire.InvalidError, RefusedError, Fault, NotDurableError, UncertainError.
        """
        client = self._client_ip.find(request.remote, tuple(request.headers.getall(self._client_ip.header, ())))
        ip = client.counted
        if not request.content.is_eof():
            await self._authenticate(request, ip)  # nobody else's body is waited for, nor kept
        body = await receive(request.content, request.content_length, wire.BODY_MOST, _BODY_S)
        # After the body too, lest a token serve that is revoked while the rest of it is held back.
        bearer = await self._authenticate(request, ip)
        account = call.account = bearer.account
        coding = ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, ()))
        tree = wire.parse(inflate(body, coding, wire.BODY_MOST))
        if method == "list":
            numbers = (await aside(wire.check_many, tree)).phone_numbers
            await self._admit(call, account, ip)
            records, call.spent = await self._static.read(account, numbers)
            return orjson.dumps([_listed(number, parts) for number, parts in zip(numbers, records, strict=True)])
        if method == "delete":
            number, parts = wire.check_one(tree).phone_number, {}
        else:
            change = wire.check_change(tree)
            number, parts = change.phone_number, change.parts()
        await self._admit(call, account, ip)
        with audit.write(
            f"numbers.{method}", who=f"token:{bearer.mark}", ip=client.kept, account=account.name, record=number,
            fields=parts,
        ):  # fmt: skip
            call.spent = await self._static.change(account, method, number, parts)
        return b""

    async def _authenticate(self, request: web.Request, ip: str) -> Bearer:
        """Whose token and site these are."""
        try:
            bearer = await self._access.bearer(request.headers.getall(ACCESS_TOKEN, ()), ip)
        except ShutOutError:
            raise _Refusal(429, "too many bad access tokens from this address", retry_after=SHUT_OUT_S) from None
        except UnknownTokenError:
            raise _Refusal(401, f"{ACCESS_TOKEN}: is missing or unknown") from None
        sites, site = request.headers.getall(_SITE_ID, ()), bearer.account.site
        if (
            site is None
            or len(sites) != 1
            or not hmac.compare_digest(sites[0].encode(errors="surrogateescape"), site.encode())
        ):
            raise _Refusal(403, f"{_SITE_ID}: is not the site of this access token")
        return bearer

    async def _admit(self, call: _Call, account: Account, ip: str) -> None:
        window = await self._static.admit(ip, account.per_second)
        call.window_left = window.left
        if not window.passed:
            message = f"more than {account.per_second} requests per second"
            raise _Refusal(429, message, retry_after=-(-window.wait_ms // 1000))

    # HTTP ---------------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request, whatever becomes of it."""
        began = time.monotonic()
        call = _Call()
        try:
            if (method := request.match_info["method"]) not in METHODS:
                raise _Refusal(404, "there is no such method")
            if request.method != hdrs.METH_POST:
                raise _Refusal(405, "only POST is allowed")
            body = await self.answer(request, method, call)
            response = web.Response(body=body, content_type="application/json" if body else None)
        except _Refusal as refusal:
            response = _refuse(refusal)
        except wire.MalformedError as malformed:
            response = _refuse(_Refusal(400, str(malformed)))
        except web.RequestPayloadError:
            response = _refuse(_Refusal(400, "the body is broken"))
        except CodingError as coding:
            response = _refuse(_Refusal(415, str(coding)))
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
        if call.account is not None and call.window_left is not None:
            points = (None, 0) if call.spent is None else (call.spent.points_left, call.spent.day_left_ms)
            lines = rate_limits(call.account, call.window_left, *points).splitlines()
            response.headers.update(dict(line.split(": ", 1) for line in lines))
        self._counts.answered("numbers", response.status, time.monotonic() - began)
        return response


def _listed(number: str, parts: dict[str, Any]) -> dict[str, Any]:
    return {"phoneNumber": number.removeprefix("+"), **wire.show(parts)}


def _of_store(refused: RefusedError, call: _Call) -> _Refusal:
    call.spent = spent(refused.detail)
    if refused.why == "points":
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
