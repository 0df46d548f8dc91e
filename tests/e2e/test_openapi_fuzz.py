"""The OpenAPI document put to the proof: Schemathesis asks a running gateway for what the document says it takes."""

import copy
import functools
import itertools
import re
import time
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema_rs
import orjson
import pytest
import redis
import requests
import schemathesis
from requests.auth import HTTPDigestAuth
from schemathesis.specs.openapi import checks

from edgeproxy.accounts import moments
from edgeproxy.accounts.number import read_number
from edgeproxy.calls import handler as calls
from edgeproxy.calls import openapi as calls_api
from edgeproxy.calls.caller import read_caller
from edgeproxy.node import document as described
from edgeproxy.node.rooms import ROOMS
from edgeproxy.numbers import handler as static
from edgeproxy.numbers import wire as numbers_wire
from edgeproxy.partner import openapi as partner_api
from edgeproxy.partner.resources.records import LISTS
from edgeproxy.partner.wire import METHODS
from tests.conftest import DEMO
from tests.processes import run, started

pytestmark = pytest.mark.slow

Case = schemathesis.Case[Any]
VERSION = "2.4.9"
EXAMPLES = 8  # that are made up for an operation, beside those that its limits give
EXAMPLE_IDS = {name: partner_api._EXAMPLES[name] for name in ("customer_id", "source_id", "vm_greeting_id")}


def no_fault(context: schemathesis.CheckContext, response: schemathesis.Response, case: Case) -> bool | None:
    """Nothing fails, the store neither; 501 is for methods that the API does not have, and every login is good."""
    status = response.status_code
    assert status < 500 or (status == 501 and case.method not in METHODS), response.text
    assert status != 401
    return None


CHECKS = [
    no_fault,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
EXACT_CHECKS = CHECKS[1:]  # of tests that know each status


def document() -> Any:
    """The document with one of the twenty custom fields, which are alike; one is what all resources of `demo` have."""
    tree = copy.deepcopy(described.document(ROOMS, VERSION))
    for schema in tree["components"]["schemas"].values():
        for name in [name for name in schema.get("properties", ()) if re.fullmatch("custom_([2-9]|[0-9]{2})", name)]:
            del schema["properties"][name]
    return tree


DOCUMENTED = schemathesis.openapi.from_dict(
    document(),
    config=schemathesis.Config.from_dict({"generation": {"deterministic": True, "max-examples": EXAMPLES}}),
)
API = DOCUMENTED.include(path_regex=f"^/{VERSION}/")
STATIC_API = DOCUMENTED.include(path_regex=f"^{static.PATH}")
CALL_ID = calls_api._EXAMPLES["Event"][0]["call_id"]
CALLS_API = DOCUMENTED.include(path_regex=f"^{calls.PATH}")


@dataclass
class Partner:
    """A partner's client, with records of its own for each operation that is asked for."""

    url: str
    session: requests.Session
    auth: HTTPDigestAuth
    _made: dict[str, dict[str, str]] = field(default_factory=dict)
    _called: str = ""
    _events: Iterator[int] = field(default_factory=itertools.count)
    _statics: Iterator[int] = field(default_factory=lambda: itertools.count(79_991_000_000))
    _ips: Iterator[int] = field(default_factory=lambda: itertools.count(int(IPv4Address("10.0.0.1"))))

    def ids(self, operation: str) -> dict[str, str]:
        if operation not in self._made:
            customer_id = self._post("customers", "customer_id", name="x", custnr="1412")
            expiry = {"expire": "2030-01-01"}
            source_id = self._post("sources", "source_id", name="x", customer_id=customer_id, **expiry)
            greeting = {"name": "x", "sounddata": "eHh4", "customer_id": customer_id}
            greeting_id = self._post("customers/voicemail_greetings", "vm_greeting_id", **greeting)
            if "reactivate" in operation:
                self.session.delete(f"{self.url}/{VERSION}/sources/{source_id}", auth=self.auth).raise_for_status()
            self._made[operation] = dict(zip(EXAMPLE_IDS, (customer_id, source_id, greeting_id), strict=True))
        return self._made[operation]

    def static_number(self, method: str) -> str:
        """A static number that no request has touched, in the state that the method needs."""
        number = str(next(self._statics))
        if method in ("update", "delete"):
            body = {"phoneNumber": number, "poolName": "x"}
            made = self.session.post(self.url + static.PATH + "create", json=body, headers=self.static_login())
            made.raise_for_status()
        return number

    def called(self) -> str:
        """A number in use as a static number, for calls."""
        self._called = self._called or "+" + self.static_number("update")
        return self._called

    def call_id(self) -> str:
        """The id of a call that three events in a row are of."""
        return f"c-{next(self._events) // 3}"

    def static_login(self) -> dict[str, str]:
        """The demo site's headers, from a client IP that the limiter has not seen."""
        return {"Access-Token": "demo-token", "SiteId": "1001", "X-Forwarded-For": str(IPv4Address(next(self._ips)))}

    def _post(self, path: str, wanted: str, /, **fields: str) -> str:
        response = self.session.post(f"{self.url}/{VERSION}/{path}", fields, auth=self.auth)
        response.raise_for_status()
        ((record,),) = response.json().values()
        return str(record[wanted])


@pytest.fixture(scope="module")
def partner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Partner]:
    directory = tmp_path_factory.mktemp("demo")
    accounts = directory / "accounts.yaml"
    accounts.write_text(
        DEMO.read_text().replace(
            "\n    numbers: [", "\n    numbers: [+493015982000..+493015982999, +79991000000..+79991000999, ", 1
        )
    )
    settings = {"EDGEPROXY_BAD_LOGINS_PER_MINUTE": "100000"}
    options = ("--port", "0", "--manage-port", "0", "--data-dir", str(directory / "data"))
    with (
        started("demo", *options, settings=settings) as demo,
        requests.Session() as session,
    ):
        store = demo.said["store:"]
        with redis.Redis.from_url(store) as client:
            client.config_set("appendfsync", "always")  # or each write waits for the second to turn
        loaded = run("load", str(accounts), EDGEPROXY_STORE_URL=store)
        assert loaded.returncode == 0, loaded.stderr
        yield Partner(demo.manage, session, HTTPDigestAuth("demo", "demo-password"))


