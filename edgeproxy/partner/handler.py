"""Answers the partner REST API: who asks, what for, and in which format (`README.md`)."""

import asyncio
import contextlib
import re
import secrets
import time
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import hdrs, web

from edgeproxy.accounts.account import Account
from edgeproxy.http.access import SHUT_OUT_S, ShutOutError
from edgeproxy.http.aside import aside
from edgeproxy.http.endpoint import Call, Endpoint, OwnFaults, Refusal, Worker
from edgeproxy.http.target import resource
from edgeproxy.partner import digest, wire
from edgeproxy.partner.render import Format, Tree, negotiate, render
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.partner.resources.operation import SMALL_BODY_MOST, Operation
from edgeproxy.store.partner import Partner
from edgeproxy.store.users import Users

_UPLOADS_AT_ONCE = 2  # bodies with a sound, of an account
_LARGE = 8 * 1024  # bytes of a body that is read beside the loop
_SLOW_BODY_S = 1  # after which its sender has to prove itself once more
_ACCOUNT_S = 5  # for reading an account
_KEY_AGAIN_S = 1  # between readings of the nonces' key for the sake of nonces that it did not sign
_NO_ONE = {"SHA-256": secrets.token_hex(32), "MD5": secrets.token_hex(16)}  # the HA1s of users that there are not
_MANY = 100  # records, from which on their rendering leaves the loop alone
_FORM = web.RequestKey("form", Format)  # what the answer is written in


class _Unauthorized(Exception):
    """No credentials, or none that are good: 401, with a challenge."""

    def __init__(self, *, stale: bool = False) -> None:
        super().__init__(stale)
        self.stale = stale


