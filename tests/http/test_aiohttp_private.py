"""aiohttp's inside: each name that is touched is there and has the shape that is relied on; one file touches it."""

import ast
import asyncio
import inspect
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiohttp import http_exceptions, http_parser, web, web_protocol
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import StreamWriter
from packaging.requirements import Requirement
from yarl import URL

import edgeproxy
from edgeproxy.http import aiohttp_private, connections
from edgeproxy.http.aiohttp_private import TESTED, Wire

PACKAGE = Path(edgeproxy.__file__).parent
HANDLER = web_protocol.RequestHandler
INSIDE = Path(aiohttp_private.__file__)


def server() -> web.Server:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response()

    return web.Server(answer)


def parameters(of: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(of).parameters)


# The names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start"),
    [("_waiter", None), ("_messages", 0), ("_request_count", 0), ("_force_close", False), ("_task_handler", None)],
)
async def test_what_a_connection_keeps_of_itself(name: str, start: object) -> None:
    connection = HANDLER(server(), loop=asyncio.get_running_loop())
    kept = getattr(connection, name)
    assert (len(kept) if name == "_messages" else kept) == start
    assert name in INSIDE.read_text()


@pytest.mark.parametrize(
    ("method", "takes"),
    [
        ("connection_made", ["transport"]),
        ("connection_lost", ["exc"]),
        ("data_received", ["data"]),
        ("finish_response", ["request", "resp", "start_time"]),
        ("handle_error", ["request", "status", "exc", "message"]),
        ("pause_writing", []),
        ("resume_writing", []),
        ("force_close", []),
    ],
)
def test_what_a_connection_overrides_or_calls(method: str, takes: list[str]) -> None:
    assert parameters(getattr(HANDLER, method)) == ["self", *takes]
    assert inspect.iscoroutinefunction(getattr(HANDLER, method)) == (method == "finish_response")


def test_the_options_of_a_connection() -> None:
    assert {"loop", "keepalive_timeout", "access_log", "auto_decompress", "lingering_time", "logger"} <= set(
        parameters(HANDLER.__init__)
    )


def test_how_a_request_is_made() -> None:
    wanted = ["message", "payload", "protocol", "payload_writer", "task", "loop", "client_max_size"]
    assert set(wanted) <= set(parameters(web.BaseRequest.__init__))
    assert parameters(web.BaseRequest.__init__)[1:7] == wanted[:6]


def test_what_is_written_to_a_client_beside_answers() -> None:
    assert isinstance(vars(web.BaseRequest)["writer"], property)
    for name in ("write", "drain"):
        assert inspect.iscoroutinefunction(getattr(StreamWriter, name))


async def test_a_message_can_be_given_another_target() -> None:
    connection = HANDLER(server(), loop=asyncio.get_running_loop())
    connection.data_received(b"GET //a?b HTTP/1.1\r\nHost: x\r\n\r\n")
    ((message, _),) = connection._messages
    assert isinstance(message, RawRequestMessage)
    assert (message.path, message.upgrade) == ("//a?b", False)
    other = message._replace(path="/a?b", url=URL("/a?b"))
    assert (other.path, other.url, other.method, other.headers) == ("/a?b", URL("/a?b"), "GET", message.headers)


async def test_a_server_and_its_factory_of_requests() -> None:
    assert "request_factory" in parameters(web.Server.__init__)
    made = server()
    assert callable(made.request_factory)
    made.pre_shutdown()
    runner = web.AppRunner(web.Application())
    await runner.setup()
    assert callable(runner.server.request_factory)  # type: ignore[union-attr]
    await runner.cleanup()


def test_the_parser_is_the_one_in_c() -> None:
    assert aiohttp_private.parses_in_c()
    assert http_parser.HttpRequestParserPy.__module__ == "aiohttp.http_parser"


@pytest.mark.parametrize(
    ("error", "large"),
    [
        (http_exceptions.LineTooLong(b"x", 8190), True),
        (http_exceptions.BadHttpMessage("Too many headers received"), True),
        (http_exceptions.BadHttpMessage("Invalid header"), False),
        (http_exceptions.BadStatusLine("x"), False),
    ],
)
def test_which_heads_are_too_large(error: http_exceptions.HttpProcessingError, large: bool) -> None:
    assert isinstance(error, aiohttp_private.BrokenHTTPError)
    assert aiohttp_private.is_large_head(error) is large


async def test_the_parser_says_that_there_are_too_many_fields_in_the_words_that_are_looked_for() -> None:
    connection = HANDLER(server(), loop=asyncio.get_running_loop())
    connection.data_received(b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: b\r\n" % at for at in range(200)) + b"\r\n")
    ((message, _),) = connection._messages
    assert isinstance(message, web_protocol._ErrInfo)
    assert isinstance(message.exc, http_exceptions.HttpProcessingError)
    assert aiohttp_private.is_large_head(message.exc)


# What is made of them -------------------------------------------------------------------------------------------------


async def test_what_a_connection_says_of_itself() -> None:
    connection = Wire(server(), loop=asyncio.get_running_loop())
    assert (connection.takes_a_head, connection.has_requests, connection.requests_seen) == (True, False, 0)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\n")
    assert (connection.takes_a_head, connection.has_requests, connection.requests_seen) == (False, True, 1)
    ((message, _),) = connection._messages
    assert isinstance(message, RawRequestMessage)
    assert message.upgrade
    connection.forget_requests()
    assert not connection.has_requests
    connection.ignore_all()
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.requests_seen == 1


# Versions -------------------------------------------------------------------------------------------------------------


def test_the_installed_version_and_the_locked_one_are_tested_and_no_minor_is_allowed_that_none_of_is() -> None:
    root = PACKAGE.parent
    dependencies = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    (asked,) = [Requirement(text) for text in dependencies if text.startswith("aiohttp")]
    assert version("aiohttp") in TESTED
    assert f"\naiohttp=={TESTED[-1]} " in (root / "deploy" / "requirements" / "edgeproxy.txt").read_text()
    assert all(asked.specifier.contains(tested) for tested in TESTED)
    major, minor, _ = map(int, TESTED[-1].split("."))
    assert not asked.specifier.contains(f"{major}.{minor + 1}.0")


def test_another_version_is_told_of_with_the_ones_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aiohttp_private.tested() == version("aiohttp")
    monkeypatch.setattr(aiohttp_private, "TESTED", ("1.2.3", "1.2.4"))
    assert not aiohttp_private.is_tested()
    told = aiohttp_private.tested()
    assert told.startswith(f"{version('aiohttp')} was NEVER TESTED")
    assert told.endswith("install 1.2.3 or 1.2.4")


# One file -------------------------------------------------------------------------------------------------------------

DOCUMENTED = {"aiohttp", "aiohttp.web", "aiohttp.hdrs", "aiohttp.web_exceptions"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_file_imports_from_aiohttp_s_inside(path: Path) -> None:
    if path == INSIDE:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "aiohttp":
            assert node.module in DOCUMENTED
            assert not {alias.name for alias in node.names} & {"http_parser", "web_protocol", "http_exceptions"}


def test_a_connection_of_ours_touches_none_of_its_private_names() -> None:
    tree = ast.parse(Path(connections.__file__).read_text())
    (ours,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Connection"]
    touched = {
        node.attr
        for node in ast.walk(ours)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    own = set(connections.Connection.__slots__) | set(vars(connections.Connection))
    assert {name for name in touched if name.startswith("_")} <= own
