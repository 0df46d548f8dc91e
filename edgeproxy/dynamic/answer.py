"""The HTTP answer of `POST /api` in one piece of bytes.

aiohttp builds a response from a multidict of headers, which costs more than the rest of an answer. All our answers have
the same few headers, so they are put together here and written at once; aiohttp's server asks no more of a response
than `prepare`, `write_eof` and `keep_alive`.
"""

import http
import time
from email.utils import formatdate

from aiohttp import ClientConnectionResetError, HttpVersion11, web

from edgeproxy.http.aiohttp_private import drained

_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_heads: dict[int, bytes] = {}  # status → the head's constant part
_heads_of = 0  # the second that their Date tells


def _head(status: int) -> bytes:
    """Status line, Content-Type, Cache-Control and Date; the same bytes for all answers of a second."""
    global _heads_of
    second = int(time.time())
    if second != _heads_of:
        _heads_of = second
        _heads.clear()
    head = _heads.get(status)
    if head is None:
        # An answer is one visitor's: a cache that kept it would give others the same session and number.
        head = _heads[status] = (
            b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nDate: %b\r\n"
            % (status, _REASONS[status], formatdate(second, usegmt=True).encode())
        )
    return head


class Answer:
    """An answer that is about to be sent. `headers` are further header lines, each with its line end."""

    __slots__ = ("_body", "_headers", "_request", "_status", "keep_alive")

    def __init__(self, status: int, body: bytes, headers: str) -> None:
        self._status = status
        self._body = body
        self._headers = headers
        self.keep_alive = True

    def force_close(self) -> None:
        """Close the connection after this answer."""
        self.keep_alive = False

    async def prepare(self, request: web.BaseRequest) -> None:
        """Take the request that is answered; aiohttp calls this first."""
        self._request = request
        if not request.keep_alive:
            self.keep_alive = False
        if not self.keep_alive:
            self._headers += "Connection: close\r\n"
        elif request.version < HttpVersion11:
            self._headers += "Connection: keep-alive\r\n"

    async def write_eof(self) -> None:
        """Send the answer.

        Raises:
            ConnectionError: the client has left.
        """
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the client has left")
        transport.write(
            b"%bContent-Length: %d\r\n%b\r\n%b"
            % (_head(self._status), len(self._body), self._headers.encode("ascii"), self._body)
        )
        await drained(self._request)  # a client that reads nothing must not fill our memory with answers