@schemathesis.deserializer("application/xml")
def read_xml(_: Any, response: schemathesis.Response) -> Any:
    """An answer in XML as the tree that the schemas for XML describe."""
    root = ET.fromstring(response.content)
    if root.tag == "miscellaneous":
        return {child.tag: child.text for child in root}
    tree: dict[str, Any] = {name: int(value) for name, value in root.attrib.items()}
    for item in root:
        tree.setdefault(item.tag, []).append(
            {child.tag: [entry.text for entry in child] if child.tag in LISTS else child.text for child in item}
            if len(item)
            else item.text
        )
    return tree


def aim(case: Case, ids: dict[str, str]) -> None:
    """Put the ids of records that may be changed in the place of the documented examples."""
    for fields in (case.path_parameters, case.query, case.body):
        if isinstance(fields, dict):
            fields.update({name: there for name, there in ids.items() if fields.get(name) == EXAMPLE_IDS[name]})


@API.parametrize()
def test_the_gateway_answers_as_the_document_says(case: Case, partner: Partner) -> None:
    if case.operation.method != "get":
        aim(case, partner.ids(case.operation.label))
    # Which of the two it is follows from the case, so that a failing one fails again.
    asked = repr((case.path_parameters, case.query, case.body))
    accept = ("application/json", "application/xml")[zlib.crc32(asked.encode(errors="replace")) % 2]
    response = case.call(partner.url, partner.session, {"Accept": accept}, auth=partner.auth)
    case.validate_response(response, checks=CHECKS)


def aim_static(case: Case, partner: Partner) -> None:
    """Put valid numbers in the place of digits, most of which are none: the site's own, in the state that is needed."""
    body, method = case.body, case.path.rpartition("/")[2]
    if not isinstance(body, dict):
        return
    if looks_like_digits(body.get("phoneNumber")):
        body["phoneNumber"] = as_written(partner.static_number(method), body["phoneNumber"])
    if isinstance(numbers := body.get("phoneNumbers"), list):
        body["phoneNumbers"] = [
            as_written("79990000001", number) if looks_like_digits(number) else number for number in numbers
        ]
    waiting = [body.get("redirectOptions")]
    while waiting:
        tree = waiting.pop()
        if isinstance(tree, dict):
            numbers = {name: value for name, value in tree.items() if name.endswith("Number")}
            tree.update({
                name: as_written("74951234567", value) for name, value in numbers.items() if looks_like_digits(value)
            })  # fmt: skip
            waiting += tree.values()


