"""The two formats of an answer: JSON, and XML (`README.md`, *Formats*).

A tree is a dict of texts, numbers, nulls, lists and dicts. In XML the list names the root, so that it has the
documented shape, `<customers><customer>…`; what stands beside the list in JSON, as the paging does, are the root's
attributes.
"""

import enum
import re
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import orjson

Tree = dict[str, Any]

FORBIDDEN_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ITEMS = {
    "customers": "customer",
    "sources": "source",
    "voicemail_greetings": "voicemail_greeting",
    "cdrs": "cdr",
    "recordings": "recording",
    "errors": "error",
    "alt_numbers": "alt_number",
    "used_by": "source_id",
}
_WITHOUT_LIST = "miscellaneous"  # the root where there is no list


class Format(enum.Enum):
    """What an answer is written in; the value is its content type."""

    JSON = "application/json"
    XML = "application/xml"


def negotiate(accept: str) -> Format:
    """The format that an `Accept` header prefers (RFC 9110 §12.5.1); JSON where it does not say."""
    best, chosen = 0.0, Format.JSON
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        wanted = {
            "application/json": Format.JSON, "application/*": Format.JSON, "*/*": Format.JSON,
            "application/xml": Format.XML, "text/xml": Format.XML,
        }.get(kind)  # fmt: skip
        if wanted is not None and best < quality <= 1:
            best, chosen = quality, wanted
    return chosen


def render(tree: Tree, form: Format) -> bytes:
    """The body of an answer, in UTF-8."""
    if form is Format.JSON:
        return b"{%b}" % b",".join(b"%b:%b" % (orjson.dumps(name), _json(value)) for name, value in tree.items())
    start = b'<?xml version="1.0" encoding="UTF-8"?>\n'
    lists = [name for name, value in tree.items() if isinstance(value, list)]
    if not lists:
        return b"%b%b\n" % (start, _element(_WITHOUT_LIST, tree).encode())
    root = lists[0]
    beside = {name: value for name, value in tree.items() if name != root}
    attributes = "".join(f" {name}={quoteattr(_text(value))}" for name, value in beside.items())
    items = b"".join(_element(_ITEMS[root], item).encode() for item in tree[root])
    return b"%b<%b%b>%b</%b>\n" % (start, root.encode(), attributes.encode(), items, root.encode())


def _json(value: Any) -> bytes:
    """A list item by item: one piece of a large page must not keep the interpreter from the loop."""
    return b"[%b]" % b",".join(map(orjson.dumps, value)) if isinstance(value, list) else orjson.dumps(value)


def _element(name: str, value: Any) -> str:
    if value is None:
        return f"<{name}/>"
    if isinstance(value, dict):
        content = "".join(_element(key, member) for key, member in value.items())
    elif isinstance(value, list):
        content = "".join(_element(_ITEMS[name], item) for item in value)
    else:
        content = escape(_text(value), {"\r": "&#13;"})  # a parser would read a bare one as a line feed
    return f"<{name}>{content}</{name}>"


def _text(value: Any) -> str:
    """The text without the characters that XML 1.0 cannot hold."""
    return FORBIDDEN_IN_XML.sub("\ufffd", str(value))
