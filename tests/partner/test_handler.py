"""The partner REST API over HTTP: access, forms, formats, statuses, every resource (`edgeproxy/partner/README.md`)."""

import asyncio
import base64
import gzip
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import aiohttp
import orjson
import pytest
from aiohttp import DigestAuthMiddleware
from pydantic import SecretStr
from yarl import URL

from edgeproxy.commands import demo_data as demo
from edgeproxy.partner import digest
from edgeproxy.partner import handler as partner_handler
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.partner.resources.operation import BODY_MOST, SMALL_BODY_MOST
from edgeproxy.store import Store, sealing
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.partner import Partner, User
from edgeproxy.store.sealing import Seal
from tests.conftest import Desk, Edge, serving
from tests.servers import client_of, configured, on_primaries

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # what aiohttp's client says

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SAMPLE_CUSTOMER = [
    "customer_id", "name", "custnr", "corporateid", "email", "uuid", "dncs_class_name", "receive_monthly_report",
    "freespee_caller_id",
]  # fmt: skip
ADDRESS = ["address_street", "address_zip", "address_city", "address_state", "address_country"]
SAMPLE_SOURCE = [
    "source_id", "name", "email", "smsnumber", "media", "customer_id", "phonenr", "destnr", "timestamp", "expire",
    "created", "modified", "class", "status", "vm_greeting_id", "notify_on_missed_call", "vm_divert_all",
    "vm_divert_busy", "vm_divert_noanswer", "alt_numbers",
]  # fmt: skip


