"""The ladder on which each API of the manage port answers a request, whatever becomes of it.

A room (an API's folder) says what differs: its paths, who may ask, how large a body may be, what it does, how its
refusals look, and what it says of faults that are not the client's. `POST /api` takes the same steps in one function of
its own, `dynamic/handler.py`: it is asked so often that each call counts.
"""

import abc
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from aiohttp import hdrs, web

from edgeproxy.accounts.account import Account
from edgeproxy.errors import Fault, NotDurableError, UncertainError
from edgeproxy.http.access import ACCESS_TOKEN, SHUT_OUT_S, Access, Offenders, ShutOutError, UnknownTokenError
from edgeproxy.http.body import CodingError, MalformedError, inflate, receive
from edgeproxy.http.client_ip import Client, ClientIP
from edgeproxy.settings import Settings
from edgeproxy.store import Store
from edgeproxy.telemetry import audit
from edgeproxy.telemetry.metrics import Counts

_log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that is answered with an error: its HTTP status, and what is wrong, line by line.

    `retry_after` is the seconds after which trying again can help; `headers` are the answer's.
    """

    def __init__(
        self, status: int, *errors: str, retry_after: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, errors)
        self.status = status
        self.errors = errors
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers[str(hdrs.RETRY_AFTER)] = str(retry_after)


@dataclass(frozen=True, slots=True)
class OwnFaults:
    """What an API says of faults that are not the client's, and by which HTTP status.

    `fault` has a `{}` where the fault's text goes; `internal` comes with 500.
    """

    status: int
    not_durable: str
    uncertain: str
    fault: str
    internal: str


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker process gives its rooms."""

    store: Store
    settings: Settings
    counts: Counts
    offenders: Offenders


@dataclass(slots=True)
class Call:
    """One request on its way, and what becomes known of it."""

    request: web.Request
    client: Client
    account: Account | None = None  # whose the one who asks is, once that is proved
    who: str = ""  # asks, as the audit names them
    limits: str = ""  # header lines of the answer: RateLimit-Policy and RateLimit

    def write(
        self,
        what: str,
        *,
        record: str | None = None,
        fields: Iterable[str] = (),
        refusals: tuple[type[Exception], ...] = (),
    ) -> contextlib.AbstractContextManager[audit.Write]:
        """A context in which a write is made, for the audit to tell of; see `audit.write`."""
        return audit.write(
            what,
            who=self.who,
            ip=self.client.kept,
            account=self.account.name if self.account else None,
            record=record,
            fields=fields,
            refusals=refusals,
        )


class Endpoint(abc.ABC):
    """An API of the manage port; see the module."""

    NAME: ClassVar[str]  # in metrics and logs
    BODY_S: ClassVar[float] = 10  # that a body may take to arrive
    OWN_FAULTS: ClassVar[OwnFaults]

    def __init__(self, worker: Worker) -> None:
        settings = worker.settings
        self.client_ip = ClientIP(settings.trusted_proxies, settings.client_ip_header)
        self._counts = worker.counts
        self._access = Access(worker.store, worker.offenders)

    @abc.abstractmethod
    def routes(self) -> Iterable[web.RouteDef]:
        """Its paths."""

    @abc.abstractmethod
    async def answer(self, call: Call) -> web.Response:
        """The answer of success: the request's path through this API.

        Raises:
            Refusal, and all else that `_refusal` knows.
        """

    @abc.abstractmethod
    def refuse(self, call: Call, refusal: Refusal) -> web.Response:
        """The answer that is a refusal."""

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request, whatever becomes of it."""
        began = time.monotonic()
        call = Call(request, self.client_ip.find(request.remote, self.forwarded(request)))
        try:
            response = await self.answer(call)
        except web.HTTPException:
            raise
        except Exception as error:
            response = self.refuse(call, self._refusal(error))
        if call.limits:
            response.headers.update(dict(line.split(": ", 1) for line in call.limits.splitlines()))
        self._counts.answered(self.NAME, response.status, time.monotonic() - began)
        return response

    def forwarded(self, request: web.Request) -> tuple[str, ...]:
        """What proxies say of the client."""
        return tuple(request.headers.getall(self.client_ip.header, ()))

    async def prove(self, call: Call) -> Account:
        """Whose access token the request brings.

        Raises:
            ShutOutError, UnknownTokenError, Refusal.
            Fault: `STORE_UNAVAILABLE`.
        """
        bearer = await self._access.bearer(call.request.headers.getall(ACCESS_TOKEN, ()), call.client.counted)
        call.who = f"token:{bearer.mark}"
        return bearer.account

    async def take_in(self, call: Call, most: int) -> tuple[Account, bytes]:
        """Who asks, by `prove`; and the body, of at most `most` bytes.

        Raises:
            MalformedError, CodingError, and what `prove` does.
        """
        request = call.request
        if not request.content.is_eof():
            await self.prove(call)  # nobody else's body is waited for, nor kept
        body = await receive(request.content, request.content_length, most, self.BODY_S)
        # After the body too, lest a token serve that is revoked while the rest of it is held back.
        account = call.account = await self.prove(call)
        return account, inflate(body, coding(request), most)

    def _refusal(self, error: Exception) -> Refusal:
        """What an exception is to the client."""
        own = self.OWN_FAULTS
        match error:
            case Refusal():
                return error
            case ShutOutError():
                return Refusal(429, "too many bad access tokens from this address", retry_after=SHUT_OUT_S)
            case UnknownTokenError():
                return Refusal(401, f"{ACCESS_TOKEN}: is missing or unknown")
            case MalformedError():
                return Refusal(400, str(error))
            case web.RequestPayloadError():
                return Refusal(400, "the body is broken")
            case CodingError():
                return Refusal(415, str(error))
            case NotDurableError():
                return Refusal(own.status, own.not_durable)
            case UncertainError():
                return Refusal(own.status, own.uncertain)
            case Fault():
                return Refusal(own.status, own.fault.format(error.text))
            case _:
                _log.error("a request of the %s API failed", self.NAME, exc_info=error)
                return Refusal(500, own.internal)


def coding(request: web.Request) -> str:
    """The body's `Content-Encoding`; empty where there is none."""
    return ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, ()))
