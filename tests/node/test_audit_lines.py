"""Every write over the manage port leaves one line of the audit, whatever becomes of it, and no value in it."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest

from edgeproxy.commands import demo_records as demo
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.store import Store, connections
from edgeproxy.store.access import token_hash
from tests.conftest import Edge, serving, web_request
from tests.partner.client import logged_in
from tests.servers import client_of, on_primaries

IP, KEPT = "203.0.113.77", "203.0.113.0"
TOKEN = "token:" + token_hash("demo-token")[:8]
LOGIN = {"Access-Token": "demo-token", "SiteId": "1001", "X-Forwarded-For": IP}
STATIC = "/phone-service/v1/api/calltracking/ad-platform/phone/"
FREE = "79990000006"
# Values that must not be told: a name, an address, phone numbers of people, a sound, texts.
NAME, EMAIL, PERSON, TEXT = "Jane Roe", "jane@example.org", "+493012345678", "a-text-of-hers"
SOUND = base64.b64encode(b"RIFF of hers").decode()
VALUES = [NAME, EMAIL, PERSON, PERSON[1:], TEXT, SOUND, demo.PASSWORD, "demo-token", IP]


@dataclass
class Office:
    """The manage port, clients that may use it, and the audit so far."""

    edge: Edge
    client: aiohttp.ClientSession
    caplog: pytest.LogCaptureFixture
    seen: list[dict[str, Any]] = field(default_factory=list)

    def lines(self) -> list[dict[str, Any]]:
        """The lines since the last time."""
        found = [record.__dict__["audit"] for record in self.caplog.records if record.name == "edgeproxy.audit"]
        self.caplog.clear()
        self.seen += found
        return found

    async def partner(self, method: str, target: str, data: Any = None) -> tuple[int, Any]:
        url = f"{self.edge.manage}/2.4.9/{target}"
        async with self.client.request(method, url, data=data, headers={"X-Forwarded-For": "127.0.0.1"}) as response:
            return response.status, orjson.loads(await response.read())

    async def send(self, method: str, target: str, body: Any = None, **headers: str) -> int:
        data = None if body is None else orjson.dumps(body)
        async with self.edge.client.request(
            method, self.edge.manage + target, data=data, headers=LOGIN | headers
        ) as response:
            return response.status


@pytest.fixture
async def office(store_url: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Office]:
    async with logged_in(store_url) as api:
        office = Office(api.edge, api.client, caplog)
        yield office
    office.lines()
    for line in office.seen:
        assert set(line) == {"audit", "account", "who", "ip", "record", "fields", "ended"}
    for value in VALUES:
        assert value not in caplog.text + str(office.seen), value


def line(what: str, record: str | None, fields: list[str], ended: str = "done") -> dict[str, Any]:
    return {
        "audit": what, "account": "demo", "who": "user:demo", "ip": "127.0.0.0", "record": record, "fields": fields,
        "ended": ended,
    }  # fmt: skip


async def test_each_write_of_the_partner_api_leaves_one_line(office: Office) -> None:
    status, tree = await office.partner("POST", "customers", {"name": NAME, "custnr": "99", "email": EMAIL})
    assert status == 200
    customer = tree["customers"][0]["customer_id"]
    assert office.lines() == [line("customers.create", customer, ["custnr", "email", "name"])]

    assert (await office.partner("PUT", f"customers/{customer}", {"email": ""}))[0] == 200
    assert office.lines() == [line("customers.update", customer, ["email"])]

    greetings = f"customers/{customer}/voicemail_greetings"
    status, tree = await office.partner("POST", greetings, {"name": TEXT, "sounddata": SOUND})
    assert status == 200
    greeting = tree["voicemail_greetings"][0]["vm_greeting_id"]
    create = line("voicemail_greetings.create", greeting, ["customer_id", "name", "sounddata"])
    assert office.lines() == [create]

    assert (await office.partner("PUT", f"{greetings}/{greeting}", {"name": NAME}))[0] == 200
    assert office.lines() == [line("voicemail_greetings.update", greeting, ["customer_id", "name"])]

    asked = {"customer_id": customer, "name": TEXT, "destnr": PERSON, "expire": "2036-01-01"}
    status, tree = await office.partner("POST", "sources", asked)
    assert status == 200
    source = tree["sources"][0]["source_id"]
    assert office.lines() == [line("sources.create", source, ["customer_id", "destnr", "expire", "name"])]

    for target, data, what, fields in (
        (f"sources/{source}", {"class": "3", "email": EMAIL}, "sources.update", ["class", "email"]),
        (f"sources/{source}/extend", {"expire": "2037-01-01"}, "sources.extend", ["expire"]),
    ):
        assert (await office.partner("PUT", target, data))[0] == 200
        assert office.lines() == [line(what, source, fields)]
    assert (await office.partner("DELETE", f"sources/{source}"))[0] == 200
    assert office.lines() == [line("sources.delete", source, [])]
    assert (await office.partner("POST", f"sources/{source}/reactivate"))[0] == 200
    assert office.lines() == [line("sources.reactivate", source, [])]
    await office.partner("DELETE", f"sources/{source}")
    assert (await office.partner("DELETE", f"{greetings}/{greeting}"))[0] == 200
    assert (await office.partner("DELETE", f"customers/{customer}"))[0] == 200
    assert [told["audit"] for told in office.lines()] == [
        "sources.delete", "voicemail_greetings.delete", "customers.delete",
    ]  # fmt: skip
    assert {told["audit"] for told in office.seen} == {operation.writes for operation in OPERATIONS} - {""}


async def test_a_refused_write_leaves_a_line_and_what_is_none_leaves_none(office: Office) -> None:
    assert (await office.partner("DELETE", "customers/407390"))[0] == 403  # its sources serve
    assert (await office.partner("PUT", "customers/9", {"name": NAME}))[0] == 404
    assert (await office.partner("PUT", "customers/1", {"custom_20": TEXT}))[0] == 400  # not defined
    assert [(told["audit"], told["record"], told["ended"]) for told in office.lines()] == [
        ("customers.delete", "407390", "refused"),
        ("customers.update", "9", "refused"),
        ("customers.update", "1", "refused"),
    ]
    for method, target, data in (
        ("GET", "customers", None),
        ("GET", "sources", None),
        ("GET", "statistics/cdrs", None),
        ("GET", "miscellaneous/ping", None),
        ("POST", "customers", {"name": NAME}),  # a field is missing: it is not known what was meant
        ("PATCH", "customers", {}),
    ):
        await office.partner(method, target, data)
    async with office.edge.client.post(f"{office.edge.manage}/2.4.9/customers", data={"name": NAME}) as response:
        assert response.status == 401
    assert office.lines() == []


async def test_each_write_of_static_numbers_leaves_one_line(office: Office) -> None:
    parts = {"displayOptions": {"source": TEXT}, "poolName": TEXT}
    redirect = {"redirectOptions": {"redirectType": "PSTN", "ptsnOptions": {"redirectNumber": PERSON[1:]}}}
    for method, body, status, fields, ended in (
        ("create", parts, 200, ["displayOptions", "poolName"], "done"),
        ("update", {"poolName": TEXT}, 200, ["poolName"], "done"),
        ("update", redirect, 200, ["redirectOptions"], "done"),
        ("create", parts, 409, ["displayOptions", "poolName"], "refused"),
        ("delete", {}, 200, [], "done"),
        ("delete", {}, 409, [], "refused"),
    ):
        ip = office.edge.fresh_ip()
        headers = {"X-Forwarded-For": ip}
        assert await office.send("POST", STATIC + method, {"phoneNumber": FREE, **body}, **headers) == status
        assert office.lines() == [
            {
                "audit": f"numbers.{method}", "account": "demo", "who": TOKEN, "ip": ip[: ip.rindex(".")] + ".0",
                "record": "+" + FREE, "fields": fields, "ended": ended,
            }
        ]  # fmt: skip
    for body, headers in (
        ({"phoneNumber": FREE}, {}),
        ({"phoneNumber": FREE, **parts}, {"Access-Token": "wrong-token"}),
        ({"phoneNumber": FREE, **parts}, {"SiteId": "7"}),
    ):
        assert await office.send("POST", STATIC + "create", body, **headers) in (400, 401, 403)
    assert await office.send("POST", STATIC + "list", {"phoneNumbers": [FREE]}) == 200
    statuses = await asyncio.gather(
        *(office.send("POST", STATIC + "delete", {"phoneNumber": FREE}, **{"X-Forwarded-For": IP}) for _ in range(40))
    )
    assert statuses.count(429) > 20
    assert len(office.lines()) == 40 - statuses.count(429)  # a flood does not fill the log


async def test_an_erasure_leaves_one_line_that_does_not_say_whom(office: Office) -> None:
    for body, fields in (
        ({"trackingId": TEXT}, ["trackingId"]),
        ({"caller": PERSON}, ["caller"]),
        ({"sessionId": TEXT}, ["sessionId"]),
    ):
        assert await office.send("POST", "/calls/erase", body) == 200
        assert office.lines() == [
            {
                "audit": "calls.erase", "account": "demo", "who": TOKEN, "ip": KEPT, "record": None, "fields": fields,
                "ended": "done",
            }
        ]  # fmt: skip
    assert await office.send("POST", "/calls/erase", {"caller": "x"}) == 400
    assert await office.send("GET", "/calls/lookup?number=%2B493015981151") == 200
    event = {"call_id": "c", "event": "started", "number": "+493015981151", "caller": PERSON}
    assert await office.send("POST", "/calls", event) == 200
    assert (await office.edge.post(web_request()))[0] == 200
    assert office.lines() == []


async def test_a_write_whose_client_has_gone_leaves_its_line(office: Office, store_url: str) -> None:
    await office.partner("GET", "miscellaneous/ping")
    with client_of(store_url) as primaries:
        on_primaries(primaries, "CONFIG SET", "appendfsync", "everysec")  # the write waits for the disk, up to a second
    raw = orjson.dumps({"phoneNumber": FREE, "poolName": TEXT})
    _, writer = await asyncio.open_connection("127.0.0.1", int(office.edge.manage.rpartition(":")[2]))
    head = "".join(f"{name}: {value}\r\n" for name, value in LOGIN.items())
    writer.write(f"POST {STATIC}create HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(5):
        while not (found := office.lines()):
            await asyncio.sleep(0.02)
    assert [(told["record"], told["ended"]) for told in found] == [("+" + FREE, "done")]


async def test_a_write_that_is_not_durable_or_not_known_leaves_its_line(
    store_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeproxy.store.functions._DURABLE_MS", 50)
    monkeypatch.setattr(connections, "PATIENCE_S", 1)
    async with serving(store_url, durable_replicas=9) as edge, Store(store_url):
        office = Office(edge, edge.client, caplog)
        assert await office.send("POST", STATIC + "create", {"phoneNumber": FREE, "poolName": TEXT}) == 500
        assert [(told["record"], told["ended"]) for told in office.lines()] == [("+" + FREE, "not durable")]
        with client_of(store_url) as primaries:
            on_primaries(primaries, "CLIENT PAUSE", "30000", "WRITE")  # reads are answered, writes are not
            try:
                assert await office.send("POST", "/calls/erase", {"trackingId": TEXT}) == 503
            finally:
                on_primaries(primaries, "CLIENT UNPAUSE")
        assert [(told["fields"], told["ended"]) for told in office.lines()] == [(["trackingId"], "uncertain")]
