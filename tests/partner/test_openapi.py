"""The OpenAPI document of the partner API: its fields, records and limits are the server's."""

import base64
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from pydantic import ValidationError

from edgeproxy.partner import openapi as partner
from edgeproxy.partner.render import Format, render
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.partner.resources.greetings import SOUND_MOST
from edgeproxy.partner.resources.operation import Operation
from edgeproxy.partner.resources.records import LISTS, moment_text
from tests.openapi import DOCUMENT, PLACES, SCHEMAS, VERSION, resolved, validator

FORM, JSON = "application/x-www-form-urlencoded", "application/json"


NUMBER = "+493012345601"


def described(operation: Operation, path: str) -> Any:
    return DOCUMENT["paths"][f"/{VERSION}/{path}"][operation.method.lower()]


def body_of(operation: Operation, path: str, kind: str = JSON) -> Any:
    name = described(operation, path)["requestBody"]["content"][kind]["schema"]["$ref"].rpartition("/")[2]
    return SCHEMAS[name]


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
