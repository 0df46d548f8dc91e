"""The OpenAPI document: true, and whole."""

import base64
import dataclasses
import itertools
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, ValidationError

from edgeproxy.accounts import moments
from edgeproxy.calls import attribution
from edgeproxy.calls import handler as calls_handler
from edgeproxy.calls import openapi as calls
from edgeproxy.dynamic import wire
from edgeproxy.errors import Fault, Kind
from edgeproxy.http.access import ACCESS_TOKEN
from edgeproxy.http.openapi.tree import RATE_LIMITS, RETRY_AFTER
from edgeproxy.node import openapi
from edgeproxy.numbers import handler as static_handler
from edgeproxy.numbers import openapi as static
from edgeproxy.numbers import wire as static_wire
from edgeproxy.partner import openapi as partner
from edgeproxy.partner.render import Format, render
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.partner.resources.greetings import SOUND_MOST
from edgeproxy.partner.resources.operation import Operation
from edgeproxy.partner.resources.records import LISTS, moment_text
from edgeproxy.store import keys
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.erasure import Receipt
from edgeproxy.store.partner import Partner, Record
from tests.calls import test_handler as test_calls
from tests.conftest import Clock, Desk, Edge, serving, web_request
from tests.dynamic.test_handler import STATUS_TABLE
from tests.dynamic.test_wire import FIELDS, TAKEN
from tests.numbers.test_wire import TABLE, redirect, reserve, without
from tests.numbers.test_wire import body as change
from tests.servers import configured

VERSION = "2.4.9"
DOCUMENT = openapi.document(VERSION)
SCHEMAS = DOCUMENT["components"]["schemas"]
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
PLACES = [(operation, path) for operation in OPERATIONS for path in operation.paths]
NUMBER = "+493012345601"


def validator(schema: Any) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def described(operation: Operation, path: str) -> Any:
    return DOCUMENT["paths"][f"/{VERSION}/{path}"][operation.method.lower()]


def resolved(tree: Any) -> Any:
    for step in tree["$ref"].split("/")[1:] if "$ref" in tree else ():
        tree = DOCUMENT[step] if step == "components" else tree[step]
    return tree


def body_of(operation: Operation, path: str, kind: str = JSON) -> Any:
    name = described(operation, path)["requestBody"]["content"][kind]["schema"]["$ref"].rpartition("/")[2]
    return SCHEMAS[name]


# The document --------------------------------------------------------------------------------------------------------


def test_it_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_is_made_once_and_always_the_same() -> None:
    assert openapi.document(VERSION) is DOCUMENT
    assert orjson.dumps(openapi.document.__wrapped__(VERSION)) == orjson.dumps(DOCUMENT)


def test_every_reference_is_used_and_resolves() -> None:
    text = orjson.dumps(DOCUMENT).decode()
    used = set(re.findall(r'"\$ref":"#/components/(\w+/\w+)"', text))
    there = {f"{kind}/{name}" for kind in ("schemas", "responses") for name in DOCUMENT["components"][kind]}
    assert used == there


