"""Request bodies that are JSON objects: received within bounds, and read so that nothing in them is ambiguous."""

import asyncio
import json
import math
import zlib
from typing import Any, NoReturn, Protocol

MEMBERS_MOST = 200  # of an object
_SHOWN_MOST = 64  # characters of a key that an error shows
_GZIP_WINDOW = zlib.MAX_WBITS + 16  # zlib's way to ask for gzip's frame


class MalformedError(Exception):
    """The body is too large or too late, or no JSON object; the text tells the client."""


class TooLargeError(MalformedError):
    """The body is too large."""


class CodingError(Exception):
    """The body is in a coding that is not read (HTTP 415); the text tells the client."""

    def __init__(self) -> None:
        super().__init__("the body's Content-Encoding is not taken: it may be gzip or deflate")


class Stream(Protocol):
    """Where a body comes from."""

    async def readany(self) -> bytes:
        """What has arrived since, at least a byte; nothing once the body has ended."""


async def receive(stream: Stream, length: int | None, most: int, within_s: float) -> bytes:
    """The whole body, of at most `most` bytes; `length` is what its head announces.

    Raises:
        MalformedError: it is larger, of which no more is read than tells so, or has not arrived in time.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while (length or 0) <= most and len(body) <= most:
                chunk = await stream.readany()
                if not chunk:
                    return bytes(body)
                body += chunk
    except TimeoutError:
        raise MalformedError(f"the body did not arrive within {within_s} s") from None
    except OSError:  # the client has left
        raise MalformedError("the body did not arrive whole") from None
    raise TooLargeError(f"the body is larger than {most} bytes")


def inflate(body: bytes, coding: str, most: int) -> bytes:
    """The body as it was before it was coded, of at most `most` bytes; of a larger one, only what tells so is inflated.

    `coding` is `Content-Encoding`, empty where there is none. A body is one stream of gzip or deflate, nothing more.

    Raises:
        CodingError: another coding, or several.
        MalformedError: it is larger, or broken.
    """
    match coding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            window = _GZIP_WINDOW
        case "deflate":  # with zlib's frame or, as some clients read the name, without it
            window = zlib.MAX_WBITS if body[:1] and body[0] & 15 == zlib.DEFLATED else -zlib.MAX_WBITS
        case _:
            raise CodingError
    decoder = zlib.decompressobj(window)
    try:
        content = decoder.decompress(body, most + 1)
    except zlib.error:
        raise MalformedError("the body is not in the encoding that it announces") from None
    if len(content) > most:
        raise TooLargeError(f"the body is larger than {most} bytes")
    if not decoder.eof or decoder.unused_data:
        raise MalformedError("the body is not in the encoding that it announces")
    return content


def read_object(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        MalformedError: it is none, or not UTF-8, or too deep; a key stands twice, or there are more than
            `MEMBERS_MOST` in an object; a string holds half a surrogate pair; a number is not finite.
    """
    try:
        tree = json.loads(
            body.decode(), object_pairs_hook=_members, parse_float=_finite, parse_constant=_refuse_constant
        )
        if b"\\u" in body:  # only what is escaped can be half a pair
            json.dumps(tree, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # errors of Unicode and an integer of thousands of digits are ValueErrors
        raise MalformedError("malformed JSON") from None
    if not isinstance(tree, dict):
        raise MalformedError("the JSON is not an object")
    return tree


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    if len(pairs) > MEMBERS_MOST:
        raise MalformedError(f"the JSON has an object of more than {MEMBERS_MOST} members")
    for key, value in pairs:
        if key in tree:
            raise MalformedError(f"malformed JSON: {json.dumps(key[:_SHOWN_MOST])} stands twice")
        tree[key] = value
    return tree


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(text)  # NaN and Infinity, which Python's reader takes and JSON has not
