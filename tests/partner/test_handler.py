"""The partner REST API over HTTP: statuses, forms of requests, formats of answers, and bounds of bodies."""

import asyncio
import base64
import gzip
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import DigestAuthMiddleware

from edgeproxy.commands import demo_records as demo
from edgeproxy.partner import wire
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.partner.resources.operation import BODY_MOST, SMALL_BODY_MOST
from edgeproxy.store import Store
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.partner import Partner
from tests.conftest import serving
from tests.partner.client import FORM, Api

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # what aiohttp's client says


# Statuses -------------------------------------------------------------------------------------------------------------


STATUSES: list[tuple[int, str, str, dict[str, Any]]] = [
    (200, "GET", "customers{}", {}),
    (400, "POST", "customers{}", {"data": "name=x", "headers": FORM}),
    (403, "DELETE", "customers{}/1", {}),
    (404, "GET", "customers{}/999", {}),
    (404, "GET", "nothing{}", {}),
    (405, "DELETE", "statistics/cdrs{}", {}),
    (501, "PATCH", "customers{}/1", {}),
]


@pytest.mark.parametrize(("status", "method", "target", "more"), STATUSES)
@pytest.mark.parametrize("extension", [".json", ".xml"])
async def test_the_status_table(
    api: Api, status: int, method: str, target: str, more: dict[str, Any], extension: str
) -> None:
    async with api.client.request(method, api.url(target.format(extension)), **more) as response:
        body = await response.read()
        assert response.status == status
    check_format(response, body, extension, errors=status != 200)


def check_format(response: aiohttp.ClientResponse, body: bytes, extension: str, *, errors: bool) -> None:
    if extension == ".xml":
        assert response.headers["Content-Type"] == "application/xml; charset=utf-8"
        root = ET.fromstring(body)
        assert (root.tag == "errors") == errors
        assert not errors or (root[0].tag == "error" and root[0].text)
    else:
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        assert (list(orjson.loads(body)) == ["errors"]) == errors


@pytest.mark.parametrize("extension", [".json", ".xml"])
async def test_401_is_neither_json_nor_xml(api: Api, extension: str) -> None:
    async with api.edge.client.get(api.url("customers" + extension)) as response:
        assert (response.status, await response.text()) == (401, "401: Unauthorized\n")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("extension", [".json", ".xml"])
async def test_500_tells_nothing_of_its_cause(
    api: Api, extension: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Partner, "find", broken)
    async with api.client.get(api.url("customers" + extension)) as response:
        body = await response.read()
        assert response.status == 500
    check_format(response, body, extension, errors=True)
    assert b"secret" not in body
    assert "a request of the partner API failed" in caplog.text


async def test_503_while_the_store_is_away(tmp_path: Path) -> None:
    embedded = EmbeddedStore(tmp_path)
    with embedded:
        async with serving(embedded.url, allow_plain_http=True) as edge:
            async with Store(embedded.url) as store:
                await demo.fill(store)
            login = DigestAuthMiddleware(demo.USER, demo.PASSWORD)
            async with aiohttp.ClientSession(middlewares=[login]) as client:
                api = Api(edge, client)
                await api.good("GET", "miscellaneous/ping")
                embedded.__exit__(None, None, None)
                for extension in (".json", ".xml"):
                    async with client.get(api.url("customers" + extension)) as response:
                        body = await response.read()
                        assert response.status == 503
                    check_format(response, body, extension, errors=True)


async def test_what_is_counted(api: Api) -> None:
    await api.good("GET", "miscellaneous/ping")
    async with api.edge.client.get(f"{api.edge.manage}/metrics") as response:
        text = await response.text()
    assert 'edgeproxy_partner_requests_total{status="401"} 1.0' in text
    assert 'edgeproxy_partner_requests_total{status="200"} 1.0' in text


# Form -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", "name=B%C3%BCro+%26+Co&custnr=7"),
        ("application/x-www-form-urlencode", "name=B%C3%BCro+%26+Co&custnr=7"),
        ("application/x-www-form-urlencoded; charset=UTF-8", "custnr=7&name=Büro+%26+Co"),
        ("application/json", '{"name":"Büro & Co","custnr":7}'),
        ("application/json; charset=utf-8", '{"custnr":"7","name":"B\\u00fcro & Co"}'),
    ],
)
async def test_forms_and_json(api: Api, content_type: str, body: str) -> None:
    tree = await api.good("POST", "customers", body.encode(), {"Content-Type": content_type})
    (customer,) = tree["customers"]
    assert (customer["name"], customer["custnr"]) == ("Büro & Co", "7")


