"""The Dynamic Numbers API on the wire: a body becomes a `Page`, a page of answers becomes a body (`README.md`)."""

import functools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from edgeproxy.errors import Fault, Kind

BODY_MOST = 16 * 1024
NUMBERS_MOST = 50
DIMENSIONS_MOST = 50
_DIMENSION_KEY_MOST = 64
_DIMENSION_MOST = 2048
_DIMENSION_LIMITS = {"custnr": 45, "custname": 60, "custemail": 150}
URL_MOST = 2048  # characters of an URL or referrer that are kept
AGENT_MOST = 1024  # of a user agent
_FRAGMENTS_KEPT = 16_384
_REMEMBERED_MOST = 64  # characters of a number on page whose fragment is remembered


class Page(NamedTuple):
    """A checked request: who shows which numbers to whom.

    Texts are as sent; `numbers` are trimmed, and `user_agent` is cut to what is kept of it. URL and referrer are whole,
    for a click's campaign may stand at their ends: at most `URL_MOST` characters of them are kept.
    """

    account: str
    numbers: tuple[str, ...]
    is_app: bool
    full_url: str
    tracking_id: str
    full_referrer: str
    parameters: dict[str, str]
    user_agent: str
    request_ip: str
    session_id: str
    dry_run: bool


def parse(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object in which no key stands twice.

    Raises:
        Fault: `BODY_TOO_LARGE`, `MALFORMED_JSON`.
    """
    if len(body) > BODY_MOST:
        raise Fault(Kind.BODY_TOO_LARGE)
    try:
        tree: dict[str, Any] | None = orjson.loads(body)
        strings = _count_strings(tree) if type(tree) is dict else 0
    except (orjson.JSONDecodeError, RecursionError):
        raise Fault(Kind.MALFORMED_JSON) from None
    if type(tree) is not dict:
        raise Fault(Kind.MALFORMED_JSON)
    # Where nothing is escaped, every quote in the body delimits a string. A key that stands twice leaves more of them
    # than the tree has strings; only then, and where something is escaped, is the body read the slow way.
    if (b"\\" in body or body.count(b'"') != 2 * strings) and _repeats_key_or_holds_nul(body):
        raise Fault(Kind.MALFORMED_JSON)
    return tree


def _count_strings(value: dict[str, Any]) -> int:
    count = len(value)
    for member in value.values():
        kind = type(member)
        if kind is str:
            count += 1
        elif kind is dict:
            count += _count_strings(member)
        elif kind is list:
            count += sum(type(item) is str for item in member)
    return count


def _repeats_key_or_holds_nul(body: bytes) -> bool:
    repeated = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        tree = dict(pairs)
        repeated |= len(tree) != len(pairs)
        return tree

    try:
        json.loads(body, object_pairs_hook=members)
    except (ValueError, RecursionError):
        return True
    return repeated or _holds_nul(body)


def _holds_nul(body: bytes) -> bool:
    at = body.find(b"\\u0000")
    while at >= 0:
        slashes = at
        while slashes and body[slashes - 1 : slashes] == b"\\":
            slashes -= 1
        if (at - slashes) % 2 == 0:
            return True
        at = body.find(b"\\u0000", at + 1)
    return False


def account_name(tree: dict[str, Any]) -> str:
    """The account that a request names.

    Raises:
        Fault: `MISSING_PARAMETER`, `INVALID_PARAMETER`.
    """
    return _text(tree, "advId", 64, required=True)


def check(tree: dict[str, Any], body: bytes) -> Page:
    """Check every field and give the page; `body` is what the tree was read from.

    Raises:
        Fault: `MISSING_PARAMETER` or `INVALID_PARAMETER`, of the first wrong field, in the order of `README.md`.
    """
    account = account_name(tree)
    numbers = _numbers(tree)
    kind = _text(tree, "type", 64, required=True)
    if kind not in ("web", "app"):
        raise Fault(Kind.INVALID_PARAMETER, "type: must be web or app")
    before, after = _WEB_TEXTS if kind == "web" else _APP_TEXTS
    full_url, tracking_id, full_referrer = _texts(tree, before, body)
    parameters = _parameters(tree, body)
    user_agent, request_ip, session_id = _texts(tree, after, body)
    page = Page(
        account, numbers, kind == "app", full_url, tracking_id, full_referrer, parameters, user_agent, request_ip,
        session_id, _flag(tree, "dryRun"),
    )  # fmt: skip
    if len(tree) > len(_FIELDS) or not _FIELDS.issuperset(tree):
        for name, value in tree.items():
            if name not in _FIELDS and isinstance(value, dict | list):
                raise Fault(Kind.INVALID_PARAMETER, f"{_shown(name)}: there is no such field")
    return page


_FIELDS = frozenset(
    ("advId", "numbers", "type", "fullUrl", "trackingId", "fullReferrer", "parameters", "userAgent", "requestIpAddress",
     "sessionId", "dryRun")
)  # fmt: skip


# Fields before and after `parameters`: name, most characters, whether it must be there and not be empty, and whether
# its key must be there.
_WEB_TEXTS = (
    (("fullUrl", BODY_MOST, True, True), ("trackingId", 128, False, True), ("fullReferrer", BODY_MOST, False, True)),
    (("userAgent", AGENT_MOST, True, True), ("requestIpAddress", 45, True, True), ("sessionId", 64, False, False)),
)
_APP_TEXTS = (
    (("fullUrl", BODY_MOST, False, True), *_WEB_TEXTS[0][1:]),
    (("userAgent", AGENT_MOST, False, False), ("requestIpAddress", 45, False, False), ("sessionId", 64, False, False)),
)


def _texts(tree: dict[str, Any], rules: Iterable[tuple[str, int, bool, bool]], body: bytes) -> list[str]:
    texts = []
    for name, most, required, key_required in rules:
        value = tree.get(name)
        if type(value) is not str or len(value) > most or (required and not value):
            if name == "userAgent" and type(value) is str:
                tree[name] = value[:most]
            elif name == "trackingId" and type(value) in (int, float):
                tree[name] = _as_written(body)[name]
            value = _text(tree, name, most, required=required, key_required=key_required)
        texts.append(value)
    return texts


def _as_written(body: bytes) -> dict[str, Any]:
    """The tree of a body in which numbers are their JSON texts, to the last digit.

    Raises:
        Fault: `MALFORMED_JSON`: it is deeper than this can be read.
    """
    try:
        tree: dict[str, Any] = json.loads(body, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise Fault(Kind.MALFORMED_JSON) from None
    return tree


def _text(tree: dict[str, Any], name: str, most: int, *, required: bool = False, key_required: bool = False) -> str:
    value = tree.get(name)
    if type(value) is str:
        if len(value) > most:
            raise Fault(Kind.INVALID_PARAMETER, f"{name}: more than {most} characters")
        if required and not value:
            raise Fault(Kind.MISSING_PARAMETER, name)
        return value
    if value is not None:
        raise Fault(Kind.INVALID_PARAMETER, f"{name}: must be a string")
    if required or (key_required and name not in tree):
        raise Fault(Kind.MISSING_PARAMETER, name)
    return ""


def _flag(tree: dict[str, Any], name: str) -> bool:
    value = tree.get(name, False)
    if not isinstance(value, bool):
        raise Fault(Kind.INVALID_PARAMETER, f"{name}: must be true or false")
    return value


# Numbers of a text that has other separators than commas: semicolons, line breaks. A semicolon is none where it ends an
# entity (`&#43;`) or begins a parameter of a `tel:` URI.
_SEPARATED = re.compile(r"(?:&#?[0-9A-Za-z]{1,31};|;[ \t]*[A-Za-z-]{1,63}=|[^,;\r\n])+")


def _numbers(tree: dict[str, Any]) -> tuple[str, ...]:
    value = tree.get("numbers")
    if type(value) is str:
        if ";" in value or "\n" in value or "\r" in value:
            listed: Sequence[Any] = _SEPARATED.findall(value)
        else:
            listed = value.split(",")
    elif type(value) is list:
        if len(value) > NUMBERS_MOST:
            raise Fault(Kind.INVALID_PARAMETER, f"numbers: more than {NUMBERS_MOST}")
        listed = value
    elif value is None:
        raise Fault(Kind.MISSING_PARAMETER, "numbers")
    else:
        raise Fault(Kind.INVALID_PARAMETER, "numbers: must be a string or an array of strings")
    numbers = []
    for number in listed:
        if type(number) is not str:
            raise Fault(Kind.INVALID_PARAMETER, "numbers: must be a string or an array of strings")
        if trimmed := number.strip():
            numbers.append(trimmed)
    if not numbers:
        raise Fault(Kind.MISSING_PARAMETER, "numbers")
    if len(numbers) > NUMBERS_MOST:
        raise Fault(Kind.INVALID_PARAMETER, f"numbers: more than {NUMBERS_MOST}")
    return tuple(numbers)


def _parameters(tree: dict[str, Any], body: bytes) -> dict[str, str]:
    value = tree.get("parameters")
    if type(value) is not dict:
        if value is None:
            raise Fault(Kind.MISSING_PARAMETER, "parameters")
        if value != []:
            raise Fault(Kind.INVALID_PARAMETER, "parameters: must be an object")
        return {}  # PHP has one empty array for both
    if len(value) > DIMENSIONS_MOST:
        raise Fault(Kind.INVALID_PARAMETER, f"parameters: more than {DIMENSIONS_MOST} keys")
    written: dict[str, Any] = {}
    for key, dimension in value.items():
        if len(key) > _DIMENSION_KEY_MOST:
            raise Fault(Kind.INVALID_PARAMETER, f"parameters: a key of more than {_DIMENSION_KEY_MOST} characters")
        if type(dimension) is not str:
            if isinstance(dimension, dict | list):
                raise Fault(Kind.INVALID_PARAMETER, f"parameters.{_shown(key)}: must be a string")
            written = written or _as_written(body)["parameters"]
            dimension = written[key]
            if type(dimension) is bool:
                dimension = written[key] = "true" if dimension else "false"
            if dimension is None:
                continue
        most = _DIMENSION_LIMITS.get(key, _DIMENSION_MOST)
        if len(dimension) > most:
            raise Fault(Kind.INVALID_PARAMETER, f"parameters.{_shown(key)}: more than {most} characters")
    if written:
        return {key: dimension for key, dimension in written.items() if dimension is not None}
    return value


def _shown(name: str) -> str:
    """A field's name as an error may repeat it: bounded, and nothing in it that a terminal would act on."""
    return "".join(char if char.isprintable() else "?" for char in name[:_DIMENSION_KEY_MOST])


def _made(on_page: str, number: str, local: str) -> bytes:
    fragment = orjson.dumps({"number_on_page": on_page, "replace_with": {"e164": number, "local": local}})
    return bytes(memoryview(fragment))  # a copy: what orjson gives holds the 4 KiB that it was written into


_fragment = functools.lru_cache(_FRAGMENTS_KEPT)(_made)


def render(shown: Iterable[tuple[str, str, str]], session_id: str) -> bytes:
    """The body of a success: `shown` are the number on the page as sent, the tracking number, and its display."""
    return b'{"success":true,"numbers":[%b],"sessionId":"%b"}' % (
        b",".join([(_fragment if len(entry[0]) <= _REMEMBERED_MOST else _made)(*entry) for entry in shown]),
        session_id.encode(),
    )


def render_fault(fault: Fault) -> bytes:
    """The body of an error."""
    return orjson.dumps({"success": False, "error": fault.text})
