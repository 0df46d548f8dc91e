"""Answers the partner REST API: who asks, what for, and in which format (`README.md`)."""

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote
from weakref import WeakValueDictionary

from aiohttp import HttpVersion11, hdrs, web
from cachetools import TTLCache
from pydantic import ValidationError

from edgeproxy import wording
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.number import form_value
from edgeproxy.errors import Fault, NotDurableError, UncertainError
from edgeproxy.http import body as json_body
from edgeproxy.http.aside import aside
from edgeproxy.http.client_ip import ClientIP
from edgeproxy.http.target import resource
from edgeproxy.partner import digest
from edgeproxy.partner.render import FORBIDDEN_IN_XML, Format, Tree, negotiate, render
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.partner.resources.operation import SMALL_BODY_MOST, Operation
from edgeproxy.partner.resources.records import NUMBERS
from edgeproxy.partner.resources.refusals import Refusal
from edgeproxy.settings import Settings
from edgeproxy.store import Store
from edgeproxy.store.partner import Partner
from edgeproxy.telemetry import audit
from edgeproxy.telemetry.metrics import Counts

FIELDS_MOST = 200
FORMS = ("application/x-www-form-urlencoded", "application/x-www-form-urlencode", "")  # the documents' spelling too
METHODS = ("GET", "POST", "PUT", "DELETE")
_JSON = "application/json"

_log = logging.getLogger(__name__)
_BODY_S = 30  # that a body may take to arrive
_UPLOADS_AT_ONCE = 2  # bodies with a sound, of an account
_LARGE = 8 * 1024  # bytes of a body that is read beside the loop
# Of a body beyond SMALL_BODY_MOST, which only a sound in base64 makes so large: what else makes it slow to read.
_VALUES_MOST = 100  # of JSON
_ESCAPES_MOST = 250_000  # of a form
_NOT_ASCII_MOST = 1000  # bytes
_ASCII = bytes(range(128))
_SLOW_BODY_S = 1  # after which its sender has to prove itself once more
_ACCOUNT_S = 5  # for reading an account
_BLOCKED_S = 60
_BLOCKED_MOST = 8192  # client IPs that a worker remembers as blocked
_KEY_AGAIN_S = 1  # between readings of the nonces' key for the sake of nonces that it did not sign
_NO_ONE = {"SHA-256": secrets.token_hex(32), "MD5": secrets.token_hex(16)}  # the HA1s of users that there are not
_MANY = 100  # records, from which on their rendering leaves the loop alone
_PLACE = re.compile(r"(\[[0-9]{0,6}\])?")  # behind a list's name, of one of its items
_FIELD_SHOWN = 64  # characters of a field's name that an error repeats


class _Unauthorized(Exception):
    """No credentials, or none that are good: 401, with a challenge."""

    def __init__(self, *, stale: bool = False) -> None:
        super().__init__(stale)
        self.stale = stale


@dataclass(frozen=True, slots=True)
class _Target:
    """What a request's target asks for: the path below the version without an extension, and the query."""

    path: str
    query: list[tuple[str, str]]
    form: Format | None  # the extension's


