"""Bodies of pages of numbers, taken and refused: tables for tests of the wire, the gateway and the document."""

from typing import Any

import orjson
import pytest

from tests.conftest import web_request


def padded_to(size: int) -> bytes:
    body = orjson.dumps(web_request())
    return body[:-1] + b" " * (size - len(body)) + b"}"


GOOD = orjson.dumps(web_request())


# Body → error.
MALFORMED = [
    pytest.param(b"", "Malformed JSON", id="empty"),
    pytest.param(GOOD[:-1], "Malformed JSON", id="truncated"),
    pytest.param(GOOD[: len(GOOD) // 2], "Malformed JSON", id="truncated in the middle"),
    pytest.param(GOOD + b"x", "Malformed JSON", id="trailing garbage"),
    pytest.param(b"[" * 20 + b"]" * 20, "Malformed JSON", id="20 levels of array"),
    pytest.param(b'{"a":' * 20 + b"1" + b"}" * 20, "Missing parameter: advId", id="20 levels of object"),
    pytest.param(b'{"a":' * 1020 + b"1" + b"}" * 1020, "Malformed JSON", id="1,020 levels of object"),
    pytest.param(b"[" * 8000 + b"]" * 8000, "Malformed JSON", id="8,000 levels"),
    pytest.param(
        orjson.dumps(web_request(extra={"a": {"b": {}}})),
        "Invalid parameter: extra: there is no such field",
        id="depth in an unknown field",
    ),
    pytest.param(
        orjson.dumps(web_request(parameters={"a": {"b": {}}})),
        "Invalid parameter: parameters.a: must be a string",
        id="depth in parameters",
    ),
    pytest.param(b'"text"', "Malformed JSON", id="a string"),
    pytest.param(b"null", "Malformed JSON", id="null"),
    pytest.param(b"[]", "Malformed JSON", id="an array"),
    pytest.param(b"NaN", "Malformed JSON", id="NaN"),
    pytest.param(b"\xef\xbb\xbf" + GOOD, "Malformed JSON", id="byte order mark"),
    pytest.param(GOOD.decode().encode("utf-16"), "Malformed JSON", id="UTF-16"),
    pytest.param(GOOD.replace(b"1412", b"\xff\xfe"), "Malformed JSON", id="not UTF-8"),
    pytest.param(GOOD.replace(b"1412", b"\\ud800"), "Malformed JSON", id="lone surrogate, escaped"),
    pytest.param(GOOD.replace(b"1412", b"\xed\xa0\x80"), "Malformed JSON", id="lone surrogate, raw"),
    pytest.param(GOOD.replace(b"1412", b"14\x0012"), "Malformed JSON", id="NUL, raw"),
    pytest.param(GOOD.replace(b"1412", b"14\\u000012"), "Malformed JSON", id="NUL, escaped"),
    pytest.param(GOOD.replace(b"1412", b"\\\\\\u0000"), "Malformed JSON", id="NUL after an escaped backslash"),
    pytest.param("{“advId”:”demo”}".encode(), "Malformed JSON", id="curly quotes"),
    pytest.param(padded_to(17 * 1024), "Body too large", id="17 KiB"),
    pytest.param(padded_to(16 * 1024 + 1), "Body too large", id="16 KiB and a byte"),
    pytest.param(GOOD[:-1] + b',"advId":"demo"}', "Malformed JSON", id="duplicate key"),
    pytest.param(GOOD[:-1] + b', "advId" : "demo"}', "Malformed JSON", id="duplicate key, spaced"),
    pytest.param(GOOD[:-1] + b',"\\u0061dvId":"demo"}', "Malformed JSON", id="duplicate key, escaped"),
    pytest.param(GOOD[:-1] + b',"x":1,"x":2}', "Malformed JSON", id="duplicate unknown key"),
    pytest.param(
        GOOD.replace(b'"custnr":"1412"', b'"custnr":"1","custnr":"2"'), "Malformed JSON", id="duplicate dimension"
    ),
    pytest.param(
        GOOD.replace(b'"custnr":"1412"', b'"custnr":1,"custnr":2'), "Malformed JSON", id="duplicate dimension, numbers"
    ),
    pytest.param(
        orjson.dumps(web_request(numbers="030," * 51)), "Invalid parameter: numbers: more than 50", id="51 numbers"
    ),
    pytest.param(orjson.dumps(web_request(numbers="," * 1000)), "Missing parameter: numbers", id="1,000 commas"),
    pytest.param(orjson.dumps(web_request(numbers=",,,")), "Missing parameter: numbers", id="commas alone"),
]


# Field, value (None: absent) → error.
FIELDS: list[tuple[str, Any, str]] = [
    ("advId", None, "Missing parameter: advId"),
    ("advId", "", "Missing parameter: advId"),
    ("advId", 1, "Invalid parameter: advId: must be a string"),
    ("advId", "x" * 65, "Invalid parameter: advId: more than 64 characters"),
    ("numbers", None, "Missing parameter: numbers"),
    ("numbers", "", "Missing parameter: numbers"),
    ("numbers", [], "Missing parameter: numbers"),
    ("numbers", 30, "Invalid parameter: numbers: must be a string or an array of strings"),
    ("numbers", ["1", 2], "Invalid parameter: numbers: must be a string or an array of strings"),
    ("numbers", [["1"]], "Invalid parameter: numbers: must be a string or an array of strings"),
    ("numbers", ["030"] * 51, "Invalid parameter: numbers: more than 50"),
    ("type", None, "Missing parameter: type"),
    ("type", "tel", "Invalid parameter: type: must be web or app"),
    ("type", "WEB", "Invalid parameter: type: must be web or app"),
    ("type", True, "Invalid parameter: type: must be a string"),
    ("type", "website", "Invalid parameter: type: must be web or app"),
    ("fullUrl", None, "Missing parameter: fullUrl"),
    ("fullUrl", "", "Missing parameter: fullUrl"),
    ("trackingId", None, "Missing parameter: trackingId"),
    ("trackingId", "x" * 129, "Invalid parameter: trackingId: more than 128 characters"),
    ("trackingId", True, "Invalid parameter: trackingId: must be a string"),
    ("trackingId", {}, "Invalid parameter: trackingId: must be a string"),
    ("fullReferrer", None, "Missing parameter: fullReferrer"),
    ("parameters", None, "Missing parameter: parameters"),
    ("parameters", "", "Invalid parameter: parameters: must be an object"),
    ("parameters", [[]], "Invalid parameter: parameters: must be an object"),
    ("parameters", False, "Invalid parameter: parameters: must be an object"),
    ("parameters", {"custnr": "x" * 46}, "Invalid parameter: parameters.custnr: more than 45 characters"),
    ("parameters", {"custname": "x" * 61}, "Invalid parameter: parameters.custname: more than 60 characters"),
    ("parameters", {"custemail": "x" * 151}, "Invalid parameter: parameters.custemail: more than 150 characters"),
    ("parameters", {"x": "x" * 2049}, "Invalid parameter: parameters.x: more than 2048 characters"),
    ("parameters", {"x" * 65: ""}, "Invalid parameter: parameters: a key of more than 64 characters"),
    ("parameters", {"x": []}, "Invalid parameter: parameters.x: must be a string"),
    ("parameters", {str(i): "" for i in range(51)}, "Invalid parameter: parameters: more than 50 keys"),
    ("userAgent", None, "Missing parameter: userAgent"),
    ("userAgent", "", "Missing parameter: userAgent"),
    ("requestIpAddress", None, "Missing parameter: requestIpAddress"),
    ("requestIpAddress", "1" * 46, "Invalid parameter: requestIpAddress: more than 45 characters"),
    ("sessionId", "x" * 65, "Invalid parameter: sessionId: more than 64 characters"),
    ("sessionId", 1, "Invalid parameter: sessionId: must be a string"),
    ("dryRun", "yes", "Invalid parameter: dryRun: must be true or false"),
]


# Field, value (None: absent): taken.
TAKEN: list[tuple[str, Any]] = [
    ("advId", "x" * 64),
    ("numbers", "+493015981100, 030 15981100,"),
    ("numbers", ["+493015981100"]),
    ("numbers", ["030"] * 50),
    ("numbers", "030," * 50),
    ("numbers", "030;" * 50),
    ("numbers", "030\r\n" * 50),
    ("fullUrl", "x" * 10_000),
    ("trackingId", ""),
    ("trackingId", 4711),
    ("trackingId", -0.5),
    ("trackingId", "ü" * 128),
    ("fullReferrer", ""),
    ("fullReferrer", "x" * 10_000),
    ("userAgent", "x" * 10_000),
    ("parameters", {}),
    ("parameters", []),
    ("parameters", {"custnr": None, "x": None}),
    ("parameters", {"custnr": "ü" * 45, "custname": "ü" * 60, "custemail": "ü" * 150}),
    ("parameters", {"adPrice": 9.5, "adKm": 12, "sold": False}),
    ("sessionId", None),
    ("sessionId", ""),
    ("dryRun", True),
    ("callback", "unknown scalars are left alone"),
    ("version", 2),
]
