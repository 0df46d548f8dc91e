"""The OpenAPI document: valid, one, and whole."""

import re

import orjson
from openapi_spec_validator import OpenAPIV31SpecValidator

from edgeproxy.node.document import document
from edgeproxy.node.rooms import ROOMS
from edgeproxy.numbers import handler as numbers_handler
from edgeproxy.numbers import wire
from tests.openapi import DOCUMENT, PLACES, VERSION


def test_it_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_is_made_once_and_always_the_same() -> None:
    assert document(ROOMS, VERSION) is DOCUMENT
    assert orjson.dumps(document.__wrapped__(ROOMS, VERSION)) == orjson.dumps(DOCUMENT)


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
    statics = {("POST", numbers_handler.PATH + method) for method in wire.METHODS}
    service = {("GET", path) for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")}
    of_calls = {("GET", "/calls/lookup"), ("POST", "/calls"), ("POST", "/calls/erase")}
    assert found == resources | statics | of_calls | service | {("POST", "/api")}