class PartnerAPI:
    """Serves `/<version>/…` of the manage port."""

    def __init__(self, store: Store, settings: Settings, counts: Counts) -> None:
        self._store = store
        self._partner = Partner(store, settings.durable_replicas)
        self._settings = settings
        self._counts = counts
        self._client_ip = ClientIP(settings.trusted_proxies, settings.client_ip_header)
        forwarded = settings.client_ip_header == "forwarded"
        self._proto_header = "forwarded" if forwarded else "x-forwarded-proto"
        self._blocked: TTLCache[str, bool] = TTLCache(_BLOCKED_MOST, _BLOCKED_S)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._uploads: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._nonces: digest.Nonces | None = None
        self._nonces_read = 0.0

    async def answer(self, request: web.Request, target: _Target) -> Tree:
        """What a request is answered with on success: its path through this API.

        Raises:
            Refusal, _Unauthorized, Fault, NotDurableError.
        """
        if hdrs.HOST not in request.headers:
            raise Refusal(400, "a Host header is required")
        self._require_https(request)
        account, user = await self._authenticate(request)
        method = _method(request, target)
        operation, ids = _route(method, target.path)
        async with self._place(operation, account):
            began = time.monotonic()
            body = await _body(request, operation)
            if time.monotonic() - began > _SLOW_BODY_S:  # the user may have been shut out meanwhile
                await self._still_there(request, account)
            if len(body.content) > _LARGE or body.coding:
                checked = await aside(_read, operation, target.query, body, ids, account)
            else:
                checked = _read(operation, target.query, body, ids, account)
            del body
        if not operation.writes:
            return await operation.run(self._partner, account, checked)
        named = checked.model_dump(by_alias=True, exclude_unset=True)
        record = named.pop(operation.id_field, None)
        with audit.write(
            operation.writes, who=f"user:{user}", ip=self._client_ip.find(request.remote, self._lines(request)).kept,
            account=account.name, record=record, fields=named, refusals=(Refusal,),
        ) as write:  # fmt: skip
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
            https = self._client_ip.is_https(request.remote, tuple(request.headers.getall(self._proto_header, ())))
        if https is None and self._settings.allow_plain_http:
            https = all(
                self._client_ip.address(request.remote, lines).is_loopback for lines in ((), self._lines(request))
            )
        if https:
            return
        raise Refusal(403, "this API takes HTTPS requests only")

    async def _authenticate(self, request: web.Request) -> tuple[Account, str]:
        """The account whose user asks, by HTTP Digest and the account's list of networks; and the user's name."""
        ip = self._client_ip.find(request.remote, self._lines(request)).counted
        if ip in self._blocked:
            raise _too_many_failures()
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
        async with self._turns.setdefault(ip, asyncio.Lock()):  # so that guesses at once are counted one by one
            account = await self._account_of(request, credentials, ip)
        life_ms = (digest.NONCE_LIFE_S + digest.AHEAD_S) * 1000
        if not await self._partner.take_nonce(credentials.nonce, int(credentials.count, 16), life_ms):
            raise _Unauthorized(stale=True)
        return account, credentials.username

    async def _account_of(self, request: web.Request, credentials: digest.Credentials, ip: str) -> Account:
        """The account of the user who proves to know the password, from one of the account's networks."""
        user, failures = await self._partner.knock(credentials.username, ip)
        if failures >= self._settings.bad_logins_per_minute:
            self._blocked[ip] = True
            raise _too_many_failures()
        password_hash = (user.ha1 if user else _NO_ONE)[credentials.algorithm]
        proved = digest.proves(credentials, password_hash, request.method)
        account = None
        if proved and user is not None:  # a wrong password waits for no more than a wrong name does
            account = await self._store.account(user.account, time.monotonic() + _ACCOUNT_S)
        address = self._client_ip.address(request.remote, self._lines(request))
        if account is None or not any(address in network for network in account.networks):
            await self._partner.failures.add(ip)
            raise _Unauthorized
        return account

    async def _still_there(self, request: web.Request, account: Account) -> None:
        credentials = digest.read(request.headers[hdrs.AUTHORIZATION])
        ip = self._client_ip.find(request.remote, self._lines(request)).counted
        if credentials is None or (await self._account_of(request, credentials, ip)).name != account.name:
            raise _Unauthorized

    def _lines(self, request: web.Request) -> tuple[str, ...]:
        """What proxies say of the client."""
        return tuple(request.headers.getall(self._client_ip.header, ()))

    async def _known_nonces(self, nonce: str = "") -> digest.Nonces:
        """The nonces of all nodes; for one that their key did not sign, the key is read again."""
        nonces, now = self._nonces, time.monotonic()
        strange = nonces is not None and nonce != "" and not nonces.knows(nonce)
        if nonces is None or (strange and now - self._nonces_read > _KEY_AGAIN_S):
            nonces = self._nonces = digest.Nonces(await self._partner.nonce_key())
            self._nonces_read = now
        return nonces

    # HTTP ---------------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request in its format, whatever becomes of it."""
        began = time.monotonic()
        form = negotiate(",".join(request.headers.getall(hdrs.ACCEPT, ())))
        try:
            target = _target(request, self._settings.api_version)
            form = target.form or form
            tree = await self.answer(request, target)
            if any(isinstance(value, list) and len(value) > _MANY for value in tree.values()):
                body = await aside(render, tree, form)  # visitors' requests share this loop
            else:
                body = render(tree, form)
            response = _respond(200, body, form)
        except _Unauthorized as unauthorized:
            response = await self._challenge(unauthorized, form)
        except Refusal as refusal:
            response = _respond(refusal.status, {"errors": list(refusal.errors)}, form, refusal.headers)
        except UncertainError:
            text = "the store did not reply: it is not known whether the change was made: look before you repeat it"
            response = _respond(503, {"errors": [text]}, form)
        except NotDurableError:
            text = "the change was made, but is not known to be safe on disk: look before you repeat it"
            response = _respond(503, {"errors": [text]}, form)
        except Fault as fault:
            response = _respond(503, {"errors": [f"{fault.text}: try again later"]}, form)
        except (web.HTTPException, asyncio.CancelledError):
            raise
        except Exception:
            _log.exception("a request of the partner API failed")
            response = _respond(500, {"errors": ["Internal error"]}, form)
        self._counts.answered("partner", response.status, time.monotonic() - began)
        return response

    async def _challenge(self, unauthorized: _Unauthorized, form: Format) -> web.Response:
        try:
            nonce = (await self._known_nonces()).make(time.time())
        except Fault as fault:
            return _respond(503, {"errors": [f"{fault.text}: try again later"]}, form)
        response = web.Response(status=401, text="401: Unauthorized\n")
        for line in digest.challenges(nonce, stale=unauthorized.stale):
            response.headers.add(hdrs.WWW_AUTHENTICATE, line)
        return response


