"""What the partner REST API reads and writes: paths, queries and bodies in; JSON or XML out (`README.md`)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import HttpVersion11, hdrs, web
from pydantic import ValidationError

from edgeproxy import wording
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.number import form_value
from edgeproxy.http.aiohttp_private import ask_for_body
from edgeproxy.http.body import inflate, read_object, receive
from edgeproxy.http.endpoint import Refusal, coding
from edgeproxy.partner.render import FORBIDDEN_IN_XML, Format, Tree, render
from edgeproxy.partner.resources.operation import SMALL_BODY_MOST, Operation
from edgeproxy.partner.resources.records import NUMBERS

FIELDS_MOST = 200
FORMS = ("application/x-www-form-urlencoded", "application/x-www-form-urlencode", "")  # the second as it is documented
METHODS = ("GET", "POST", "PUT", "DELETE")
_JSON = "application/json"

# Of a body beyond SMALL_BODY_MOST, which only a sound in base64 makes so large: what else makes it slow to read.
_VALUES_MOST = 100  # of JSON
_ESCAPES_MOST = 250_000  # of a form
_NOT_ASCII_MOST = 1000  # bytes
_ASCII = bytes(range(128))
_PLACE = re.compile(r"(\[[0-9]{0,6}\])?")  # behind a list's name, of one of its items
_FIELD_SHOWN = 64  # characters of a field's name that an error repeats


@dataclass(frozen=True, slots=True)
class Target:
    """What a request's target asks for: the path below the version without an extension, and the query."""

    path: str
    query: list[tuple[str, str]]
    form: Format | None  # the extension's


def read_target(request: web.Request, version: str) -> Target:
    """Read path, extension and query; `/statistics/cdrs&page=2` works as documented."""
    raw = request.raw_path
    ends = re.search(r"[?&]", raw)
    path, query = (raw[: ends.start()], raw[ends.start() + 1 :]) if ends else (raw, "")
    if ends and ends[0] == "&":
        query = query.replace("?", "&", 1)
    segments = unquote(path, errors="replace").strip("/").split("/")
    if segments[0] != version:
        raise Refusal(404, f"there is no version {shown(segments[0])} of this API: this is {version}")
    form = None
    for at, segment in enumerate(segments):
        name, dot, extension = segment.rpartition(".")
        if at > 0 and dot:
            form = {"json": Format.JSON, "xml": Format.XML}.get(extension)
            if form is None:
                raise Refusal(404, f"there is no format .{shown(extension)}: it is .json or .xml")
            segments[at] = name
    return Target("/".join(segments[1:]), _pairs(query, "the query"), form)


def _pairs(text: str, what: str) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MOST)
        return [(name, form_value(value) if name.partition("[")[0] in NUMBERS else value) for name, value in pairs]
    except UnicodeError:
        raise Refusal(400, f"{what} is not UTF-8") from None
    except ValueError:
        raise Refusal(400, f"{what} has more than {FIELDS_MOST} fields") from None


def read_method(request: web.Request, target: Target) -> str:
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
        raise Refusal(501, f"the method {shown(method)} is not implemented")
    return method


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a POST, PUT or DELETE as it came, its `Content-Encoding` and its media type."""

    content: bytes = field(default=b"", repr=False)
    coding: str = ""
    kind: str = ""


async def receive_body(request: web.Request, operation: Operation, within_s: float) -> Body:
    """The body of a POST, PUT or DELETE, which may take `within_s` to arrive; other methods have none.

    Raises:
        MalformedError: see `receive`.
    """
    if operation.method == "GET" or not request.body_exists:
        return Body()
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= HttpVersion11:
        await ask_for_body(request)
    content = await receive(request.content, request.content_length, operation.body_most, within_s)
    kind = request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
    return Body(content, coding(request), kind)


def read(operation: Operation, query: list[tuple[str, str]], body: Body, ids: dict[str, str], account: Account) -> Any:
    """The operation's fields, from the query, the body and the path, checked.

    Raises:
        Refusal, CodingError, MalformedError.
    """
    content = inflate(body.content, body.coding, operation.body_most)
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
    raise Refusal(400, f"the content type {shown(kind)} is not taken: it is {FORMS[0]} or {_JSON}")


def _json_fields(content: bytes) -> list[tuple[str, Any]]:
    return [(name, _as_text(value)) for name, value in read_object(content).items()]


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
            raise Refusal(400, f"{shown(name)}: stands there twice")
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
                raise Refusal(400, f"{shown(name)}: stands there twice")
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
            name = shown(".".join(str(step) for step in error["loc"]))
            errors.append(f"{name}: {wording.why(error)}")
        raise Refusal(400, *dict.fromkeys(errors)) from None


def shown(text: str) -> str:
    """A part of a request as an error may repeat it."""
    return FORBIDDEN_IN_XML.sub("\ufffd", text[:_FIELD_SHOWN].encode(errors="replace").decode())


def respond(status: int, answer: Tree | bytes, form: Format, headers: Mapping[str, str] | None = None) -> web.Response:
    """The answer that a tree, or what was rendered of one, is."""
    return web.Response(
        status=status,
        body=answer if isinstance(answer, bytes) else render(answer, form),
        content_type=form.value,
        charset="utf-8",
        headers={hdrs.VARY: hdrs.ACCEPT, hdrs.CACHE_CONTROL: "no-store", **(headers or {})},
    )
