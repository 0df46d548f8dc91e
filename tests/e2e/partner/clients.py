"""Real clients of the partner API: curl, PHP, requests, httpx and aiohttp."""

import asyncio
import contextlib
import functools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import aiohttp
import httpx
import pytest
import requests
from requests.auth import HTTPDigestAuth

USER, PASSWORD = "demo", "demo-password"


REALM = "edgeproxy"


# Within a minute 20 failed logins block an address, and all tests come from one: together they fail less often.
WRONG = "not-the-password"


DOCUMENTED_NUMBER = "+49890510"  # the public documents ask for 0890510, a number of the account's region here


IN_QUERY = ("GET", "DELETE")  # the methods whose fields stand in the query


TIMEOUT_S = 20


@dataclass(frozen=True)
class Demo:
    """The running demo."""

    base: str  # of the partner API
    store: str
    log: Path  # what it writes to stderr
    free: list[str]  # numbers that no source has, for tests to take: one that was a source's is quarantined for 60 days


@dataclass(frozen=True)
class Answer:
    """What came back: status, content type, body; and where a client tells it, what went over the wire."""

    status: int
    kind: str
    body: str
    wire: str = ""

    @property
    def json(self) -> Any:
        assert self.kind == "application/json; charset=utf-8"
        return json.loads(self.body)

    @property
    def xml(self) -> ElementTree.Element:
        assert self.kind == "application/xml; charset=utf-8"
        assert self.body.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
        return ElementTree.fromstring(self.body)

    def requests_made(self, method: str) -> int:
        return sum(line.startswith(f"> {method} ") for line in self.wire.splitlines())


class Client(Protocol):
    """A request in a client's own idiom; a GET's and a DELETE's fields go into the query, others' into a form."""

    def __call__(self, method: str, path: str, /, **fields: str) -> Answer: ...


def curl(*arguments: str, login: str = f"{USER}:{PASSWORD}", status: int = 0) -> Answer:
    """Run `curl --digest -u LOGIN ARGUMENTS`, without the user's own .curlrc; it has to exit with `status`."""
    ran = subprocess.run(
        ["curl", "-q", "-sS", "-v", "-w", "\n%{http_code} %{content_type}", "--digest", "-u", login, *arguments],
        capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert ran.returncode == status, ran.stderr
    body, _, facts = ran.stdout.rpartition("\n")
    code, _, kind = facts.partition(" ")
    return Answer(int(code), kind, body, ran.stderr)


@contextlib.contextmanager
def curl_client(base: str, password: str) -> Iterator[Client]:
    def call(method: str, path: str, /, **fields: str) -> Answer:
        form = [part for name, value in fields.items() for part in ("--data-urlencode", f"{name}={value}")]
        where = ["-G"] if method in IN_QUERY else []
        return curl("-X", method, *where, *form, base + path, login=f"{USER}:{password}")

    yield call


@contextlib.contextmanager
def requests_client(base: str, password: str) -> Iterator[Client]:
    with requests.Session() as session:
        session.auth = HTTPDigestAuth(USER, password)

        def call(method: str, path: str, /, **fields: str) -> Answer:
            place = "params" if method in IN_QUERY else "data"
            response = session.request(method, base + path, timeout=TIMEOUT_S, **{place: fields})  # type: ignore[arg-type]
            return Answer(response.status_code, response.headers["Content-Type"], response.text)

        yield call


@contextlib.contextmanager
def httpx_client(base: str, password: str) -> Iterator[Client]:
    with httpx.Client(auth=httpx.DigestAuth(USER, password), timeout=TIMEOUT_S) as client:

        def call(method: str, path: str, /, **fields: str) -> Answer:
            place = {"params" if method in IN_QUERY else "data": fields} if fields else {}
            response = client.request(method, base + path, **place)  # type: ignore[arg-type]
            return Answer(response.status_code, response.headers["Content-Type"], response.text)

        yield call


@contextlib.contextmanager
def aiohttp_client(base: str, password: str) -> Iterator[Client]:
    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            middlewares=(aiohttp.DigestAuthMiddleware(USER, password),), timeout=aiohttp.ClientTimeout(TIMEOUT_S)
        )

    async def ask(method: str, path: str, fields: dict[str, str]) -> Answer:
        in_query = method in IN_QUERY
        async with session.request(
            method, base + path, params=fields if in_query else None, data=None if in_query else fields
        ) as response:
            return Answer(response.status, response.headers["Content-Type"], await response.text())

    with asyncio.Runner() as runner:
        session = runner.run(opened())
        try:
            yield lambda method, path, /, **fields: runner.run(ask(method, path, fields))
        finally:
            runner.run(session.close())