async def leave_expectation(request: web.Request) -> None:
    """Ask for no body yet: `Expect: 100-continue` is answered once the client is known."""


def _too_many_failures() -> Refusal:
    headers = {str(hdrs.RETRY_AFTER): str(_BLOCKED_S)}
    return Refusal(403, "too many failed logins from this address: try again later", headers=headers)


def _respond(status: int, answer: Tree | bytes, form: Format, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=answer if isinstance(answer, bytes) else render(answer, form),
        content_type=form.value,
        charset="utf-8",
        headers={hdrs.VARY: hdrs.ACCEPT, hdrs.CACHE_CONTROL: "no-store", **(headers or {})},
    )


# What a request asks for ----------------------------------------------------------------------------------------------


def _target(request: web.Request, version: str) -> _Target:
    """Read path, extension and query; `/statistics/cdrs&page=2` works as documented."""
    raw = request.raw_path
    ends = re.search(r"[?&]", raw)
    path, query = (raw[: ends.start()], raw[ends.start() + 1 :]) if ends else (raw, "")
    if ends and ends[0] == "&":
        query = query.replace("?", "&", 1)
    segments = unquote(path, errors="replace").strip("/").split("/")
    if segments[0] != version:
        raise Refusal(404, f"there is no version {_shown(segments[0])} of this API: this is {version}")
    form = None
    for at, segment in enumerate(segments):
        name, dot, extension = segment.rpartition(".")
        if at > 0 and dot:
            form = {"json": Format.JSON, "xml": Format.XML}.get(extension)
            if form is None:
                raise Refusal(404, f"there is no format .{_shown(extension)}: it is .json or .xml")
            segments[at] = name
    return _Target("/".join(segments[1:]), _pairs(query, "the query"), form)


def _pairs(text: str, what: str) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MOST)
        return [(name, form_value(value) if name.partition("[")[0] in NUMBERS else value) for name, value in pairs]
    except UnicodeError:
        raise Refusal(400, f"{what} is not UTF-8") from None
    except ValueError:
        raise Refusal(400, f"{what} has more than {FIELDS_MOST} fields") from None


def _method(request: web.Request, target: _Target) -> str:
    """The method, or what a POST wants instead of it (`README.md`, *Requests*)."""
    in_query = [value for name, value in target.query if name == "_method"]
    target.query[:] = [pair for pair in target.query if pair[0] != "_method"]
    wanted = {value.upper() for value in [*in_query, *request.headers.getall("X-HTTP-Method-Override", ())]}
    if not wanted:
        method = "GET" if request.method == "HEAD" else request.method
    elif request.method != "POST" or len(wanted) > 1:
        raise Refusal(400, "only the method of a POST can be overridden, and by one other")
    else:
        (method,) = wanted
    if method not in METHODS:
        raise Refusal(501, f"the method {_shown(method)} is not implemented")
    return method


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
    raise Refusal(404, f"there is no resource {_shown(path)}")


# Fields ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of a POST, PUT or DELETE as it came, its `Content-Encoding` and its media type."""

    content: bytes = field(default=b"", repr=False)
    coding: str = ""
    kind: str = ""


async def _body(request: web.Request, operation: Operation) -> _Body:
    if operation.method == "GET" or not request.body_exists:
        return _Body()
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        content = await json_body.receive(request.content, request.content_length, operation.body_most, _BODY_S)
    except json_body.MalformedError as malformed:
        raise Refusal(400, str(malformed)) from None
    except web.RequestPayloadError:
        raise Refusal(400, "the body is broken") from None
    kind = request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
    return _Body(content, ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, ())), kind)


