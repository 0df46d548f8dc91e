"""The OpenAPI document of POST /api: its fields, limits and answers are the server's."""

import re
from typing import Any

import orjson
import pytest

from edgeproxy.dynamic import wire
from edgeproxy.errors import Fault, Kind
from tests.conftest import Edge, web_request
from tests.dynamic.bodies import FIELDS, TAKEN
from tests.dynamic.statuses import STATUS_TABLE
from tests.openapi import DOCUMENT, SCHEMAS, validator

PAGE = SCHEMAS["PageOfNumbers"]


def agree(request: dict[str, Any]) -> bool:
    """Whether schema and server take a request; they must not differ."""
    try:
        body = orjson.dumps(request)
        wire.check(wire.parse(body), body)
        taken = True
    except Fault:
        taken = False
    assert validator(PAGE).is_valid(request) == taken, request
    return taken


@pytest.mark.parametrize(("field", "value"), TAKEN)
def test_what_the_wire_takes_is_valid(field: str, value: Any) -> None:
    assert agree(web_request(**{field: value}))


@pytest.mark.parametrize(("field", "value", "error"), FIELDS)
def test_what_the_wire_refuses_is_not(field: str, value: Any, error: str) -> None:
    assert not agree(web_request(**{field: value}))


def test_an_app_needs_less() -> None:
    assert agree(web_request(type="app", fullUrl="", userAgent=None, requestIpAddress=None))
    assert not agree(web_request(type="app", fullUrl=None))


def test_every_example_is_taken() -> None:
    for example in PAGE["examples"]:
        assert agree(example)


TEXTS = {name: schema["maxLength"] for name, schema in PAGE["properties"].items() if "maxLength" in schema}


CUT = {"fullUrl": wire.URL_MOST, "fullReferrer": wire.URL_MOST, "userAgent": wire.AGENT_MOST}


def test_every_text_of_a_request_has_a_limit_or_is_cut() -> None:
    assert {*TEXTS, *CUT, "numbers", "type", "parameters", "dryRun"} == wire._FIELDS == PAGE["properties"].keys()
    for name, most in CUT.items():
        assert agree(web_request(**{name: "ü" * (most + 1)}))
        assert str(most) in PAGE["properties"][name]["description"]


@pytest.mark.parametrize(("field", "most"), list(TEXTS.items()))
def test_the_limit_of_a_text_is_the_documented_one(field: str, most: int) -> None:
    assert agree(web_request(**{field: "ü" * most}))
    assert not agree(web_request(**{field: "ü" * (most + 1)}))


@pytest.mark.parametrize(
    ("name", "most"),
    [
        *((name, schema["maxLength"]) for name, schema in PAGE["properties"]["parameters"]["properties"].items()),
        ("adKm", PAGE["properties"]["parameters"]["additionalProperties"]["maxLength"]),
    ],
)
def test_the_limit_of_a_dimension_is_the_documented_one(name: str, most: int) -> None:
    assert agree(web_request(parameters={name: "ü" * most}))
    assert not agree(web_request(parameters={name: "ü" * (most + 1)}))


def test_the_limits_of_counts_are_the_documented_ones() -> None:
    numbers, parameters = PAGE["properties"]["numbers"], PAGE["properties"]["parameters"]
    (most,) = (choice["maxItems"] for choice in numbers["oneOf"] if "maxItems" in choice)
    for count, taken in ((most, True), (most + 1, False)):
        assert agree(web_request(numbers=["030"] * count)) == taken
        assert agree(web_request(numbers=",".join(["030"] * count))) == taken
    for count, taken in ((parameters["maxProperties"], True), (parameters["maxProperties"] + 1, False)):
        assert agree(web_request(parameters={str(at): "" for at in range(count)})) == taken
    for size, taken in ((parameters["propertyNames"]["maxLength"], True), (65, False)):
        assert agree(web_request(parameters={"x" * size: ""})) == taken


async def test_the_limit_of_a_body_is_the_documented_one(edge: Edge) -> None:
    about = DOCUMENT["paths"]["/api"]["post"]["requestBody"]["description"]
    (most,) = map(int, re.findall(r"[0-9]+", about))
    body = orjson.dumps(web_request())
    assert (await edge.post(body + b" " * (most - len(body))))[0] == 200
    assert (await edge.post(body + b" " * (most - len(body) + 1)))[1]["error"] == "Body too large"


def test_every_fault_has_its_status_and_text() -> None:
    for kind in Kind:
        for status in ("400", "403", "500", "501"):
            (media,) = DOCUMENT["paths"]["/api"]["post"]["responses"][status]["content"].values()
            body = {"success": False, "error": Fault(kind, "7").text}
            assert validator(media["schema"]).is_valid(body) == (int(status) == kind.status)


@pytest.mark.parametrize("statuses", [True, False])
@pytest.mark.parametrize(("status", "error", "ask"), STATUS_TABLE)
async def test_answers_are_as_described(edge: Edge, status: int, error: str | None, ask: Any, statuses: bool) -> None:
    real, body, headers = await ask(edge, statuses=statuses)
    answer = DOCUMENT["paths"]["/api"]["post"]["responses"][str(real)]
    assert real == (status if statuses else 200)
    validator(answer["content"][headers["Content-Type"]]["schema"]).validate(body)
    for name in ("RateLimit", "RateLimit-Policy", "Retry-After"):
        assert name not in headers or name in answer["headers"]
    assert headers["Cache-Control"] == answer["headers"]["Cache-Control"]["schema"]["const"]


def test_how_a_request_is_signed() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    ways = [name for way in DOCUMENT["paths"]["/api"]["post"]["security"] for name in way]
    assert [(schemes[name]["type"], schemes[name]["in"], schemes[name]["name"]) for name in ways] == [
        ("apiKey", "header", "X-SIGN"),
        ("apiKey", "query", "sign"),
    ]
    assert (schemes["digest"]["type"], schemes["digest"]["scheme"]) == ("http", "digest")