def looks_like_digits(value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value == int(value) and 10**4 <= value < 10**15
    return isinstance(value, str) and numbers_wire.WRITTEN.fullmatch(value) is not None


def as_written(number: str, digits: object) -> str | int:
    """The number as an integer where the digits are one."""
    return int(number) if isinstance(digits, int | float) else number


@STATIC_API.parametrize()
def test_the_static_methods_take_what_the_document_says_and_nothing_else(case: Case, partner: Partner) -> None:
    """Once its numbers are real, a body is taken if, and only if, the schema takes it."""
    aim_static(case, partner)
    response = case.call(partner.url, partner.session, partner.static_login())
    if case.method != "POST":
        assert response.status_code == 405
        assert response.headers["allow"] == ["POST"]
        return
    case.validate_response(response, checks=EXACT_CHECKS)
    # Of what was sent, not of the case: Schemathesis leaves out a header where the case is that it is missing.
    sent = response.request
    if "Access-Token" not in sent.headers:
        expected = 401
    elif "SiteId" not in sent.headers:
        expected = 403
    else:
        expected = 200 if is_taken(case.operation, sent.body) else 400
    assert response.status_code == expected, (sent.headers, sent.body, response.text)


def is_taken(operation: Any, body: str | bytes | None) -> bool:
    """Whether the document takes the body."""
    try:
        tree = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return False
    return rules(operation.definition.raw["requestBody"]["content"]["application/json"]["schema"]["$ref"]).is_valid(
        tree
    )


@functools.cache
def rules(reference: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({"$ref": reference, "components": document()["components"]})


def aim_calls(case: Case, partner: Partner) -> None:
    """Put a number of the account in the place of texts that the schema takes, few of which are one.

    The documented example's call goes on for some events, lest all but the first of each kind be repeated ones.
    """
    sent = case.query if case.path.endswith("/lookup") else case.body
    if isinstance(sent, dict):
        texts = {name: value for name in ("number", "caller") if isinstance(value := sent.get(name), str)}
        names = [name for name, text in texts.items() if 0 < len(text) <= 128]
        sent.update(dict.fromkeys(names, partner.called()))
        if sent.get("call_id") == CALL_ID:
            sent["call_id"] = partner.call_id()


def reads(sent: dict[str, Any]) -> bool:
    """What no schema can tell: whether texts are moments (an event's a day ahead at most) and numbers."""
    try:
        if isinstance(sent.get("at"), str | int | float):
            at_ms = moments.read_ms(str(sent["at"]))
            if "event" in sent and at_ms > time.time() * 1000 + calls._AHEAD_MS:
                return False
    except ValueError:
        return False
    if "event" not in sent and isinstance(sent.get("caller"), str):
        return read_caller(sent["caller"], "DE").number is not None
    return not isinstance(sent.get("number"), str) or read_number(sent["number"], "DE") is not None


@CALLS_API.parametrize()
def test_the_calls_api_takes_what_the_document_says_and_nothing_else(case: Case, partner: Partner) -> None:
    """Once its numbers and moments are real, a request is taken if, and only if, the document takes it."""
    aim_calls(case, partner)
    response = case.call(partner.url, partner.session, {"Access-Token": "demo-token"})
    if case.method != case.operation.method.upper():
        assert response.status_code == 405
        assert response.headers["allow"] == [case.operation.method.upper()]
        return
    case.validate_response(response, checks=EXACT_CHECKS)
    # Of what was sent, not of the case, as with the static methods.
    sent = response.request
    if "Access-Token" not in sent.headers:
        expected = 401
    elif case.operation.method == "get":
        expected = 200 if is_asked_for(case.operation, sent.url or "") else 400
    else:
        expected = 200 if is_taken(case.operation, sent.body) and reads(orjson.loads(sent.body or b"")) else 400
    assert response.status_code == expected, (sent.url, sent.headers, sent.body, response.text)


def is_asked_for(operation: Any, url: str) -> bool:
    """Whether the document takes the query; of a parameter that stands twice the first counts."""
    query = {
        name: first
        for name, (first, *_) in parse_qs(urlsplit(url).query, keep_blank_values=True, errors="replace").items()
    }
    parameters = {parameter["name"]: parameter for parameter in operation.definition.raw["parameters"]}
    return (
        query.keys() <= parameters.keys()
        and all(name in query for name, parameter in parameters.items() if parameter["required"])
        and all(jsonschema_rs.is_valid(parameters[name]["schema"], value) for name, value in query.items())
        and reads(query | {"at": query["at"].replace(" ", "+")} if "at" in query else query)
    )


def test_json_of_any_depth_is_refused(partner: Partner) -> None:
    for depth in (10, 500, 1000, 100_000):
        body = b'{"custnr":"1","name":' + b"[" * depth + b"]" * depth + b"}"
        response = partner.session.post(
            f"{partner.url}/{VERSION}/customers",
            body,
            headers={"Content-Type": "application/json"},
            auth=partner.auth,
        )
        assert response.status_code == 400
        assert response.json()["errors"]


def test_without_credentials_the_answer_is_the_documented_one(partner: Partner) -> None:
    documented = document()["components"]["responses"]["Error401"]
    response = requests.get(f"{partner.url}/{VERSION}/customers", timeout=20)
    assert response.status_code == 401
    assert [*documented["content"]] == [response.headers["Content-Type"].partition(";")[0]]
    assert set(documented["headers"]) <= set(response.headers)