PHP = r"""
$asked = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
$curl = curl_init($asked['url']);
curl_setopt_array($curl, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_HTTPAUTH => CURLAUTH_DIGEST,
    CURLOPT_USERPWD => $asked['login'],
    CURLOPT_CUSTOMREQUEST => $asked['method'],
    CURLOPT_VERBOSE => true,
]);
if ($asked['query']) curl_setopt($curl, CURLOPT_URL, $asked['url'] . '?' . http_build_query($asked['query']));
if ($asked['form']) curl_setopt($curl, CURLOPT_POSTFIELDS, http_build_query($asked['form']));
if ($asked['array']) curl_setopt($curl, CURLOPT_POSTFIELDS, $asked['array']);
$body = curl_exec($curl);
if ($body === false) { fwrite(STDERR, curl_error($curl)); exit(1); }
echo json_encode([
    'status' => curl_getinfo($curl, CURLINFO_RESPONSE_CODE),
    'kind' => curl_getinfo($curl, CURLINFO_CONTENT_TYPE),
    'body' => $body,
], JSON_THROW_ON_ERROR);
"""


@functools.cache
def why_no_php() -> str:
    """Why PHP cannot be used here; empty if it can."""
    if shutil.which("php") is None:
        return "php is not installed"
    extensions = subprocess.run(["php", "-m"], capture_output=True, text=True, timeout=TIMEOUT_S).stdout.split()
    return "" if "curl" in extensions else "php has no curl extension"


def php(method: str, url: str, *, password: str = PASSWORD, **places: dict[str, str]) -> Answer:
    """Run the script above with the fields of `query`, `form` or `array`; skip the test where there is no PHP."""
    if reason := why_no_php():
        pytest.skip(reason)
    asked = {"method": method, "url": url, "login": f"{USER}:{password}", "query": {}, "form": {}, "array": {}}
    ran = subprocess.run(
        ["php", "-d", "display_errors=stderr", "-r", PHP],
        input=json.dumps(asked | places), capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return Answer(**json.loads(ran.stdout), wire=ran.stderr)


@contextlib.contextmanager
def php_client(base: str, password: str) -> Iterator[Client]:
    def call(method: str, path: str, /, **fields: str) -> Answer:
        place = "query" if method in IN_QUERY else "form"
        return php(method, base + path, password=password, **{place: fields})

    yield call


CLIENTS: dict[str, Callable[[str, str], AbstractContextManager[Client]]] = {
    "curl": curl_client,
    "requests": requests_client,
    "httpx": httpx_client,
    "aiohttp": aiohttp_client,
    "php": php_client,
}


def assert_same(xml: ElementTree.Element, tree: dict[str, list[dict[str, Any]]]) -> None:
    """The XML says what the JSON says, in the same order; it writes both null and nothing as an empty element."""
    ((resource, records),) = tree.items()
    assert xml.tag == resource
    assert [record.tag for record in xml] == [resource.removesuffix("s")] * len(records)
    for element, record in zip(xml, records, strict=True):
        read = [(child.tag, [item.text for item in child] if len(child) else child.text) for child in element]
        assert read == [(name, value or None) for name, value in record.items()]
