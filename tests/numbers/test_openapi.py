"""The OpenAPI document of the static numbers API: its fields, limits and answers are the server's."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from edgeproxy.http.access import ACCESS_TOKEN
from edgeproxy.http.openapi.tree import RATE_LIMITS
from edgeproxy.numbers import handler as numbers_handler
from edgeproxy.numbers import openapi as static
from edgeproxy.numbers import wire as numbers_wire
from edgeproxy.store.embedded import EmbeddedStore
from tests.conftest import Desk, Edge, serving
from tests.numbers.bodies import TABLE, redirect, reserve, without
from tests.numbers.bodies import body as change
from tests.numbers.described import FREE, SENT_WHOLE, STATIC_NUMBER, ask_static, static_operation
from tests.openapi import DOCUMENT, SCHEMAS, changed, members, validator

REDIRECT_TO = {"redirectNumber": "74951234567"}


# Wrong bodies of the table that are right by the schema: which digits are a valid number is in phonenumbers' tables.
ONLY_A_VALIDATOR_TELLS = [
    change(phoneNumber="7999000000"),
    change(phoneNumber="799900000011"),
    change(phoneNumber="+7999000000"),
    change(phoneNumber="2026-11-26"),
    redirect(ptsnOptions={"redirectNumber": "999999999"}),
]


CHECKS = {"StaticChange": numbers_wire.check_change, "StaticOne": numbers_wire.check_one,
          "StaticMany": numbers_wire.check_many}  # fmt: skip


def static_agree(tree: Any, name: str = "StaticChange") -> bool:
    """Whether schema and server take a body; they must not differ."""
    try:
        CHECKS[name](numbers_wire.parse(json.dumps(tree).encode()))
        taken = True
    except (numbers_wire.InvalidError, numbers_wire.MalformedError):
        taken = False
    assert validator(SCHEMAS[name]).is_valid(tree) == taken, tree
    return taken


def test_a_static_method_is_as_the_gateway_has_it() -> None:
    assert tuple(static._METHODS) == numbers_wire.METHODS
    assert {int(status): code for status, (code, _) in static._ERRORS.items()} == {
        status: code
        for status, code in numbers_wire._CODES.items()
        if status != 405  # is never the answer of a POST
    }
    scheme = DOCUMENT["components"]["securitySchemes"]["accessToken"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", ACCESS_TOKEN)
    for method in numbers_wire.METHODS:
        tree = static_operation(method)
        assert tree["security"] == [{"accessToken": []}]
        assert [(parameter["in"], parameter["name"], parameter["required"]) for parameter in tree["parameters"]] == [
            ("header", numbers_handler._SITE_ID, True)
        ]
        assert tree["responses"].keys() - {"409"} == {"200", "400", "401", "403", "404", "415", "429", "500"}
        assert str(numbers_wire.BODY_MOST) in tree["requestBody"]["description"]


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
    parts = {name: SENT_WHOLE[name] for name in numbers_wire.PARTS}
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
    parts = numbers_wire.check_change(reserve()).parts()
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
        shown = {"phoneNumber": FREE, **numbers_wire.show(numbers_wire.check_change(right).parts())}
        rules.validate(shown)
        for path, member in members(SCHEMAS["StaticNumber"]):
            assert set(member.get("properties", ())) == set(member.get("required", ())), path
    free = {"phoneNumber": FREE, **numbers_wire.show({})}
    rules.validate(free)
    for name in free:
        assert not rules.is_valid({other: value for other, value in free.items() if other != name})


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
    for method in numbers_wire.METHODS:
        for raw in (b"", b"{", b"[]", b" " * (numbers_wire.BODY_MOST + 1), {}, {"phoneNumber": 1, "phoneNumbers": 1}):
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
            for method in numbers_wire.METHODS:
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