def _read(
    operation: Operation, query: list[tuple[str, str]], body: _Body, ids: dict[str, str], account: Account
) -> Any:
    """The operation's fields, from the query, the body and the path, checked."""
    try:
        content = json_body.inflate(body.content, body.coding, operation.body_most)
    except json_body.CodingError as coding:
        raise Refusal(415, str(coding)) from None
    except json_body.MalformedError as malformed:
        raise Refusal(400, str(malformed)) from None
    sent = (query, _body_fields(content, body.kind))
    fields = _merge(*(_gather(pairs, operation.lists) for pairs in sent), ids.items())
    return _check(operation, fields, account)


def _body_fields(content: bytes, kind: str) -> list[tuple[str, Any]]:
    if not content:
        return []
    if len(content) > SMALL_BODY_MOST and (
        (kind == _JSON and sum(map(content.count, (b",", b"[", b"{"))) > _VALUES_MOST)
        or content.count(b"%") > _ESCAPES_MOST
        or len(content.translate(None, _ASCII)) > _NOT_ASCII_MOST
    ):
        raise Refusal(
            400, f"a body of more than {SMALL_BODY_MOST} bytes is for a sound: this one is in too many pieces"
        )
    if kind in FORMS:
        try:
            return list(_pairs(content.decode(), "the form"))
        except UnicodeDecodeError:
            raise Refusal(400, "the form is not UTF-8") from None
    if kind == _JSON:
        return _json_fields(content)
    raise Refusal(400, f"the content type {_shown(kind)} is not taken: it is {FORMS[0]} or {_JSON}")


def _json_fields(content: bytes) -> list[tuple[str, Any]]:
    try:
        tree = json_body.read_object(content)
    except json_body.MalformedError as malformed:
        raise Refusal(400, str(malformed)) from None
    return [(name, _as_text(value)) for name, value in tree.items()]


def _as_text(value: Any) -> Any:
    """Numbers and flags as forms would send them."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and len(value) <= FIELDS_MOST:  # a longer one is none of ours
        return [str(item) if isinstance(item, int | float) else item for item in value]
    return value


def _gather(pairs: list[tuple[str, Any]], lists: frozenset[str]) -> list[tuple[str, Any]]:
    """The pairs, with each list as one value.

    PHP's forms write lists as `a[]=1&a[]=2` or `a[0]=1&a[1]=2`, and its JSON as an object where a number is left out;
    Python's forms as `a=1&a=2`. All of it may be comma separated too.
    """
    gathered: dict[str, Any] = {}
    rest, places = [], set()
    for name, value in pairs:
        of = name.partition("[")[0]
        if of not in lists or not _PLACE.fullmatch(name, len(of)):
            rest.append((name, value))
        elif isinstance(value, dict) and all(key.isdecimal() for key in value):
            rest.append((name, list(value.values())))
        elif not isinstance(value, str):
            rest.append((name, value))
        elif name in places:
            raise Refusal(400, f"{_shown(name)}: stands there twice")
        else:
            if not name.endswith(("[]", of)):
                places.add(name)
            gathered[of] = f"{gathered[of]},{value}" if of in gathered else value
    return [*rest, *gathered.items()]


def _merge(*sources: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """One dict of the query's, the body's and the path's fields.

    An id may stand in more than one of them, if it is the same.
    """
    merged: dict[str, Any] = {}
    for source in sources:
        seen = set()
        for name, value in source:
            if name in seen or merged.get(name, value) != value:
                raise Refusal(400, f"{_shown(name)}: stands there twice")
            seen.add(name)
            merged[name] = value
    return merged


def _check(operation: Operation, fields: dict[str, Any], account: Account) -> Any:
    """The operation's fields, checked; every fault is told at once."""
    try:
        return operation.fields.model_validate(fields, context={"region": account.region})
    except ValidationError as invalid:
        errors = []
        for error in invalid.errors(include_url=False, include_input=False):
            name = _shown(".".join(str(step) for step in error["loc"]))
            errors.append(f"{name}: {wording.why(error)}")
        raise Refusal(400, *dict.fromkeys(errors)) from None


def _shown(text: str) -> str:
    """A part of a request as an error may repeat it."""
    return FORBIDDEN_IN_XML.sub("\ufffd", text[:_FIELD_SHOWN].encode(errors="replace").decode())