@dataclass
class Api:
    """The demo's partner API, and a client that is logged in."""

    edge: Edge
    client: aiohttp.ClientSession

    def url(self, target: str) -> URL:
        return URL(f"{self.edge.manage}/2.4.9/{target}", encoded=True)

    async def call(
        self, method: str, target: str, data: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and decoded JSON; a dict is sent as a form."""
        async with self.client.request(method, self.url(target), data=data, headers=headers) as response:
            return response.status, orjson.loads(await response.read())

    async def good(self, method: str, target: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
        status, tree = await self.call(method, target, data, headers)
        assert status == 200, tree
        return tree


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    async with serving(store_url, allow_plain_http=True) as edge:
        async with Store(store_url) as store:
            await demo.fill(store)
        login = DigestAuthMiddleware(demo.USER, demo.PASSWORD)
        with configured(store_url, appendfsync="always"):
            async with aiohttp.ClientSession(middlewares=[login]) as client:
                yield Api(edge, client)


def authorization(
    method: str, uri: str, challenge: str, *, count: int = 1, password: str = demo.PASSWORD, **changes: str
) -> str:
    """What a client answers to a challenge; `changes` are of its parts."""
    parts = dict(part.split("=", 1) for part in challenge.removeprefix("Digest ").split(", "))
    algorithm = changes.get("algorithm", parts["algorithm"])
    said = {"username": demo.USER, "realm": "edgeproxy", "nonce": parts["nonce"].strip('"'), "uri": uri} | changes
    credentials = digest.Credentials(said["username"], said["nonce"], said["uri"], "", algorithm, f"{count:08x}", "c")
    proof = digest.response(credentials, digest.ha1(algorithm, said["username"], said["realm"], password), method)
    listed = ", ".join(f'{name}="{value}"' for name, value in said.items() if name != "algorithm")
    return f'Digest {listed}, response="{proof}", algorithm={algorithm}, qop=auth, nc={count:08x}, cnonce="c"'


async def challenge(api: Api, target: str = "miscellaneous/ping") -> list[str]:
    async with api.edge.client.get(api.url(target)) as response:
        assert response.status == 401
        return response.headers.getall("WWW-Authenticate")


async def bare(api: Api, target: str, header: str, method: str = "GET", **headers: str) -> tuple[int, str, list[str]]:
    """A request with that Authorization: status, body, challenges."""
    sent = {"Authorization": header} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.edge.client.request(method, api.url(target), headers=sent) as response:
        return response.status, await response.text(), response.headers.getall("WWW-Authenticate", [])


# Access ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", digest.OFFERED)
async def test_login_with_either_algorithm(api: Api, algorithm: str) -> None:
    (offer,) = [line for line in await challenge(api) if f"algorithm={algorithm}" in line]
    status, text, _ = await bare(api, "miscellaneous/ping", authorization("GET", "/2.4.9/miscellaneous/ping", offer))
    assert (status, text) == (200, '{"ping":"ok"}')


async def test_nobody_learns_which_users_there_are(api: Api) -> None:
    uri = "/2.4.9/miscellaneous/ping"
    offer, _ = await challenge(api)
    answers = []
    for count, (user, password) in enumerate([("demo", "wrong"), ("nobody", "demo-password")], 1):
        header = authorization("GET", uri, offer, count=count, password=password, username=user)
        status, text, lines = await bare(api, "miscellaneous/ping", header)
        answers.append((status, text, [line.split("nonce=")[0] for line in lines], "stale" in lines[0]))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    assert not answers[0][3]


async def test_a_count_is_taken_once_over_all_workers(api: Api, store_url: str) -> None:
    offer, _ = await challenge(api)
    header = authorization("GET", "/2.4.9/miscellaneous/ping", offer)
    assert (await bare(api, "miscellaneous/ping", header))[0] == 200
    async with serving(store_url, allow_plain_http=True) as other:
        again = Api(other, other.client)
        for node in (api, again):
            status, _, lines = await bare(node, "miscellaneous/ping", header)
            assert status == 401
            assert all("stale=true" in line for line in lines)
        header = authorization("GET", "/2.4.9/miscellaneous/ping", offer, count=2)
        assert (await bare(again, "miscellaneous/ping", header))[0] == 200  # a nonce is good on every node
    header = authorization("GET", "/2.4.9/miscellaneous/ping", offer, count=digest.COUNT_MOST + 1)
    assert (await bare(api, "miscellaneous/ping", header))[0] == 401


async def test_an_old_nonce_is_stale_and_a_strange_one_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "/2.4.9/miscellaneous/ping"
    offer, _ = await challenge(api)
    strange = authorization("GET", uri, offer, nonce="x" * 40)
    assert "stale=true" in (await bare(api, "miscellaneous/ping", strange))[2][0]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + digest.NONCE_LIFE_S)
    status, _, lines = await bare(api, "miscellaneous/ping", authorization("GET", uri, offer))
    assert status == 401
    assert "stale=true" in lines[0]


async def test_an_answer_for_another_request_is_none(api: Api) -> None:
    offer, _ = await challenge(api)
    header = authorization("GET", "/2.4.9/customers", offer)
    assert (await bare(api, "miscellaneous/ping", header))[0] == 400
    header = authorization("DELETE", "/2.4.9/miscellaneous/ping", offer)
    assert (await bare(api, "miscellaneous/ping", header))[0] == 401


async def test_failed_logins_shut_an_address_out_and_no_other(api: Api) -> None:
    uri = "/2.4.9/miscellaneous/ping"
    offer, _ = await challenge(api)
    mine, other = {"X_Forwarded_For": "127.0.1.7"}, {"X_Forwarded_For": "127.0.0.9"}
    for count in range(20):
        header = authorization("GET", uri, offer, count=count + 1, password="wrong")
        assert (await bare(api, "miscellaneous/ping", header, **mine))[0] == 401
    header = authorization("GET", uri, offer, count=21)
    async with api.edge.client.get(
        api.url("miscellaneous/ping"), headers={"Authorization": header, "X-Forwarded-For": "127.0.1.7"}
    ) as response:
        assert (response.status, response.headers["Retry-After"]) == (403, "60")
    assert (await bare(api, "miscellaneous/ping", header, **other))[0] == 200


async def test_guesses_at_once_are_counted_one_by_one(api: Api) -> None:
    uri = "/2.4.9/miscellaneous/ping"
    offer, _ = await challenge(api)
    headers = [authorization("GET", uri, offer, count=count + 1, password="wrong") for count in range(100)]
    answers = await asyncio.gather(
        *(bare(api, "miscellaneous/ping", header, X_Forwarded_For="127.0.1.8") for header in headers)
    )
    assert sorted(status for status, _, _ in answers) == [401] * 20 + [403] * 80


async def test_many_requests_at_once_of_one_client_are_no_guesses(api: Api) -> None:
    offer, _ = await challenge(api)
    headers = [authorization("GET", "/2.4.9/miscellaneous/ping", offer, count=count + 1) for count in range(60)]
    answers = await asyncio.gather(*(bare(api, "miscellaneous/ping", header) for header in headers))
    assert {status for status, _, _ in answers} == {200}


async def test_a_user_shut_out_while_a_body_is_held_back_is_refused(api: Api, desk: Desk) -> None:
    offer, _ = await challenge(api)
    header = authorization("POST", "/2.4.9/customers", offer)
    host, port = api.edge.manage.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b"name=late&custnr=1"
    head = (
        f"POST /2.4.9/customers HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode())
    await asyncio.sleep(1.2)
    await Partner(desk.store, None).remove_user(demo.USER)
    writer.write(body)
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()
    account = await desk.account("demo")
    assert (await Partner(desk.store, None).find(account, "customers", {})).total == 2


async def test_the_right_password_from_a_network_that_is_not_listed(api: Api) -> None:
    offer, _ = await challenge(api)
    header = authorization("GET", "/2.4.9/miscellaneous/ping", offer)
    status, text, _ = await bare(
        api, "miscellaneous/ping", header, X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https"
    )
    assert (status, text) == (401, "401: Unauthorized\n")


async def test_https_only_unless_a_trusted_proxy_or_this_machine_says_otherwise(store_url: str) -> None:
    async with serving(store_url) as edge:

        async def status(**headers: str) -> int:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            async with edge.client.get(f"{edge.manage}/2.4.9/miscellaneous/ping", headers=sent) as response:
                return response.status

        assert await status() == 403
        assert await status(X_Forwarded_Proto="http") == 403
        assert await status(X_Forwarded_Proto="https") == 401
        assert await status(X_Forwarded_Proto="https, http") == 403  # the last is the peer's own word
        assert await status(Forwarded="for=1.2.3.4;proto=https") == 403  # not the header that the proxies here write
    async with (
        serving(store_url, trusted_proxies=[]) as edge,
        edge.client.get(f"{edge.manage}/2.4.9/miscellaneous/ping", headers={"X-Forwarded-Proto": "https"}) as response,
    ):
        assert response.status == 403
    async with serving(store_url, client_ip_header="forwarded") as edge:
        for header, expected in (
            ("for=1.2.3.4;proto=https", 401),
            ('for="[::1]" ; Proto="HTTPS"', 401),
            ("for=1.2.3.4", 403),
        ):
            async with edge.client.get(
                f"{edge.manage}/2.4.9/miscellaneous/ping", headers={"Forwarded": header}
            ) as response:
                assert response.status == expected


async def test_a_nonce_key_that_was_lost_is_made_again(api: Api, store_url: str) -> None:
    await api.good("GET", "miscellaneous/ping")
    with client_of(store_url) as client:
        client.delete("ep1:nonce-key")
    await api.good("GET", "miscellaneous/ping")


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


# Resources ------------------------------------------------------------------------------------------------------------


async def test_every_operation_needs_a_login(api: Api) -> None:
    for operation in OPERATIONS:
        for path in operation.paths:
            async with api.edge.client.request(
                operation.method, api.url(path.replace("{", "").replace("}", ""))
            ) as response:
                assert response.status == 401


async def test_customers(api: Api) -> None:
    tree = await api.good("POST", "customers", {"name": "DailyLoans", "custnr": "1412"})
    (customer,) = tree["customers"]
    assert list(tree) == ["customers"]
    assert list(customer) == [*SAMPLE_CUSTOMER, *ADDRESS, "custom_1", "custom_2"]
    assert (customer["corporateid"], customer["receive_monthly_report"], customer["custom_1"]) == ("", "0", None)
    one = f"customers/{customer['customer_id']}"
    assert (await api.good("GET", one))["customers"] == [customer]
    changed = (await api.good("PUT", one, {"email": "a@example.com", "custom_1": "x"}))["customers"]
    assert changed == [customer | {"email": "a@example.com", "custom_1": "x"}]
    assert (await api.good("PUT", one, {"custom_1": ""}))["customers"][0]["custom_1"] is None
    twice = await api.good("GET", "customers?custnr=1412")
    assert (twice["total"], [c["name"] for c in twice["customers"]]) == (2, ["DailyLoans", "DailyLoans"])
    assert await api.good("DELETE", one) == {"customers": []}
    assert (await api.call("GET", one))[0] == 404
    assert (await api.call("PUT", one, {"name": "x"})) == (404, {"errors": [f"{one.replace('s/', ' ')}: not found"]})


async def test_ids_in_query_and_body_as_in_the_path(api: Api) -> None:
    assert (await api.good("PUT", "customers", {"customer_id": "1", "name": "A"}))["customers"][0]["name"] == "A"
    assert (await api.good("PUT", "customers?customer_id=1", {"name": "B"}))["customers"][0]["name"] == "B"
    assert (await api.good("PUT", "customers/1", {"customer_id": "1", "name": "C"}))["customers"][0]["name"] == "C"
    status, tree = await api.call("PUT", "customers/1", {"customer_id": "2", "name": "D"})
    assert (status, tree) == (400, {"errors": ["customer_id: stands there twice"]})
    assert (await api.good("GET", "customers?customer_id=1"))["customers"][0]["name"] == "C"
    made = (await api.good("POST", "customers", {"name": "E", "custnr": "9"}))["customers"][0]["customer_id"]
    assert await api.good("DELETE", "customers", f"customer_id={made}".encode(), FORM) == {"customers": []}
    assert (await api.call("DELETE", f"customers?customer_id={made}"))[0] == 404


async def test_pages(api: Api) -> None:
    for n in range(5):
        await api.good("POST", "customers", {"name": str(n), "custnr": str(n)})
    tree = await api.good("GET", "customers?page=1&pagesize=3")
    assert [tree[name] for name in ("total", "page", "pagesize", "numpages")] == [7, 1, 3, 3]
    assert [customer["name"] for customer in tree["customers"]] == ["1", "2", "3"]
    beyond = await api.good("GET", "customers?page=9&pagesize=3")
    assert (beyond["customers"], beyond["total"]) == ([], 7)
    async with api.client.get(api.url("customers.xml?page=2&pagesize=3")) as response:
        root = ET.fromstring(await response.text())
    assert (root.tag, root.attrib) == ("customers", {"total": "7", "page": "2", "pagesize": "3", "numpages": "3"})
    for query in ("page=-1", "page=x", "pagesize=0", "pagesize=1001", "page="):
        assert (await api.call("GET", f"customers?{query}"))[0] == 400


async def test_sources(api: Api) -> None:
    form = {"customer_id": "407390", "name": "AdWords", "media": "Google.com", "phonenr": "0890510"}
    (source,) = (await api.good("POST", "sources", form))["sources"]
    assert list(source)[: len(SAMPLE_SOURCE)] == SAMPLE_SOURCE
    assert (source["phonenr"], source["status"], source["alt_numbers"], source["expire"]) == (
        "+49890510", "active", [], None,
    )  # fmt: skip
    one = f"sources/{source['source_id']}"
    assert (await api.call("POST", "sources", form))[1] == {"errors": ["phonenr: is not free"]}
    changes = {"destnr": "030 1234", "alt_numbers": "030 1235,+44 20 7946 0000", "expire": "2099-01-31", "class": "3"}
    (changed,) = (await api.good("PUT", one, changes))["sources"]
    assert (changed["destnr"], changed["alt_numbers"], changed["expire"], changed["class"]) == (
        "+49301234", ["+49301235", "+442079460000"], "2099-01-31 00:00:00", "3",
    )  # fmt: skip
    assert (await api.good("GET", one))["sources"] == [changed]
    assert (await api.call("PUT", one, {"phonenr": "030 1"}))[1] == {"errors": ["phonenr: there is no such field"]}
    (extended,) = (await api.good("POST", one + "/extend", {"expire": "2099-03-01 12:00:00"}))["sources"]
    assert (extended["status"], extended["expire"]) == ("extended", "2099-03-01 12:00:00")
    (gone,) = (await api.good("DELETE", one))["sources"]
    assert gone["status"] == "quarantined"
    assert (await api.call("DELETE", one))[0] == 403
    (back,) = (await api.good("PUT", f"sources/reactivate?source_id={source['source_id']}"))["sources"]
    assert (back["status"], back["expire"]) == ("active", None)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["643967", "643968", "643969", "643970"]),
        ("customer_id=1", ["643967", "643968"]),
        ("custnr=1412", ["643969", "643970"]),
        ("custnr=1412&customer_id=1", []),
        ("custnr=none", []),
        ("destnr=030+12345601", ["643967", "643968"]),
        ("destnr=%2B493012345602&customer_id=407390", ["643969"]),
        ("status=active&class=0", ["643967", "643968", "643969", "643970"]),
        ("status=archived", []),
        ("campaign_id=x", []),
        ("source_id=643970&customer_id=407390", ["643970"]),
    ],
)
async def test_source_filters(api: Api, query: str, ids: list[str]) -> None:
    tree = await api.good("GET", f"sources?{query}")
    assert [source["source_id"] for source in tree["sources"]] == ids


@pytest.mark.parametrize(
    "expire",
    [
        "2099-01-31 11:00:00",
        "2099-01-31T12:00:00+01:00",
        "2099-01-31T11:00Z",
        "4073540400",
        "4073540400000",
        4073540400,
    ],
)
async def test_a_time_is_taken_in_every_form(api: Api, expire: Any) -> None:
    fields = {"customer_id": "1", "name": "s", "expire": expire}
    form = fields | {"expire": str(expire)}
    for body, headers in ((form, {}), (orjson.dumps(fields), {"Content-Type": "application/json"})):
        (source,) = (await api.good("POST", "sources", body, headers))["sources"]
        assert source["expire"] == "2099-01-31 11:00:00"


async def test_a_source_without_an_expiry_is_told_to_have_none_to_extend(api: Api) -> None:
    (source,) = (await api.good("POST", "sources", {"customer_id": "1", "name": "s"}))["sources"]
    one = f"sources/{source['source_id']}"
    assert await api.call("POST", one + "/extend", {"expire": "2099-03-01"}) == (
        400, {"errors": ["expire: the source has none that could be extended: a PUT of the source gives it one"]},
    )  # fmt: skip
    await api.good("PUT", one, {"expire": "2099-02-01"})
    (extended,) = (await api.good("POST", one + "/extend", {"expire": "2099-03-01"}))["sources"]
    assert extended["status"] == "extended"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"customer_id": "9"}, 400, "customer_id: there is no such customer"),
        ({"phonenr": "+4930999999"}, 400, "phonenr: is none of the account's numbers"),
        ({"phonenr": "x"}, 400, "phonenr: is not a phone number"),
        ({"phonenr": "+493015981151"}, 403, "phonenr: is not free"),
        ({"vm_greeting_id": "2", "customer_id": "407390"}, 400, "vm_greeting_id: the customer has no such greeting"),
        ({"expire": "2001-01-01"}, 400, "expire: must be later than now"),
        ({"expire": "2099-02-30"}, 400, "expire: must be a time such as"),
        ({"expire": "2099-12-31 23:59:60"}, 400, "expire: must be a time such as"),
        ({"expire": "9999-12-31 23:59:61"}, 400, "expire: must be a time such as"),
        ({"expire": "9999-12-31 23:59:59"}, 400, "expire: must be a time from 1970 to 9998"),
        ({"timestamp": "tomorrow"}, 400, "timestamp: must be a time such as"),
        ({"alt_numbers": ",".join(f"0301234{n}" for n in range(11))}, 400, "alt_numbers: has more than 10 entries"),
        ({"custom_2": "x"}, 400, "custom_2: is not defined for sources"),
    ],
)
async def test_a_source_that_cannot_be(api: Api, form: dict[str, str], status: int, error: str) -> None:
    answered, tree = await api.call("POST", "sources", {"customer_id": "1", "name": "s", **form})
    assert answered == status
    assert any(line.startswith(error) for line in tree["errors"]), tree
    assert (await api.good("GET", "sources"))["total"] == 4


async def test_an_empty_inventory_is_a_clear_error(api: Api) -> None:
    statuses = [(await api.call("POST", "sources", {"customer_id": "1", "name": "s"}))[0] for _ in range(11)]
    assert statuses == [200] * 11
    assert await api.call("POST", "sources", {"customer_id": "1", "name": "s"}) == (
        403,
        {"errors": ["no number is free"]},
    )


async def test_voicemail_greetings(api: Api) -> None:
    sound = bytes(range(256)) * 4096  # 1 MiB: the most
    form = {"name": "Beep", "sounddata": base64.b64encode(sound).decode()}
    (made,) = (await api.good("POST", "customers/1/voicemail_greetings", form))["voicemail_greetings"]
    assert (made["datalength"], made["locked"], made["used_by"], "sounddata" in made) == ("1048576", "0", [], False)
    one = f"customers/1/voicemail_greetings/{made['vm_greeting_id']}"
    (read,) = (await api.good("GET", one))["voicemail_greetings"]
    assert base64.b64decode(read["sounddata"]) == sound
    listed = await api.good("GET", "customers/voicemail_greetings?customer_id=1")
    assert [greeting["name"] for greeting in listed["voicemail_greetings"]] == ["Out of office", "Beep"]
    assert "sounddata" not in listed["voicemail_greetings"][0]
    (source,) = (await api.good("PUT", "sources/643967", {"vm_greeting_id": made["vm_greeting_id"]}))["sources"]
    assert source["vm_greeting_id"] == made["vm_greeting_id"]
    (used,) = (await api.good("GET", one))["voicemail_greetings"]
    assert (used["locked"], used["used_by"]) == ("1", ["643967"])
    assert (await api.call("DELETE", one))[0] == 403
    await api.good("PUT", "sources/643967", {"vm_greeting_id": ""})
    (renamed,) = (await api.good("PUT", one, {"name": "Boop", "sounddata": "AAAA"}))["voicemail_greetings"]
    assert (renamed["name"], renamed["datalength"]) == ("Boop", "3")
    assert await api.good("DELETE", one) == {"voicemail_greetings": []}
    assert (await api.call("GET", one))[0] == 404
    assert (await api.call("GET", "customers/407390/voicemail_greetings/2"))[0] == 404
    assert (await api.call("GET", "customers/9/voicemail_greetings"))[0] == 404
    for wrong in ("", "@", base64.b64encode(sound + b"x").decode()):
        status, tree = await api.call("POST", "customers/1/voicemail_greetings", {"name": "x", "sounddata": wrong})
        assert status == 400
        assert tree["errors"][0].startswith("sounddata: ")


async def test_call_records(api: Api) -> None:
    tree = await api.good("GET", "statistics/cdrs&page=1&pagesize=8")
    assert [tree[name] for name in ("total", "page", "pagesize", "numpages")] == [20, 1, 8, 3]
    assert [cdr["cdr_id"] for cdr in tree["cdrs"]] == [str(n) for n in range(9, 17)]
    cdr = tree["cdrs"][0]
    assert cdr["anum"].endswith("xxx")
    assert len(cdr["anum_md5"]) == 32
    assert "source_name" not in cdr
    newest = await api.good("GET", "statistics/cdrs?newest_first=1&pagesize=1&extended=1&source_id=643970")
    assert (newest["total"], newest["cdrs"][0]["cdr_id"], newest["cdrs"][0]["source_name"]) == (5, "20", "Radio")
    one = await api.good("GET", "statistics/cdrs?cdr_id=5")
    assert [found["cdr_id"] for found in one["cdrs"]] == ["5"]
    assert (await api.good("GET", "statistics/cdrs/5")) == one
    assert (await api.call("GET", "statistics/cdrs?cdr_id=5&customer_id=407390"))[0] == 404
    day = one["cdrs"][0]["start"][:10]
    of_day = await api.good("GET", f"statistics/cdrs?from_date={day}&to_date={day}")
    assert {found["start"][:10] for found in of_day["cdrs"]} == {day}
    assert of_day["total"] in (4, 5)
    start = one["cdrs"][0]["start"].replace(" ", "+")
    exactly = await api.good("GET", f"statistics/cdrs?from_date={start}&to_date={start}")
    assert [found["cdr_id"] for found in exactly["cdrs"]] == ["5"]
    assert (await api.good("GET", "statistics/cdrs?custnr=123"))["total"] == 10


# What the public clients of this API read of a call with `extended`.
READ_OF_A_CALL = [
    "cdr_id", "start", "duration", "duration_adjusted", "anum", "anum_md5", "bnum", "cnum", "customer_id", "source_id",
    "custnr", "answered", "quarantined", "anum_ndc_name",
]  # fmt: skip
READ_OF_AN_EXTENDED_CALL = [
    "expire", "source_name", "source_media", "class", "publisher_id", "partner_publisher_id", "campaign_id",
    "partner_campaign_id", "pricing_model_id", "commission", "cli_id", "order_id", "recording_id",
]  # fmt: skip


async def test_a_call_record_has_what_public_clients_read(api: Api, desk: Desk) -> None:
    (bare,) = (await api.good("GET", "statistics/cdrs/5"))["cdrs"]
    assert list(bare) == READ_OF_A_CALL
    assert bare["anum_ndc_name"] is None
    (whole,) = (await api.good("GET", "statistics/cdrs/5?extended=1"))["cdrs"]
    assert whole.keys() >= {*READ_OF_A_CALL, *READ_OF_AN_EXTENDED_CALL}
    assert (whole["class"], whole["source_name"]) == ("0", "AdWords")
    assert [whole[name] for name in ("recording_id", "commission", "expire")] == [None] * 3

    form = {"customer_id": "1", "name": "s", "expire": "2099-01-31", "campaign_id": "spring", "class": "3"}
    (source,) = (await api.good("POST", "sources", form))["sources"]
    for event in ("started", "ended"):
        sent = {"call_id": "c", "event": event, "number": source["phonenr"]}
        async with api.edge.client.post(
            api.edge.manage + "/calls", json=sent, headers={"Access-Token": "demo-token"}
        ) as response:
            assert response.status == 200
    query = f"statistics/cdrs?extended=1&source_id={source['source_id']}"
    (call,) = (await api.good("GET", query))["cdrs"]
    assert (call["expire"], call["campaign_id"], call["class"]) == ("2099-01-31 00:00:00", "spring", "3")


async def test_a_customer_s_address_is_null_until_it_is_told(api: Api) -> None:
    (customer,) = (await api.good("GET", "customers/1"))["customers"]
    assert [customer[name] for name in ADDRESS] == [None] * 5
    address = dict(zip(ADDRESS, ("Hauptstraße 1", "10827", "Berlin", "BE", "DE"), strict=True))
    (changed,) = (await api.good("PUT", "customers/1", address))["customers"]
    assert changed == customer | address
    (emptied,) = (await api.good("PUT", "customers/1", {"address_city": ""}))["customers"]
    assert emptied["address_city"] is None
    assert await api.call("PUT", "customers/1", {"address_zip": "1" * 41}) == (
        400, {"errors": ["address_zip: has more than 40 characters"]},
    )  # fmt: skip


async def test_there_are_no_recordings(api: Api) -> None:
    empty = {"total": 0, "page": 0, "pagesize": 1000, "numpages": 0, "recordings": []}
    assert await api.good("GET", "recordings") == empty
    assert await api.good("GET", "recordings?customer_id=1&from_date=2026-01-01&pagesize=1000") == empty
    for target in ("recordings/1", "recordings?recording_id=1"):
        assert await api.call("GET", target) == (404, {"errors": ["recording 1: not found"]})
    assert (await api.call("GET", "recordings?colour=red"))[0] == 400
    assert (await api.call("DELETE", "recordings/1"))[0] == 405
    async with api.client.get(api.url("recordings.xml")) as response:
        root = ET.fromstring(await response.text())
    assert (root.tag, root.attrib["total"], len(root)) == ("recordings", "0", 0)


NUMBERS = ["+49301235", "+442079460000"]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("alt_numbers=0301235,%2B442079460000", FORM),
        ("alt_numbers=0301235&alt_numbers=%2B442079460000", FORM),  # Python's requests
        ("alt_numbers[]=0301235&alt_numbers[]=%2B442079460000", FORM),
        ("alt_numbers%5B0%5D=0301235&alt_numbers%5B1%5D=%2B442079460000", FORM),  # PHP's http_build_query
        ("alt_numbers%5B3%5D=0301235,%2B442079460000&alt_numbers%5B7%5D=", FORM),
        (b'{"alt_numbers":["0301235","+442079460000"]}', JSON),
        (b'{"alt_numbers":"0301235,+442079460000"}', JSON),
        (b'{"alt_numbers":{"0":"0301235","2":"+442079460000"}}', JSON),  # PHP's json_encode, one left out
    ],
)
async def test_a_list_is_taken_as_clients_write_it(api: Api, body: Any, headers: dict[str, str]) -> None:
    (source,) = (await api.good("PUT", "sources/643967", body, headers))["sources"]
    assert source["alt_numbers"] == NUMBERS
    for empty, of in (("alt_numbers[]=", FORM), ("alt_numbers=", FORM), (b'{"alt_numbers":[]}', JSON)):
        assert (await api.good("PUT", "sources/643967", empty, of))["sources"][0]["alt_numbers"] == []


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        ("alt_numbers[0]=0301235&alt_numbers[0]=0301236", FORM, "alt_numbers[0]: stands there twice"),
        ("alt_numbers[a]=0301235", FORM, "alt_numbers[a]: there is no such field"),
        ("alt_numbers[0][1]=0301235", FORM, "alt_numbers[0][1]: there is no such field"),
        ("name[]=x", FORM, "name[]: there is no such field"),
        ("name=x&name=y", FORM, "name: stands there twice"),
        ("&".join(f"alt_numbers[]=030123{n}" for n in range(11)), FORM, "alt_numbers: has more than 10 entries"),
        (b'{"alt_numbers":{"a":"0301235"}}', JSON, "alt_numbers: "),
    ],
)
async def test_a_list_that_cannot_be(api: Api, body: Any, headers: dict[str, str], error: str) -> None:
    status, tree = await api.call("PUT", "sources/643967", body, headers)
    assert status == 400
    assert tree["errors"][0].startswith(error)


async def test_an_account_sees_nothing_of_another(api: Api, desk: Desk) -> None:
    file = "accounts: {other: {secrets: [s], region: DE, networks: [127.0.0.0/8], numbers: [+493015989000]}}"
    await desk.load(file)
    hashes = {name: digest.ha1(name, "other", digest.REALM, "other-password") for name in digest.OFFERED}
    await Partner(desk.store, None).save_user("other", User("other", hashes))
    login = DigestAuthMiddleware("other", "other-password")
    async with aiohttp.ClientSession(middlewares=[login]) as client:
        other = Api(api.edge, client)
        assert (await other.good("GET", "customers"))["total"] == 0
        for target in ("customers/1", "sources/643967", "statistics/cdrs/1", "customers/1/voicemail_greetings/2"):
            assert (await other.call("GET", target))[0] == 404
        for method, target in (("PUT", "customers/1"), ("DELETE", "customers/1"), ("DELETE", "sources/643967")):
            assert (await other.call(method, target))[0] == 404
    assert (await api.good("GET", "customers"))["total"] == 2


async def test_a_user_is_shut_out_at_once(api: Api, desk: Desk) -> None:
    await api.good("GET", "miscellaneous/ping")
    await Partner(desk.store, None).remove_user(demo.USER)
    async with api.client.get(api.url("miscellaneous/ping")) as response:
        assert response.status == 401


async def test_hostile_strings_come_back_the_same_in_both_formats(api: Api) -> None:
    for hostile in ("]]>", "<!--", "&amp;", "\U0001f4de", "a\rb\nc\td", "\u202e", "'\"", "{}", "%00"):
        tree = await api.good(
            "POST", "customers", orjson.dumps({"name": hostile, "custnr": "1"}), {"Content-Type": "application/json"}
        )
        customer = tree["customers"][0]
        assert customer["name"] == hostile
        async with api.client.get(api.url(f"customers.xml/{customer['customer_id']}")) as response:
            assert ET.fromstring(await response.text())[0][1].text == hostile


async def test_nothing_secret_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    await api.good("GET", "miscellaneous/ping")
    offer, _ = await challenge(api)
    await bare(api, "miscellaneous/ping", authorization("GET", "/2.4.9/miscellaneous/ping", offer, password="hunter2"))
    for secret in (
        demo.PASSWORD,
        "hunter2",
        *(digest.ha1(a, demo.USER, digest.REALM, demo.PASSWORD) for a in digest.OFFERED),
    ):
        assert secret not in caplog.text


async def test_a_packed_body_is_taken_within_the_body_s_limit(api: Api) -> None:
    form = b"name=B%C3%BCro&custnr=7"
    headers = FORM | {"Content-Encoding": "gzip"}
    (made,) = (await api.good("POST", "customers", gzip.compress(form), headers))["customers"]
    assert made["name"] == "Büro"
    bomb = gzip.compress(form + bytes(2 * SMALL_BODY_MOST))
    status, tree = await api.call("POST", "customers", bomb, headers)
    assert (status, tree) == (400, {"errors": [f"the body is larger than {SMALL_BODY_MOST} bytes"]})
    assert (await api.call("POST", "customers", b"?", FORM | {"Content-Encoding": "br"}))[0] == 415


@pytest.mark.parametrize("as_text", [True, False])
async def test_the_length_of_a_list_is_checked_before_its_entries(
    api: Api, as_text: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr("edgeproxy.partner.resources.fields.read_number", lambda text, region: read.append(text))
    numbers = [f"+4930{i:06}" for i in range(11)]
    fields = {"customer_id": "1", "name": "x", "alt_numbers": ",".join(numbers) if as_text else numbers}
    body = fields if as_text else orjson.dumps(fields)
    status, tree = await api.call("POST", "sources", body, None if as_text else {"Content-Type": "application/json"})
    assert (status, tree) == (400, {"errors": ["alt_numbers: has more than 10 entries"]})
    assert not read


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


async def test_a_wrong_name_waits_for_what_a_wrong_password_waits_for(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_sealed = sealing._opened

    def counted(fernet: Any, kept: dict[str, str], place: str) -> str:
        opened.append(place.partition(" of ")[0])
        return open_sealed(fernet, kept, place)

    monkeypatch.setattr(sealing, "_opened", counted)
    key = SecretStr(sealing.new_key())
    async with serving(store_url, allow_plain_http=True, store_keys=[key]) as edge:
        async with Store(store_url, seal=Seal([key])) as store:
            await demo.fill(store)
        api = Api(edge, edge.client)

        async def tried(user: str) -> tuple[int, dict[str, int], list[str]]:
            """The status of a login with a wrong password, the store's commands for it, and what was unsealed."""
            offer = (await challenge(api))[0]
            header = authorization("GET", "/2.4.9/customers", offer, password="wrong", username=user)
            with client_of(store_url) as client:
                opened.clear()
                on_primaries(client, "CONFIG", "RESETSTAT")
                status, _, _ = await bare(api, "customers", header)
                stats = Counter[str]()
                for info in on_primaries(client, "INFO", "commandstats"):
                    stats.update({name: stat["calls"] for name, stat in info.items()})
            return (
                status,
                {name: stats[f"cmdstat_{name}"] for name in ("hget", "hmget", "get", "incr", "exec")},
                opened[:],
            )

        for user in (demo.USER, "nobody"):
            await tried(user)  # what is made once is made
        wrong_password, wrong_name = await tried(demo.USER), await tried("nobody")
        assert wrong_password == wrong_name == (401, {"hget": 1, "hmget": 0, "get": 1, "incr": 1, "exec": 1}, ANY)
        assert wrong_name[2] == [f"the {algorithm} password hash" for algorithm in digest.OFFERED]


async def test_two_sounds_of_an_account_are_taken_in_at_once_and_others_wait(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading: list[int] = []
    under_way, read = 0, partner_handler._body

    async def slow(*arguments: Any) -> Any:
        nonlocal under_way
        under_way += 1
        reading.append(under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return await read(*arguments)

    monkeypatch.setattr(partner_handler, "_body", slow)
    form = {"name": "x", "sounddata": base64.b64encode(b"sound").decode()}
    calls = (api.call("POST", "customers/1/voicemail_greetings", form) for _ in range(6))
    assert [status for status, _ in await asyncio.gather(*calls)] == [200] * 6
    assert max(reading) == 2
    reading.clear()
    await asyncio.gather(*(api.call("PUT", "customers/1", {"name": "x"}) for _ in range(6)))
    assert max(reading) > 2