@pytest.mark.parametrize(
    ("target", "headers", "body", "error"),
    [
        ("customers", FORM, b"name=%ff&custnr=1", "the form is not UTF-8"),
        ("customers", FORM, b"name=\xff&custnr=1", "the form is not UTF-8"),
        ("customers?name=%ff", FORM, b"custnr=1", "the query is not UTF-8"),
        ("customers", FORM, b"&".join(b"a%d=1" % n for n in range(201)), "the form has more than 200 fields"),
        ("customers", {"Content-Type": "application/json"}, b"{", "malformed JSON"),
        ("customers", {"Content-Type": "application/json"}, b"[" * 5000, "malformed JSON"),
        ("customers", {"Content-Type": "application/json"}, b"[]", "object"),
        ("customers", {"Content-Type": "application/json"}, b'{"name":"a","name":"b","custnr":"1"}', "stands twice"),
        (
            "customers",
            {"Content-Type": "application/json"},
            b'{"custnr":"1","name":%b1%b}' % (b"[" * 900, b"]" * 900),
            "name",
        ),
        (
            "customers",
            {"Content-Type": "multipart/form-data; boundary=x"},
            b"--x--",
            "multipart/form-data is not taken",
        ),
        ("customers", FORM, b"name=a&custnr=1&name=b", "name: stands there twice"),
        ("customers?custnr=2", FORM, b"name=a&custnr=1", "custnr: stands there twice"),
        ("customers", FORM, b"name=a&custnr=1&colour=red", "colour: there is no such field"),
        ("customers", FORM, b"name=a%00&custnr=1", "name: holds a character that cannot be written in XML"),
        ("customers", FORM, b"name=a&custnr=1&custom_3=x", "custom_3: is not defined for customers"),
        ("customers", FORM, b"name=a&custnr=1&custom_21=x", "custom_21: there is no such field"),
        ("customers", FORM, b"x" * (4 * 1024 * 1024 + 1), "the body is larger than"),
    ],
)
async def test_bad_input_is_told(api: Api, target: str, headers: dict[str, str], body: bytes, error: str) -> None:
    status, tree = await api.call("POST", target, body, headers)
    assert status == 400
    assert error in "\n".join(tree["errors"])
    assert (await api.good("GET", "customers"))["total"] == 2


async def test_every_fault_of_a_request_is_told_at_once(api: Api) -> None:
    form = {"name": "", "email": "x" * 151, "receive_monthly_report": "3", "wrong": "1"}
    status, tree = await api.call("POST", "customers", form)
    assert status == 400
    assert sorted(tree["errors"]) == [
        "custnr: is required",
        "email: has more than 150 characters",
        "name: is empty",
        "receive_monthly_report: must be like ^[012]$",
        "wrong: there is no such field",
    ]


@pytest.mark.parametrize(
    ("target", "accept", "kind"),
    [
        ("customers", "application/xml", "application/xml"),
        ("customers.json", "application/xml", "application/json"),
        ("customers.xml", "application/json", "application/xml"),
        ("customers.xml/1", "*/*", "application/xml"),
        ("customers/1/voicemail_greetings.xml/2", "*/*", "application/xml"),
        ("customers/1.xml", "*/*", "application/xml"),
        ("statistics/cdrs.xml&page=0", "*/*", "application/xml"),
        ("miscellaneous/ping.xml", "*/*", "application/xml"),
        ("customers", "text/html", "application/json"),
    ],
)
async def test_the_extension_wins_over_accept(api: Api, target: str, accept: str, kind: str) -> None:
    async with api.client.get(api.url(target), headers={"Accept": accept}) as response:
        assert (response.status, response.content_type) == (200, kind)


@pytest.mark.parametrize(
    "target", ["customers.html", "customers.xml.gz", "customers/1.5", "Customers", "customers/x", "customers/01"]
)
async def test_what_is_not_there(api: Api, target: str) -> None:
    assert (await api.call("GET", target))[0] == 404