class PartnerAPI(Endpoint):
    """Serves `/<version>/…` of the manage port."""

    NAME = "partner"
    BODY_S = 30
    OWN_FAULTS = OwnFaults(
        status=503,
        not_durable="the change was made, but is not known to be safe on disk: look before you repeat it",
        uncertain="the store did not reply: it is not known whether the change was made: look before you repeat it",
        fault="{}: try again later",
        internal="Internal error",
    )

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._store = worker.store
        self._settings = worker.settings
        self._offenders = worker.offenders
        self._partner = Partner(worker.store, worker.settings.durable_replicas)
        self._users = Users(worker.store)
        forwarded = worker.settings.client_ip_header == "forwarded"
        self._proto_header = "forwarded" if forwarded else "x-forwarded-proto"
        self._uploads: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._nonces: digest.Nonces | None = None
        self._nonces_read = 0.0

    def routes(self) -> list[web.RouteDef]:
        """All that is below a version, whichever it is."""
        path = r"/{version:[0-9][0-9.]*}/{path:(?s:.*)}"
        return [web.route("*", path, self.handle, expect_handler=_leave_expectation)]

    async def answer(self, call: Call) -> web.Response:
        """Format and target → what is asked → the answer in its format."""
        request = call.request
        form = request[_FORM] = negotiate(",".join(request.headers.getall(hdrs.ACCEPT, ())))
        target = wire.read_target(request, self._settings.api_version)
        form = request[_FORM] = target.form or form
        try:
            tree = await self._run(call, target)
        except _Unauthorized as unauthorized:
            return await self._challenge(stale=unauthorized.stale)
        except ShutOutError:
            text = "too many failed logins from this address: try again later"
            raise Refusal(403, text, retry_after=SHUT_OUT_S) from None
        if any(isinstance(value, list) and len(value) > _MANY for value in tree.values()):
            body = await aside(render, tree, form)  # visitors' requests share this loop
        else:
            body = render(tree, form)
        return wire.respond(200, body, form)

    def refuse(self, call: Call, refusal: Refusal) -> web.Response:
        """The errors, line by line, in the answer's format."""
        return wire.respond(refusal.status, {"errors": list(refusal.errors)}, call.request[_FORM], refusal.headers)

    async def _run(self, call: Call, target: wire.Target) -> Tree:
        """HTTPS → user and network → operation → body → fields → what the operation does.

        Raises:
            _Unauthorized, ShutOutError, Refusal, MalformedError, CodingError, NotDurableError, UncertainError, Fault.
        """
        request = call.request
        if hdrs.HOST not in request.headers:
            raise Refusal(400, "a Host header is required")
        self._require_https(request)
        account = call.account = await self.prove(call)
        method = wire.read_method(request, target)
        operation, ids = _route(method, target.path)
        async with self._place(operation, account):
            began = time.monotonic()
            body = await wire.receive_body(request, operation, self.BODY_S)
            if time.monotonic() - began > _SLOW_BODY_S:  # the user may have been shut out meanwhile
                await self._still_there(call, account)
            if len(body.content) > _LARGE or body.coding:
                checked = await aside(wire.read, operation, target.query, body, ids, account)
            else:
                checked = wire.read(operation, target.query, body, ids, account)
            del body
        if not operation.writes:
            return await operation.run(self._partner, account, checked)
        named = checked.model_dump(by_alias=True, exclude_unset=True)
        record = named.pop(operation.id_field, None)
        with call.write(operation.writes, record=record, fields=named, refusals=(Refusal,)) as write:
            tree = await operation.run(self._partner, account, checked)
            if record is None:
                ((_, (made,)),) = tree.items()
                write.record = made[operation.id_field]
        return tree

    def _place(self, operation: Operation, account: Account) -> contextlib.AbstractAsyncContextManager[Any]:
        """Where a body may be large: of an account so many are taken in at once, and others wait unread."""
        if operation.body_most == SMALL_BODY_MOST:
            return contextlib.nullcontext()
        return self._uploads.setdefault(account.name, asyncio.Semaphore(_UPLOADS_AT_ONCE))

    # Access -------------------------------------------------------------------------------------------------------

    def _require_https(self, request: web.Request) -> None:
        https: bool | None = request.secure
        if not https:
            https = self.client_ip.is_https(request.remote, tuple(request.headers.getall(self._proto_header, ())))
        if https is None and self._settings.allow_plain_http:
            https = all(
                self.client_ip.address(request.remote, lines).is_loopback for lines in ((), self.forwarded(request))
            )
        if https:
            return
        raise Refusal(403, "this API takes HTTPS requests only")

    async def prove(self, call: Call) -> Account:
        """The account whose user asks, by HTTP Digest and the account's list of networks.

        Raises:
            _Unauthorized, ShutOutError, Refusal, Fault.
        """
        request, ip = call.request, call.client.counted
        self._offenders.refuse(ip)
        header = request.headers.getall(hdrs.AUTHORIZATION, ())
        credentials = digest.read(header[0]) if len(header) == 1 else None
        if credentials is None:
            raise _Unauthorized
        now = time.time()
        nonces = await self._known_nonces(credentials.nonce)
        if not nonces.is_good(credentials.nonce, now) or int(credentials.count, 16) > digest.COUNT_MOST:
            raise _Unauthorized(stale=True)
        if resource(credentials.uri, self._settings.path_prefix) != request.raw_path:
            raise Refusal(400, "the uri of the Authorization header is another one than the request's")
        async with self._offenders.turn(ip):
            account = await self._account_of(call, credentials)
        life_ms = (digest.NONCE_LIFE_S + digest.AHEAD_S) * 1000
        if not await self._users.take_nonce(credentials.nonce, int(credentials.count, 16), life_ms):
            raise _Unauthorized(stale=True)
        call.who = f"user:{credentials.username}"
        return account

    async def _account_of(self, call: Call, credentials: digest.Credentials) -> Account:
        """The account of the user who proves to know the password, from one of the account's networks."""
        request, ip = call.request, call.client.counted
        user = await self._offenders.look(ip, self._users.get(credentials.username))
        password_hash = (user.ha1 if user else _NO_ONE)[credentials.algorithm]
        proved = digest.proves(credentials, password_hash, request.method)
        account = None
        if proved and user is not None:  # a wrong password waits for no more than a wrong name does
            account = await self._store.account(user.account, time.monotonic() + _ACCOUNT_S)
        address = self.client_ip.address(request.remote, self.forwarded(request))
        if account is None or not any(address in network for network in account.networks):
            await self._offenders.add(ip)
            raise _Unauthorized
        return account

    async def _still_there(self, call: Call, account: Account) -> None:
        credentials = digest.read(call.request.headers[hdrs.AUTHORIZATION])
        if credentials is None or (await self._account_of(call, credentials)).name != account.name:
            raise _Unauthorized

    async def _known_nonces(self, nonce: str = "") -> digest.Nonces:
        """The nonces of all nodes; for one that their key did not sign, the key is read again."""
        nonces, now = self._nonces, time.monotonic()
        strange = nonces is not None and nonce != "" and not nonces.knows(nonce)
        if nonces is None or (strange and now - self._nonces_read > _KEY_AGAIN_S):
            nonces = self._nonces = digest.Nonces(await self._users.nonce_key())
            self._nonces_read = now
        return nonces

    async def _challenge(self, *, stale: bool) -> web.Response:
        """A 401, and how to prove who asks. Raises: Fault."""
        nonce = (await self._known_nonces()).make(time.time())
        response = web.Response(status=401, text="401: Unauthorized\n")
        for line in digest.challenges(nonce, stale=stale):
            response.headers.add(hdrs.WWW_AUTHENTICATE, line)
        return response


async def _leave_expectation(request: web.Request) -> None:
    """Ask for no body yet: `Expect: 100-continue` is answered once the client is known."""


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>0|[1-9][0-9]{0,11})", path))


_ROUTES = [(_pattern(path), operation) for operation in OPERATIONS for path in operation.paths]


def _route(method: str, path: str) -> tuple[Operation, dict[str, str]]:
    """The operation, and the ids that the path holds."""
    allowed = []
    for pattern, operation in _ROUTES:
        if found := pattern.fullmatch(path):
            if operation.method == method:
                return operation, found.groupdict()
            allowed.append(operation.method)
    if allowed:
        names = ", ".join(sorted({*allowed, *(["HEAD"] if "GET" in allowed else [])}))
        raise Refusal(405, f"{method} is not allowed here", headers={str(hdrs.ALLOW): names})
    raise Refusal(404, f"there is no resource {wire.shown(path)}")
