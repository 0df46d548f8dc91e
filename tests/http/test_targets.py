"""One resource, however clients and proxies write it: absolute forms, doubled slashes, a prefix that a proxy strips."""

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson
import pytest

from edgeproxy.commands import demo_records as demo
from edgeproxy.dynamic import signature
from edgeproxy.store import Store
from tests.conftest import Edge, serving, web_request
from tests.partner.client import authorization

PREFIX = "/tracking"
TOKEN = "Access-Token: demo-token"
STATIC = "/phone-service/v1/api/calltracking/ad-platform/phone/list"
# How a target may be written.
FORMS: dict[str, Callable[[str], str]] = {
    "origin": lambda path: path,
    "absolute": lambda path: f"http://gateway.example.com:8080{path}",
    "absolute, https": lambda path: f"https://gateway.example.com{path}",
    "doubled slash": lambda path: "/" + path,
    "doubled slashes": lambda path: path.replace("/", "//"),
    "absolute, doubled slash": lambda path: f"http://gateway.example.com/{path}",
    "prefix that is left": lambda path: PREFIX + path,
}


@pytest.fixture
async def gateway(store_url: str) -> AsyncIterator[Edge]:
    async with serving(store_url, allow_plain_http=True, path_prefix=PREFIX) as edge:
        async with Store(store_url) as store:
            await demo.fill(store)
        yield edge


async def ask(base: str, method: str, target: str, *headers: str, body: bytes = b"") -> tuple[int, list[str], bytes]:
    """Send a request with that very target: the answer's status, the lines of its head, its body."""
    host, port = base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = [f"{method} {target} HTTP/1.1", "Host: gateway.example.com", f"Content-Length: {len(body)}", *headers]
        writer.write("\r\n".join([*head, "Connection: close", "", ""]).encode() + body)
        answer = await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        await writer.wait_closed()
    lines, _, content = answer.partition(b"\r\n\r\n")
    return int(lines.split()[1]), lines.decode().split("\r\n"), content


async def log_in(base: str, method: str, target: str, uri: str) -> tuple[int, bytes]:
    """Ask the partner API by Digest with that `uri`."""
    status, lines, _ = await ask(base, method, target)
    assert status == 401, lines
    challenge = next(line.partition(": ")[2] for line in lines if line.lower().startswith("www-authenticate"))
    status, _, content = await ask(base, method, target, "Authorization: " + authorization(method, uri, challenge))
    return status, content


@pytest.mark.parametrize("form", FORMS)
async def test_every_api_takes_a_target_in_every_form(gateway: Edge, form: str) -> None:
    written = FORMS[form]
    body = orjson.dumps(web_request())
    signed = signature.sign(body, b"freespee")
    for target, headers in ((written("/api"), [f"X-SIGN: {signed}"]), (written("/api") + f"?sign={signed}", [])):
        status, _, content = await ask(gateway.url, "POST", target, "X-HTTP-STATUSES: 1", *headers, body=body)
        assert (status, orjson.loads(content)["success"]) == (200, True)
    assert (await ask(gateway.url, "GET", written("/api")))[0] == 405
    for base in (gateway.url, gateway.manage):
        assert (await ask(base, "GET", written("/healthz")))[0] == 200
        assert (await ask(base, "GET", written("/nowhere")))[0] == 404
    for path in ("/metrics", "/openapi.json", "/docs"):
        assert (await ask(gateway.manage, "GET", written(path)))[0] == 200

    lookup = written("/calls/lookup") + "?number=%2B493015981151"
    assert (await ask(gateway.manage, "GET", lookup, TOKEN))[0] == 200
    listed = await ask(
        gateway.manage, "POST", written(STATIC), TOKEN, "SiteId: 1001", body=b'{"phoneNumbers":["79990000001"]}'
    )
    assert listed[0] == 200

    target = written("/2.4.9/customers") + "?custnr=123"
    for uri in (target, "/2.4.9/customers?custnr=123", PREFIX + "/2.4.9/customers?custnr=123"):
        status, content = await log_in(gateway.manage, "GET", target, uri)
        assert (status, orjson.loads(content)["total"]) == (200, 1)


@pytest.mark.parametrize(
    "uri",
    ["/2.4.9/sources", "/other/2.4.9/customers", "/trackingx/2.4.9/customers", "/2.4.9/customers?a=//", "*", ""],
)
async def test_a_digest_for_another_resource_is_none(gateway: Edge, uri: str) -> None:
    status, content = await log_in(gateway.manage, "GET", "/2.4.9/customers", uri)
    assert (status, b"uri of the Authorization header" in content) == (400, True)


async def test_without_the_setting_a_prefix_is_a_part_of_the_path(store_url: str) -> None:
    async with serving(store_url, allow_plain_http=True) as edge:
        assert (await ask(edge.manage, "GET", PREFIX + "/healthz"))[0] == 404
        status, _ = await log_in(edge.manage, "GET", "/2.4.9/customers", PREFIX + "/2.4.9/customers")
        assert status == 400


async def test_a_target_that_says_https_does_not_make_it_so(store_url: str) -> None:
    """aiohttp takes the scheme of an absolute form at its word."""
    async with serving(store_url) as edge:
        for target in ("https://gateway.example.com/2.4.9/customers", "http://gateway.example.com/2.4.9/customers"):
            status, _, content = await ask(edge.manage, "GET", target)
            assert (status, b"HTTPS requests only" in content) == (403, True)


@pytest.mark.parametrize("target", ["*", "gateway.example.com:8081", "http://", "ftp:/x", "http:///x", ""])
async def test_a_target_that_names_no_resource_is_refused(gateway: Edge, target: str) -> None:
    for base in (gateway.url, gateway.manage):
        for method in ("GET", "OPTIONS", "CONNECT", "POST"):
            assert (await ask(base, method, target))[0] in (400, 404, 405)


async def test_slashes_alone_are_the_root_which_leads_to_the_page_of_the_apis_on_the_manage_port(gateway: Edge) -> None:
    for target in ("/", "//"):
        assert (await ask(gateway.url, "GET", target))[0] == 404
        assert (await ask(gateway.manage, "GET", target))[0] == 302
        for base in (gateway.url, gateway.manage):
            for method in ("OPTIONS", "CONNECT", "POST"):
                assert (await ask(base, method, target))[0] in (400, 404, 405)