async def test_another_version_is_not_there(api: Api) -> None:
    async with api.edge.client.get(f"{api.edge.manage}/2.5/customers") as response:
        assert response.status == 404
        assert "2.4.9" in await response.text()


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("POST", "customers/1?_method=PUT", {}, 200),
        ("POST", "customers/1?_method=put", {}, 200),
        ("POST", "customers/1", {"X-HTTP-Method-Override": "PUT"}, 200),
        ("POST", "customers/1?_method=PUT", {"X-HTTP-Method-Override": "PUT"}, 200),
        ("POST", "customers/1?_method=PUT", {"X-HTTP-Method-Override": "DELETE"}, 400),
        ("GET", "customers/1?_method=DELETE", {}, 400),
        ("PUT", "customers/1", {"X-HTTP-Method-Override": "DELETE"}, 400),
        ("POST", "customers/1?_method=TRACE", {}, 501),
        ("POST", "customers/1", {}, 405),
        ("PUT", "customers/1", {}, 200),
        ("OPTIONS", "customers/1", {}, 501),
    ],
)
async def test_overriding_the_method(api: Api, method: str, target: str, headers: dict[str, str], status: int) -> None:
    data = None if method == "GET" else b"name=Freespee+New+AB"
    assert (await api.call(method, target, data, FORM | headers))[0] == status
    name = (await api.good("GET", "customers/1"))["customers"][0]["name"]
    assert name == ("Freespee New AB" if status == 200 else "Freespee AB")


async def test_head_is_get_without_a_body_and_405_lists_what_is_allowed(api: Api) -> None:
    async with api.client.head(api.url("customers/1")) as response:
        assert (response.status, await response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) > 100
    async with api.client.post(api.url("customers/1")) as response:
        assert (response.status, response.headers["Allow"]) == (405, "DELETE, GET, HEAD, PUT")


async def test_a_request_without_host_is_refused(api: Api) -> None:
    host, port = api.edge.manage.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /2.4.9/miscellaneous/ping HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"400"
    writer.close()


async def test_a_packed_body_is_taken_within_the_body_s_limit(api: Api) -> None:
    form = b"name=B%C3%BCro&custnr=7"
    headers = FORM | {"Content-Encoding": "gzip"}
    (made,) = (await api.good("POST", "customers", gzip.compress(form), headers))["customers"]
    assert made["name"] == "Büro"
    bomb = gzip.compress(form + bytes(2 * SMALL_BODY_MOST))
    status, tree = await api.call("POST", "customers", bomb, headers)
    assert (status, tree) == (400, {"errors": [f"the body is larger than {SMALL_BODY_MOST} bytes"]})
    assert (await api.call("POST", "customers", b"?", FORM | {"Content-Encoding": "br"}))[0] == 415


async def test_a_body_is_small_unless_it_holds_a_sound(api: Api) -> None:
    for operation in OPERATIONS:
        if operation.method == "GET":
            continue  # it has none that is read
        ids = dict.fromkeys(("customer_id", "source_id", "vm_greeting_id"), "1")
        path = operation.paths[-1].format(**ids)
        most = BODY_MOST if "greetings" in path and operation.method != "DELETE" else SMALL_BODY_MOST
        status, tree = await api.call(operation.method, path, b"name=" + b"x" * most, FORM)
        assert (status, tree) == (400, {"errors": [f"the body is larger than {most} bytes"]})


@pytest.mark.parametrize("body", [b'{"a":[' + b"1," * 60_000 + b"1]}", b"a=" + b"%" * 260_000, "ü".encode() * 60_000])
async def test_a_large_body_is_one_sound_and_not_many_pieces(api: Api, body: bytes) -> None:
    headers = {"Content-Type": "application/json"} if body[:1] == b"{" else FORM
    status, tree = await api.call("POST", "customers/1/voicemail_greetings", body, headers)
    assert status == 400
    assert tree == {"errors": ["a body of more than 98304 bytes is for a sound: this one is in too many pieces"]}


async def test_two_sounds_of_an_account_are_taken_in_at_once_and_others_wait(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading: list[int] = []
    under_way, read = 0, wire.receive_body

    async def slow(*arguments: Any) -> Any:
        nonlocal under_way
        under_way += 1
        reading.append(under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return await read(*arguments)

    monkeypatch.setattr(wire, "receive_body", slow)
    form = {"name": "x", "sounddata": base64.b64encode(b"sound").decode()}
    calls = (api.call("POST", "customers/1/voicemail_greetings", form) for _ in range(6))
    assert [status for status, _ in await asyncio.gather(*calls)] == [200] * 6
    assert max(reading) == 2
    reading.clear()
    await asyncio.gather(*(api.call("PUT", "customers/1", {"name": "x"}) for _ in range(6)))
    assert max(reading) > 2