def test_every_operation_is_in_it_and_nothing_else() -> None:
    found = {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method in ("get", "put", "post", "delete", "patch", "head", "options", "trace")
    }
    resources = {(operation.method, f"/{VERSION}/{path}") for operation, path in PLACES}
    statics = {("POST", static_handler.PATH + method) for method in static_handler.METHODS}
    service = {("GET", path) for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")}
    of_calls = {("GET", "/calls/lookup"), ("POST", "/calls"), ("POST", "/calls/erase")}
    assert found == resources | statics | of_calls | service | {("POST", "/api")}


@pytest.mark.parametrize(("operation", "path"), PLACES, ids=lambda value: getattr(value, "method", value))
def test_an_operation_takes_its_fields(operation: Operation, path: str) -> None:
    model = operation.fields.model_fields
    fields = {field.alias or name: field.is_required() for name, field in model.items()}
    in_path = set(re.findall(r"\{(\w+)\}", path))
    tree = described(operation, path)
    parameters = {(parameter["in"], parameter["name"]): parameter["required"] for parameter in tree["parameters"]}
    expected = {("path", name): True for name in in_path}
    if operation.method in ("GET", "DELETE"):
        assert "requestBody" not in tree
        expected |= {("query", name): required for name, required in fields.items() if name not in in_path}
    else:
        for kind in (FORM, JSON):
            body = body_of(operation, path, kind)
            assert {name: name in body["required"] for name in body["properties"]} == {
                name: required for name, required in fields.items() if name not in in_path
            }
        assert tree["requestBody"]["required"] == any(fields[name] for name in fields.keys() - in_path)
    assert parameters == expected
    assert set(tree["responses"]) == {"200", "400", "401", "403", "404", "405", "415", "500", "501", "503"}
    assert tree["security"] == [{"digest": []}]


def test_every_field_has_a_meaning_and_every_meaning_a_field() -> None:
    named = {field.alias or name for operation in OPERATIONS for name, field in operation.fields.model_fields.items()}
    named |= {name for operation in OPERATIONS if operation.gives for name in operation.gives[1]}
    assert {name for name in named if not name.startswith("custom_")} == partner._MEANINGS.keys()
    assert named >= partner._EXAMPLES.keys()


def test_an_answer_has_its_record() -> None:
    for operation, path in PLACES:
        content = described(operation, path)["responses"]["200"]["content"]
        if operation.gives is None:
            assert resolved(content[JSON]["schema"])["properties"] == {"ping": {"const": "ok"}}
            continue
        listed, fields = operation.gives
        schema = content[JSON]["schema"]
        for choice in schema.get("oneOf", [schema]):
            record = resolved(resolved(choice)["properties"][listed]["items"])
            assert tuple(record["properties"]) == fields
            assert "patternProperties" in record or listed not in ("customers", "sources")
        pages = ["total" in resolved(choice)["properties"] for choice in schema.get("oneOf", [schema])]
        assert any(pages) == ("page" in operation.fields.model_fields and "{" not in path)


def test_xml_is_described_as_it_is_rendered() -> None:
    for listed in {operation.gives[0]: None for operation in OPERATIONS if operation.gives}:
        schema = SCHEMAS[partner._RECORDS[listed][0] + "ListXML"]
        (member,) = schema["properties"]
        record = resolved(schema["properties"][member]["items"])
        lists = {name: ["1"] for name in record["properties"] if name in LISTS}
        root = ET.fromstring(render({"total": 1, listed: [lists]}, Format.XML))
        assert (root.tag, root[0].tag) == (schema["xml"]["name"], member)
        assert record["xml"]["name"] == member
        assert root.attrib == {"total": "1"}
        for element in root[0]:
            described = record["properties"][element.tag]
            assert (described["xml"], described["items"]["xml"]["name"]) == ({"wrapped": True}, element[0].tag)
    root = ET.fromstring(render({"errors": ["x"]}, Format.XML))
    assert (root.tag, root[0].tag) == (SCHEMAS["ErrorsXML"]["xml"]["name"], *SCHEMAS["ErrorsXML"]["properties"])
    root = ET.fromstring(render({"ping": "ok"}, Format.XML))
    assert (root.tag, root[0].tag) == (SCHEMAS["PingXML"]["xml"]["name"], *SCHEMAS["PingXML"]["properties"])


# Limits of the partner API -------------------------------------------------------------------------------------------


def judged() -> list[Any]:
    """Each field of each model, once for each schema that the document has for it."""
    found = {}
    for operation, path in PLACES:
        tree, model = described(operation, path), operation.fields.__name__
        for parameter in tree["parameters"]:
            found[model, parameter["name"], ""] = operation, parameter["schema"]
        if "requestBody" in tree:
            for kind, suffix in ((JSON, ""), (FORM, "Form")):
                for name, schema in body_of(operation, path, kind)["properties"].items():
                    found[model, name, suffix] = operation, schema
    return [
        pytest.param(operation, name, schema, bool(suffix), id=f"{model}{suffix}.{name}")
        for (model, name, suffix), (operation, schema) in found.items()
    ]


JUDGED = pytest.mark.parametrize(("operation", "name", "schema", "as_form"), judged())


def refuses(operation: Operation, name: str, value: Any) -> bool:
    """Whether the server's model of the operation refuses that value of the field."""
    examples = {**partner._EXAMPLES, name: value}
    fields = {
        key: examples[key] for key, field in operation.fields.model_fields.items() if field.is_required() or key == name
    }
    try:
        operation.fields.model_validate(fields | {name: value}, context={"region": "DE"})
    except ValidationError as invalid:
        assert {error["loc"][0] for error in invalid.errors()} == {name}
        return True
    return False


@JUDGED
def test_a_field_is_what_the_server_takes(operation: Operation, name: str, schema: Any, as_form: bool) -> None:
    rules = validator(schema)
    for example in schema.get("examples", ()):
        assert rules.is_valid(example)
        assert not refuses(operation, name, example)
    if "default" in schema:
        assert rules.is_valid(schema["default"])
        assert not refuses(operation, name, schema["default"])
    empty = "" if as_form else None
    assert not (rules.is_valid(empty) and refuses(operation, name, empty))
    if "maxLength" in schema:
        most = schema["maxLength"]
        assert not refuses(operation, name, NUMBER.rjust(most))
        assert refuses(operation, name, NUMBER.rjust(most + 1))
    if "minLength" in schema:
        assert refuses(operation, name, "")
    if "maxItems" in schema:
        assert not refuses(operation, name, [NUMBER] * schema["maxItems"])
        assert refuses(operation, name, [NUMBER] * (schema["maxItems"] + 1))
        most = schema["items"]["maxLength"]
        assert not refuses(operation, name, [NUMBER.rjust(most)])
        assert refuses(operation, name, [NUMBER.rjust(most + 1)])
    if "enum" in schema:
        for value in schema["enum"]:
            assert not refuses(operation, name, value)
        assert refuses(operation, name, "another")
    if "pattern" in schema and name == "alt_numbers":
        for count in (1, 10, 11):
            assert rules.is_valid(",".join([NUMBER] * count)) != refuses(operation, name, ",".join([NUMBER] * count))
    elif "pattern" in schema:
        for value in ("0", "1", "2", "3", "00", "999", "1000", "9" * 9, "9" * 10, "9" * 12, "9" * 13, "x", "-1", " 1"):
            assert rules.is_valid(value) != refuses(operation, name, value), value


def test_no_field_takes_a_line_feed_that_its_schema_refuses() -> None:
    """Python's `$` matches before a line feed at the end; that of JSON Schema (ECMA 262) does not."""
    taken = []
    for operation, name, schema, _ in (parameter.values for parameter in judged()):
        if "pattern" in schema and name != "alt_numbers":
            text = schema.get("examples", ["1"])[0] + "\n"
            assert not validator(schema).is_valid(text)
            if not refuses(operation, name, text):
                taken.append((operation.fields.__name__, name))
    assert taken == []


@pytest.mark.parametrize(
    "sent", ["1970-01-01", "9998-12-31 23:59:59", "9998-12-31T23:59:59.999Z", "1769903999", "1769903999120"]
)
def test_a_time_that_is_taken_is_shown_as_documented(sent: str) -> None:
    (extend,) = {operation.fields for operation in OPERATIONS if operation.fields.__name__ == "Extension"}
    kept = extend.model_validate({"source_id": "1", "expire": sent}).sent()["expire"]
    shown = resolved(SCHEMAS["SourceList"]["properties"]["sources"]["items"])["properties"]["expire"]
    assert re.fullmatch(shown["pattern"], moment_text(kept) or "")


def test_the_limit_of_a_greeting_is_the_documented_one() -> None:
    (upload,) = (operation for operation in OPERATIONS if operation.fields.__name__ == "NewGreeting")
    for path in upload.paths:
        assert str(SOUND_MOST) in body_of(upload, path)["properties"]["sounddata"]["description"]
    assert not refuses(upload, "sounddata", base64.b64encode(bytes(SOUND_MOST)).decode())
    assert refuses(upload, "sounddata", base64.b64encode(bytes(SOUND_MOST + 1)).decode())


# POST /api ------------------------------------------------------------------------------------------------------------

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


# The static numbers API ----------------------------------------------------------------------------------------------

STATIC_NUMBER, FREE = "79990000001", "79990000006"
REDIRECT_TO = {"redirectNumber": "74951234567"}
# Wrong bodies of the table that are right by the schema: which digits are a valid number is in phonenumbers' tables.
ONLY_A_VALIDATOR_TELLS = [
    change(phoneNumber="7999000000"),
    change(phoneNumber="799900000011"),
    change(phoneNumber="+7999000000"),
    change(phoneNumber="2026-11-26"),
    redirect(ptsnOptions={"redirectNumber": "999999999"}),
]
SENT_WHOLE = reserve(ignoreEarlyMedia=False) | {
    "displayOptions": dict.fromkeys(("source", "medium", "campaign", "content", "keyword"), "x"),
    "poolName": "x",
}
CHECKS = {"StaticChange": static_wire.check_change, "StaticOne": static_wire.check_one,
          "StaticMany": static_wire.check_many}  # fmt: skip


def static_agree(tree: Any, name: str = "StaticChange") -> bool:
    """Whether schema and server take a body; they must not differ."""
    try:
        CHECKS[name](static_wire.parse(json.dumps(tree).encode()))
        taken = True
    except (static_wire.InvalidError, static_wire.MalformedError):
        taken = False
    assert validator(SCHEMAS[name]).is_valid(tree) == taken, tree
    return taken


def static_operation(method: str) -> Any:
    return DOCUMENT["paths"][static_handler.PATH + method]["post"]


def members(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every member of an object and of the objects in it, with its path."""
    for name, member in schema.get("properties", {}).items():
        yield name, member
        yield from ((f"{name}.{inner}", found) for inner, found in members(member))


OTHERS: tuple[Any, ...] = (None, 0, 1, 12, 12.5, True, "", "x", "12", "12\n", "true", "PSTN", [], {})


def changed(tree: Any) -> Iterator[Any]:
    """The body with one of its members gone, or another value; or with one more member."""
    for name, value in tree.items():
        yield {other: kept for other, kept in tree.items() if other != name}
        yield from (tree | {name: other} for other in OTHERS)
        yield tree | {name: [value]}
        if isinstance(value, dict):
            yield from (tree | {name: inner} for inner in changed(value))
    yield tree | {"extra": None}


def test_a_static_method_is_as_the_gateway_has_it() -> None:
    assert tuple(static._METHODS) == static_handler.METHODS
    assert {int(status): code for status, (code, _) in static._ERRORS.items()} == {
        status: code
        for status, code in static_handler._CODES.items()
        if status != 405  # is never the answer of a POST
    }
    scheme = DOCUMENT["components"]["securitySchemes"]["accessToken"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", ACCESS_TOKEN)
    for method in static_handler.METHODS:
        tree = static_operation(method)
        assert tree["security"] == [{"accessToken": []}]
        assert [(parameter["in"], parameter["name"], parameter["required"]) for parameter in tree["parameters"]] == [
            ("header", static_handler._SITE_ID, True)
        ]
        assert tree["responses"].keys() - {"409"} == {"200", "400", "401", "403", "404", "415", "429", "500"}
        assert str(static_wire.BODY_MOST) in tree["requestBody"]["description"]


def test_every_field_of_a_static_number_has_a_meaning_and_every_meaning_a_field() -> None:
    named = {path.rpartition(".")[2] for name in CHECKS for path, _ in members(SCHEMAS[name])}
    assert named - {"pstnOptions"} == static._MEANINGS.keys()
    assert all(member["description"] for name in CHECKS for _, member in members(SCHEMAS[name]))


@pytest.mark.parametrize("right", [right for _, right, _ in TABLE], ids=[field for field, _, _ in TABLE])
def test_what_is_right_by_the_table_is_valid(right: Any) -> None:
    assert static_agree(right)


@pytest.mark.parametrize(("field", "wrong"), [(field, wrong) for field, _, wrongs in TABLE for wrong, _ in wrongs])
def test_what_is_wrong_by_the_table_is_not(field: str, wrong: Any) -> None:
    if wrong in ONLY_A_VALIDATOR_TELLS:
        assert validator(SCHEMAS["StaticChange"]).is_valid(wrong)
    else:
        assert not static_agree(wrong)


def test_what_only_a_validator_tells_is_in_the_table() -> None:
    wrongs = [wrong for _, _, wrongs in TABLE for wrong, _ in wrongs]
    assert all(wrong in wrongs for wrong in ONLY_A_VALIDATOR_TELLS)


def test_schema_and_server_take_the_same_changes_of_a_body() -> None:
    right = {path for path, _ in members(SCHEMAS["StaticChange"])}
    assert {name.rpartition(".")[2] for name in right} - set(re.findall(r"\w+", str(SENT_WHOLE))) == {"pstnOptions"}
    assert static_agree(SENT_WHOLE)
    taken = [static_agree(tree) for tree in changed(SENT_WHOLE)]
    assert 20 < sum(taken) < len(taken) / 2  # both are put to the proof
    for name, whole in (("StaticOne", {"phoneNumber": FREE}), ("StaticMany", {"phoneNumbers": [FREE]})):
        assert static_agree(whole, name)
        for tree in changed(whole):
            static_agree(tree, name)


def test_at_least_one_part_is_required() -> None:
    bare: Any = {"phoneNumber": FREE}
    parts = {name: SENT_WHOLE[name] for name in static_wire.PARTS}
    for kept in itertools.product((False, True), repeat=len(parts)):
        sent = {name: part for (name, part), there in zip(parts.items(), kept, strict=True) if there}
        assert static_agree(bare | sent) == any(kept)
        assert static_agree(bare | dict.fromkeys(parts) | sent) == any(kept)


def test_either_spelling_is_taken_and_never_both() -> None:
    bare = without(redirect(), "redirectOptions", "ptsnOptions")["redirectOptions"]
    for one, other in (("ptsnOptions", "pstnOptions"), ("pstnOptions", "ptsnOptions")):
        assert static_agree(change(redirectOptions=bare | {one: REDIRECT_TO}))
        for wrong in (None, {}, {"redirectNumber": ""}, {"redirectNumber": None}, {**REDIRECT_TO, "x": 1}):
            assert not static_agree(change(redirectOptions=bare | {one: wrong}))
        for also in (None, REDIRECT_TO):
            assert not static_agree(change(redirectOptions=bare | {one: REDIRECT_TO, other: also}))


def test_a_time_may_be_a_number_or_its_digits() -> None:
    for seconds in range(200):
        taken = 10 <= seconds <= 120
        assert static_agree(reserve(reserveTimeOut=seconds)) == taken
        for digits in (str(seconds), f"{seconds:03}"):
            assert static_agree(reserve(reserveTimeOut=digits)) == taken
    for wrong in ("0030", " 30", "30\n", "+30", "30.0", "3e1", "\u0663\u0660", "", -30, 10.5):
        assert not static_agree(reserve(reserveTimeOut=wrong))


def test_a_flag_may_be_its_text() -> None:
    for flag in (True, False, "true", "false"):
        assert static_agree(reserve(ignoreEarlyMedia=flag))
    for wrong in ("True", "TRUE", "1", "", "true\n", 0, 1.0):
        assert not static_agree(reserve(ignoreEarlyMedia=wrong))
    ((_, member),) = (
        found for found in members(SCHEMAS["StaticChange"]) if found[0].endswith("reserveRedirect.ignoreEarlyMedia")
    )
    parts = static_wire.check_change(reserve()).parts()
    assert parts["redirectOptions"]["reserveRedirect"]["ignoreEarlyMedia"] is member["default"]


@pytest.mark.parametrize(
    ("digits", "taken"),
    [
        ("74951234567", True),
        ("493012345678", True),
        ("2908123", True),  # Saint Helena
        ("0493012345678", False),
        ("+74951234567", True),
        ("+7 (495) 123-45-67", True),
        ("7 495 123.45.67", True),
        ("tel:+74951234567", False),
        ("74951234567\n", False),
        ("4930", False),
        ("7" * 16, False),
    ],
)
def test_the_digits_of_a_number(digits: str, taken: bool) -> None:
    assert static_agree({"phoneNumber": digits}, "StaticOne") == taken


@pytest.mark.parametrize(
    ("path", "most"),
    [(path, member["maxLength"]) for path, member in members(SCHEMAS["StaticChange"]) if "maxLength" in member],
)
def test_the_limit_of_a_part_s_text_is_the_documented_one(path: str, most: int) -> None:
    *within, name = path.split(".")
    for text, taken in (("ü" * most, True), ("ü" * (most + 1), False), ("a\x1f", False), ("\x7f ", True)):
        whole = orjson.loads(orjson.dumps(SENT_WHOLE))
        tree = whole
        for step in within:
            tree = tree[step]
        tree[name] = text
        assert static_agree(whole) == taken


def test_the_limit_of_a_list_is_the_documented_one() -> None:
    most = SCHEMAS["StaticMany"]["properties"]["phoneNumbers"]["maxItems"]
    assert static_agree({"phoneNumbers": [FREE] * most}, "StaticMany")
    assert not static_agree({"phoneNumbers": [FREE] * (most + 1)}, "StaticMany")


def test_every_example_of_a_static_body_is_taken() -> None:
    for name in CHECKS:
        for example in SCHEMAS[name]["examples"]:
            assert static_agree(example, name)


def test_a_number_is_listed_as_described() -> None:
    rules = validator(SCHEMAS["StaticNumber"])
    for _, right, _ in TABLE:
        shown = {"phoneNumber": FREE, **static_wire.show(static_wire.check_change(right).parts())}
        rules.validate(shown)
        for path, member in members(SCHEMAS["StaticNumber"]):
            assert set(member.get("properties", ())) == set(member.get("required", ())), path
    free = {"phoneNumber": FREE, **static_wire.show({})}
    rules.validate(free)
    for name in free:
        assert not rules.is_valid({other: value for other, value in free.items() if other != name})


async def ask_static(edge: Edge, method: str, sent: Any, ip: str = "", **headers: str) -> tuple[int, bytes, Any]:
    """Ask as the demo's site unless `headers` (token, site) say otherwise; what was answered is as described."""
    login = {"Access-Token": headers.get("token", "demo-token"), "SiteId": headers.get("site", "1001")}
    raw = sent if isinstance(sent, bytes) else orjson.dumps(sent)
    login["X-Forwarded-For"] = ip or edge.fresh_ip()
    url = edge.manage + static_handler.PATH + method
    async with edge.client.post(url, data=raw, headers=login) as response:
        answer, content = await response.read(), response.headers.get("Content-Type")
        described = resolved(static_operation(method)["responses"][str(response.status)])
        documented = described.get("headers", {})
        assert {name for name in (*RATE_LIMITS, *RETRY_AFTER) if name in response.headers} <= documented.keys()
        assert {name for name, about in documented.items() if about.get("required")} <= set(response.headers)
        if "content" in described:
            validator(described["content"][content]["schema"]).validate(orjson.loads(answer))
        else:
            assert answer == b""
        return response.status, answer, response.headers


UNKNOWN: dict[str, Any] = {
    "update": {"phoneNumber": "79991112233", "poolName": "x"},
    "create": {"phoneNumber": "79991112233", "poolName": "x"},
    "delete": {"phoneNumber": "79991112233"},
    "list": {"phoneNumbers": ["79991112233"]},
}


async def test_answers_of_static_methods_are_as_described(edge: Edge, desk: Desk) -> None:
    whole = SENT_WHOLE | {"phoneNumber": FREE}
    for method, sent in (("create", whole), ("update", {"phoneNumber": FREE, "poolName": "y"})):
        assert (await ask_static(edge, method, sent))[0] == 200
    status, answer, _ = await ask_static(edge, "list", {"phoneNumbers": [FREE, STATIC_NUMBER]})
    assert (status, [shown["poolName"] for shown in orjson.loads(answer)]) == (200, ["y", None])
    assert (await ask_static(edge, "delete", {"phoneNumber": FREE}))[0] == 200
    for method in static_handler.METHODS:
        for raw in (b"", b"{", b"[]", b" " * (static_wire.BODY_MOST + 1), {}, {"phoneNumber": 1, "phoneNumbers": 1}):
            assert (await ask_static(edge, method, raw))[0] == 400
        assert (await ask_static(edge, method, {}, token="unknown-token"))[0] == 401
        assert (await ask_static(edge, method, {}, site="1002"))[0] == 403
        assert (await ask_static(edge, method, UNKNOWN[method]))[0] == 404
    assert (await ask_static(edge, "create", whole))[0] == 200
    assert (await ask_static(edge, "create", whole))[0] == 409
    for method, sent in (("update", {"poolName": "x"}), ("delete", {})):
        assert (await ask_static(edge, method, {"phoneNumber": STATIC_NUMBER, **sent}))[0] == 409


async def test_refusals_of_static_methods_that_want_patience_are_as_described(edge: Edge, desk: Desk) -> None:
    asked = {"phoneNumbers": [FREE]}
    statuses = [(await ask_static(edge, "list", asked, ip="198.51.100.1"))[0] for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    for _ in range(20):
        await ask_static(edge, "list", asked, ip="198.51.100.2", token="unknown-token")
    assert (await ask_static(edge, "list", asked, ip="198.51.100.2"))[0] == 429
    await desk.load(
        "accounts: {poor: {secrets: [s], region: RU, points: {daily: 1}, numbers: [+79990009001], "
        'static: {site: "7", tokens: [poor-token]}}}'
    )
    answers = [await ask_static(edge, "list", {"phoneNumbers": ["79990009001"]}, token="poor-token", site="7")
               for _ in range(2)]  # fmt: skip
    assert [status for status, *_ in answers] == [200, 429]
    assert RATE_LIMITS.keys() <= set(answers[1][2])


async def test_a_static_method_without_its_store_answers_as_described(tmp_path: Path) -> None:
    embedded = EmbeddedStore(tmp_path)
    with embedded:
        async with serving(embedded.url) as edge:
            assert (await ask_static(edge, "list", {"phoneNumbers": [FREE]}))[0] == 200
            embedded.__exit__(None, None, None)
            for method in static_handler.METHODS:
                assert (await ask_static(edge, method, {"phoneNumbers": [FREE]}))[0] == 500


def test_an_error_has_its_status_s_code_and_shape() -> None:
    violations = {"violations": [{"field": "", "message": "x"}]}
    for status, (code, _) in static._ERRORS.items():
        ((_, media),) = DOCUMENT["components"]["responses"][f"StaticError{status}"]["content"].items()
        rules = validator(media["schema"])
        for other, _ in static._ERRORS.values():
            error = {"apiErrorData": {"errorCode": other, "errorMessage": "x"}}
            assert rules.is_valid({"data": error}) == (code == other)
            assert rules.is_valid({"data": error | {"validationErrorData": violations}}) == (code == other)
            assert not rules.is_valid({"data": error | {"more": 1}})


# The calls API --------------------------------------------------------------------------------------------------------

MODELS: dict[str, type[BaseModel]] = {"CallEvent": calls_handler.Event, "CallErasure": calls_handler.Erasure}
CALL_OPERATIONS = (("get", "/calls/lookup"), ("post", "/calls"), ("post", "/calls/erase"))
STARTED = {
    "call_id": "c-1",
    "event": "started",
    "number": test_calls.NUMBER,
    "caller": "+49301234567",
    "at": "2026-01-31T23:59:59Z",
}
X_TOKEN = "x-token-x"


def is_moment(text: str) -> bool:
    try:
        moments.read(text)
    except ValueError:
        return False
    return True


def call_agree(tree: Any, name: str = "CallEvent") -> bool:
    """Whether schema and server take a body; they must not differ, but about a moment, which no schema can tell."""
    try:
        MODELS[name].model_validate(tree)
        taken = True
    except ValidationError:
        taken = False
    no_moment = isinstance(tree.get("at"), str) and not is_moment(tree["at"])
    assert (validator(SCHEMAS[name]).is_valid(tree) and not no_moment) == taken, tree
    return taken


def test_the_operations_of_calls_are_as_the_gateway_has_them() -> None:
    for method, path in CALL_OPERATIONS:
        tree = DOCUMENT["paths"][path][method]
        assert tree["security"] == [{"accessToken": []}]
        missing = {"404"} if path == "/calls/lookup" else set()
        assert tree["responses"].keys() == {"200", "400", "401", "415", "429", "500", "503"} | missing
        if method == "post":
            assert str(calls_handler.BODY_MOST) in tree["requestBody"]["description"]
    scheme = DOCUMENT["components"]["securitySchemes"]["accessToken"]
    assert scheme["name"] == ACCESS_TOKEN
    parameters = DOCUMENT["paths"]["/calls/lookup"]["get"]["parameters"]
    assert [(parameter["name"], parameter["in"], parameter["required"]) for parameter in parameters] == [
        ("number", "query", True),
        ("at", "query", False),
    ]


def test_every_field_of_calls_has_a_meaning_and_every_meaning_a_field() -> None:
    for name, model in MODELS.items():
        assert SCHEMAS[name]["properties"].keys() == calls._MEANINGS[model.__name__].keys()
    for name in calls.schemas():
        assert SCHEMAS[name]["description"]
        assert all(member["description"] for _, member in members(SCHEMAS[name])), name


def test_what_calls_are_answered_has_the_gateway_s_words() -> None:
    assert SCHEMAS["CallRoute"]["required"] == [field.name for field in dataclasses.fields(attribution.Route)]
    receipt = SCHEMAS["CallErasureReceipt"]["properties"]["erased"]
    assert receipt["required"] == [field.name for field in dataclasses.fields(Receipt)]
    certainty = SCHEMAS["CallLookup"]["properties"]["certainty"]
    for word in get_args(attribution.Certainty):
        assert word in certainty["enum"]
        assert f"`{word}`: " in certainty["description"]
    hows = [SCHEMAS[name]["properties"]["how"] for name in calls._matches()]
    assert sorted(how for tree in hows for how in tree.get("enum", [tree.get("const")])) == sorted(
        get_args(attribution.How)
    )
    assert re.findall("`([a-z]+)`", SCHEMAS["CallLookup"]["properties"]["matches"]["description"]) == list(
        attribution._ORDER
    )
    found = dict(members(SCHEMAS["StaticNumber"]))["redirectOptions.reserveRedirect.reserveTimeOut"]
    timeout = SCHEMAS["CallRoute"]["properties"]["timeout_s"]
    assert (timeout["minimum"], timeout["maximum"]) == (found["minimum"], found["maximum"])


def test_schema_and_server_take_the_same_events_and_erasures() -> None:
    for event in ("started", "answered", "ended"):
        assert call_agree(STARTED | {"event": event})
        for bare in (False, True):
            assert call_agree({"call_id": "c", "event": event} | ({"number": "1"} if bare else {})) == (
                bare or event != "started"
            )
        taken = [call_agree(tree) for tree in changed(STARTED | {"event": event})]
        assert 10 < sum(taken) < len(taken)  # both are put to the proof
    names = list(SCHEMAS["CallErasure"]["properties"])
    for values in itertools.product((None, "x", "", 1), repeat=len(names)):
        tree = dict(zip(names, values, strict=True))
        sent = {name: value for name, value in tree.items() if value is not None}
        right = len(sent) == 1 and [*sent.values()] == ["x"]
        assert call_agree(tree, "CallErasure") == call_agree(sent, "CallErasure") == right
        assert not call_agree(tree | {"extra": None}, "CallErasure")


@pytest.mark.parametrize(
    ("name", "field", "most"),
    [
        (name, field, member["maxLength"])
        for name in MODELS
        for field, member in members(SCHEMAS[name])
        if "maxLength" in member and field != "at"
    ],
)
def test_the_limit_of_a_call_s_text_is_the_documented_one(name: str, field: str, most: int) -> None:
    whole = STARTED if name == "CallEvent" else {}
    empty = (name, field) == ("CallEvent", "caller")  # which is withheld
    for text, taken in (("ü" * most, True), ("ü" * (most + 1), False), ("", empty)):
        assert call_agree(whole | {field: text}, name) == taken


@pytest.mark.parametrize(
    ("call_id", "taken"),
    [
        ("x" * 255, True),
        ("x" * 256, False),
        ("", False),
        ("Aa0.!%*_+`'~()<>:\\\"/[]?{}@=-", True),
        ("a;b", False),
        ("a b", False),
        ("a\n", False),
        ("ü", False),
    ],
)
def test_the_id_of_a_call(call_id: str, taken: bool) -> None:
    assert call_agree(STARTED | {"call_id": call_id}) == taken


@pytest.mark.parametrize(
    ("moment", "taken"),
    [
        ("2026-01-31T23:59:59Z", True),
        ("2026-01-31t23:59:59.5+01:00", True),
        ("2026-01-31 23:59:59", True),
        ("2026-01-31", True),
        ("20260131T2359", True),
        ("1769903999", True),
        ("1769903999120", True),
        (1769903999, True),
        (1769903999.5, True),
        (1769903999120, True),
        (99_999_999, False),
        (10**15, False),
        (True, False),
        ("2026-01-31T23:59:60Z", False),
        ("2026-01-31T23:59:59.1234567890Z", False),
    ],
)
def test_a_moment_of_a_call(moment: Any, taken: bool) -> None:
    assert call_agree(STARTED | {"at": moment}) == taken


def test_every_example_of_a_call_s_body_is_taken() -> None:
    for name in MODELS:
        for example in SCHEMAS[name]["examples"]:
            assert call_agree(example, name)


async def ask_calls(
    edge: Edge, method: str, target: str, sent: Any = None, *, token: str = X_TOKEN, ip: str = ""
) -> tuple[int, Any]:
    """Ask; what was answered is as described."""
    raw = sent if isinstance(sent, bytes | None) else orjson.dumps(sent)
    headers = {"X-Forwarded-For": ip or edge.fresh_ip()} | ({"Access-Token": token} if token else {})
    async with edge.client.request(method, edge.manage + target, data=raw, headers=headers) as response:
        answer = orjson.loads(await response.read())
        operation = DOCUMENT["paths"][target.partition("?")[0]][method.lower()]
        described = resolved(operation["responses"][str(response.status)])
        assert {name for name in RETRY_AFTER if name in response.headers} == described.get("headers", {}).keys()
        validator(described["content"][response.headers["Content-Type"]]["schema"]).validate(answer)
        return response.status, answer


async def ask_who(edge: Edge, number: str, at: str = "") -> Any:
    status, answer = await ask_calls(
        edge, "GET", f"/calls/lookup?number={number.replace('+', '%2B')}" + (f"&at={at}" if at else "")
    )
    assert status == 200
    return answer


async def tell(edge: Edge, call_id: str, event: str, **more: str) -> Any:
    status, answer = await ask_calls(edge, "POST", "/calls", {"call_id": call_id, "event": event, **more})
    assert status == 200
    schema = SCHEMAS["CallStarted" if event == "started" else "CallTakenIn"]
    validator(schema).validate(answer)
    return answer


@pytest.fixture
async def calls_edge(store_url: str, clock: Clock, desk: Desk) -> AsyncIterator[Edge]:
    """A gateway with the account of the tests of calls, whose moments are the clock's."""
    async with serving(store_url, clock=clock) as edge:
        with configured(store_url, appendfsync="always"):  # or each write waits for the second to turn
            await desk.load(test_calls.ACCOUNT % "keep")
            yield edge


async def visit(edge: Edge, **changes: Any) -> str:
    _, answer, _ = await edge.post(web_request(advId="x", **({"numbers": test_calls.PAGE} | changes)), "s")
    return str(answer["sessionId"])


async def test_every_match_of_a_lookup_is_as_described(calls_edge: Edge, clock: Clock, desk: Desk) -> None:
    told: list[Any] = [await ask_who(calls_edge, test_calls.NUMBER)]
    session = await visit(calls_edge, trackingId="me")
    told.append(await ask_who(calls_edge, test_calls.NUMBER))
    clock.advance(30 * 60)
    told.append(await ask_who(calls_edge, test_calls.NUMBER))
    await desk.redis.delete(keys.session_prefix("x") + session)
    begin = told[1]["matches"][0]["begin"]
    told.append(await ask_who(calls_edge, test_calls.NUMBER, begin))
    assert told[-1]["matches"][0]["parameters"] is None
    await visit(calls_edge, numbers=test_calls.SHARED_PAGE)
    await visit(calls_edge, numbers=test_calls.SHARED_PAGE)
    told.append(await ask_who(calls_edge, "+493015981419"))

    account, partner = await desk.account("x"), Partner(desk.store, None)
    await partner.create_customer(account, {"name": "c", "custnr": "1"})
    record: Record = {"customer_id": "1", "name": "Flyer", "media": "Print", "class": "0", "timestamp": None,
                      "destnr": "+4930999"}  # fmt: skip
    source = await partner.create_source(account, record, "+493015981300")
    told.append(await ask_who(calls_edge, "+493015981300"))
    await partner.change_source(account, str(source["source_id"]), "delete", {})
    told.append(await ask_who(calls_edge, "+493015981300"))
    for number, parts in (("493015981301", {"displayOptions": {"source": "x"}}), ("493015981302", {"poolName": "x"})):
        sent = {"phoneNumber": number, **parts}
        assert (await ask_static(calls_edge, "create", sent, token=X_TOKEN, site="1"))[0] == 200
        told.append(await ask_who(calls_edge, "+" + number))

    await desk.load((test_calls.ACCOUNT % "keep").replace("on_call: keep", "overflow: recycle"))
    desk.store.forget("x")
    clock.advance(3600)
    await visit(calls_edge)
    clock.advance(60)
    await visit(calls_edge)
    told.append(await ask_who(calls_edge, test_calls.NUMBER))
    assert {answer["certainty"] for answer in told} == set(get_args(attribution.Certainty))
    assert {match["how"] for answer in told for match in answer["matches"]} == set(get_args(attribution.How))


async def test_answers_to_events_and_erasures_are_as_described(calls_edge: Edge, clock: Clock) -> None:
    await visit(calls_edge, trackingId="me")
    answer = await tell(calls_edge, "c", "started", number=test_calls.NUMBER, caller="+49301234567")
    assert (answer["certainty"], answer["route"]["destination"]) == ("exact", test_calls.PAGE)
    assert (await tell(calls_edge, "c", "answered"))["cdr_id"] is None
    clock.advance(5)
    assert (await tell(calls_edge, "c", "ended"))["cdr_id"]
    scenario = {
        "phoneNumber": "493015981301",
        "redirectOptions": SENT_WHOLE["redirectOptions"],
    }
    assert (await ask_static(calls_edge, "create", scenario, token=X_TOKEN, site="1"))[0] == 200
    route = (await tell(calls_edge, "d", "started", number="+493015981301"))["route"]
    assert route["reserve"]
    assert route["timeout_s"]
    for whom in ({"trackingId": "me"}, {"caller": "+49301234567"}, {"sessionId": "x"}):
        status, receipt = await ask_calls(calls_edge, "POST", "/calls/erase", whom)
        assert (status, any(receipt["erased"].values())) == (200, "trackingId" in whom)


async def test_refusals_of_calls_are_as_described(calls_edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = b'{"call_id":"c","event":"ended","caller":"1","caller":"1"}'
    for raw in (b"", b"{", b"[]", b" " * (calls_handler.BODY_MOST + 1), {}, twice, STARTED | {"number": "x"}):
        for path in ("/calls", "/calls/erase"):
            assert (await ask_calls(calls_edge, "POST", path, raw))[0] == 400
    most = DOCUMENT["paths"]["/calls/lookup"]["get"]["parameters"][0]["schema"]["maxLength"]
    spaces = "%20" * (most - len(test_calls.NUMBER))
    number = test_calls.NUMBER.replace("+", "%2B")
    for query, status in (
        ("", 400), ("?number=x", 400), (f"?number={number}&at=x", 400), (f"?number={number}&x=1", 400),
        (f"?number={spaces}%20{number}", 400), (f"?number={spaces}{number}", 200), ("?number=%2B4930111", 404),
    ):  # fmt: skip
        assert (await ask_calls(calls_edge, "GET", "/calls/lookup" + query))[0] == status
    for method, path in CALL_OPERATIONS:
        for token in ("", "unknown-token"):
            assert (await ask_calls(calls_edge, method.upper(), path, token=token))[0] == 401
    asked = f"/calls/lookup?number={number}"
    for _ in range(20):
        await ask_calls(calls_edge, "GET", asked, token="unknown-token", ip="198.51.100.2")
    assert (await ask_calls(calls_edge, "GET", asked, ip="198.51.100.2"))[0] == 429

    async def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(attribution, "lookup", fail)
    assert (await ask_calls(calls_edge, "GET", asked))[0] == 500


async def test_calls_without_their_store_are_answered_as_described(tmp_path: Path) -> None:
    embedded = EmbeddedStore(tmp_path)
    with embedded:
        async with serving(embedded.url) as edge:
            asked = "/calls/lookup?number=%2B493015981151"
            assert (await ask_calls(edge, "GET", asked, token="demo-token"))[0] == 200
            embedded.__exit__(None, None, None)
            for method, target in (("GET", asked), ("POST", "/calls"), ("POST", "/calls/erase")):
                assert (await ask_calls(edge, method, target, token="demo-token"))[0] == 503
