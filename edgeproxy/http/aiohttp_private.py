"""All that is touched of aiohttp's inside: names that are private, or that its documentation does not have.

They may change with any release, so each has its place here and nowhere else. `TESTED` are the versions that the whole
suite has passed with; a gateway with another one says so when it starts, and `edgeproxy check` says it too. To take in
a version: run the suite with it, add it to `TESTED`, and raise the bound in `pyproject.toml`.
"""

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, cast

from aiohttp import http_parser, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from edgeproxy.http.room import Prepared

TESTED = ("3.14.5",)

BrokenHTTPError = HttpProcessingError  # what a client sent is no HTTP; its texts quote the client


def is_tested() -> bool:
    """Whether the version of aiohttp that is installed is one of `TESTED`."""
    return version("aiohttp") in TESTED


def tested() -> str:
    """The version of aiohttp that is installed; where it is none of `TESTED`, what to do about it."""
    installed = version("aiohttp")
    if is_tested():
        return installed
    return f"{installed} was NEVER TESTED with this release, which relies on its inside: install {' or '.join(TESTED)}"


def parses_in_c() -> bool:
    """Whether aiohttp's C parser is there; without it, another in Python is used."""
    return http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy


def is_large_head(error: HttpProcessingError) -> bool:
    """Whether a head was refused for its size."""
    return isinstance(error, LineTooLong) or error.message == "Too many headers received"


def forget_frames(error: BaseException | None) -> None:
    """Drop what an exception knows of where it was raised: the client's bytes among it."""
    if error is not None:
        error.__traceback__ = error.__context__ = error.__cause__ = None


# A connection ---------------------------------------------------------------------------------------------------------


class Wire(RequestHandler):
    """aiohttp's side of a client's connection, for `Connection` to build on."""

    __slots__ = ()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered, nor waits. A head may have begun."""
        return self._waiter is not None and not self._messages

    @property
    def has_requests(self) -> bool:
        """Whether requests wait to be answered."""
        return bool(self._messages)

    @property
    def takes_a_head(self) -> bool:
        """Whether what comes next is a request's head, if no request waits."""
        return (self._waiter is not None or not self._request_count) and not self._force_close

    @property
    def requests_seen(self) -> int:
        """How many requests have come, those that wait among them."""
        return self._request_count

    def ignore_all(self) -> None:
        """Look at nothing that the client sends from here on."""
        self._force_close = True

    def call_at_end(self, call: Callable[[], None]) -> None:
        """Call it once the last request is answered and no other is waited for. For a connection that was made."""
        if self._task_handler is not None:
            self._task_handler.add_done_callback(lambda _: call())

    def forget_requests(self) -> None:
        """Drop the requests that wait, with what they refer to."""
        for message, _ in self._messages:
            forget_frames(getattr(message, "exc", None))
        self._messages.clear()


def asks_for_upgrade(request: web.BaseRequest) -> bool:
    """Whether the request asks for another protocol; to look for the header costs more."""
    return request._message.upgrade  # noqa: SLF001


# Requests and answers -------------------------------------------------------------------------------------------------


async def ask_for_body(request: web.BaseRequest) -> None:
    """Tell a client that waits to be asked (`Expect: 100-continue`) to send its body."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def drained(request: web.BaseRequest) -> Awaitable[None]:
    """To wait until the client has read enough of what was written, so that more of it may be kept."""
    return request.writer.drain()


def server(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse | Prepared]], body_most: int) -> web.Server:
    """A server without routes, whose requests refuse to read a body of more bytes."""

    def request(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: Any,
    ) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, task.get_loop(), client_max_size=body_most)

    return web.Server(
        cast("Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]", handle), request_factory=request
    )


def server_of(app: web.AppRunner, name: Callable[[str], str]) -> web.Server:
    """The server of an application that is set up. Its requests have the target that `name` gives for the one sent."""
    found = cast("web.Server", app.server)
    make = found.request_factory

    def named(message: RawRequestMessage, *more: Any) -> web.BaseRequest:
        target = name(message.path)
        if target != message.path:
            path, _, query = target.partition("#")[0].partition("?")
            message = message._replace(path=target, url=URL.build(path=path, query_string=query, encoded=True))
        return make(message, *more)

    found.request_factory = named
    return found


def take_no_more(server: web.Server) -> None:
    """Have a server close each connection once it has answered the requests that have come."""
    server.pre_shutdown()
