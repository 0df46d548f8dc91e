"""Whatever pydantic finds wrong with what operators and partners write is told in words of our own."""

import re
from collections.abc import Iterator
from datetime import UTC
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ErrorType

from edgeproxy import wording
from edgeproxy.accounts.file import AccountFile
from edgeproxy.calls import wire as calls_wire
from edgeproxy.numbers import wire
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.settings import Settings
from edgeproxy.simulate import trace

MODELS: list[type[BaseModel]] = [
    AccountFile, Settings, calls_wire.Event, calls_wire.Erasure, wire.Change, wire.One, wire.Many, trace._Line,
    *dict.fromkeys(operation.fields for operation in OPERATIONS),
]  # fmt: skip
WRONG: list[Any] = [
    None, "", " ", "x", "x" * 70_000, "\x00", "-1", "1.5", "9" * 5000, "true", "2026-13-01", "a,b", -1, 0, 1, 1.5,
    10**40, float("nan"), float("inf"), True, b"\xff", [], ["x"], [None], ["x"] * 5000, [["x"]], {}, {"x": "x"},
    {"": None}, {1: 2}, {"x": {"y": []}}, object(),
]  # fmt: skip
LIBRARY = re.compile(
    r"(?i)\b(input should|should (be|have|match|not)|field required|extra inputs|permitted|unable to|valid (string|int|"
    r"number|list|dict|boolean|path)|dictionary|instance of|value error|assertion|nonetype|pydantic|python|host bits|"
    r"literal|exceeds the limit|base 10|invalid |appear to be)|<class"
)


def models_of(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """A model and all those within it."""
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        kinds = wording.alternatives(field.annotation)
        while kinds:
            kind = kinds.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from models_of(kind, seen)
            kinds += [bare for part in get_args(kind) for bare in wording.alternatives(part)]


ALL = [below for seen in [set[type[BaseModel]]()] for model in MODELS for below in models_of(model, seen)]


def faults_of(model: type[BaseModel], tree: dict[str, Any]) -> list[Any]:
    try:
        model.model_validate(tree, context={"region": "DE", "zone": UTC, "numbers left": 10})
    except ValidationError as invalid:
        return invalid.errors(include_url=False)
    return []


@pytest.mark.parametrize("model", ALL, ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_no_wrong_value_of_any_field_is_told_in_the_librarys_words(model: type[BaseModel]) -> None:
    names = [field.alias or name for name, field in model.model_fields.items()]
    for name in [*names, "unknown"]:
        for value in WRONG:
            for fault in faults_of(model, {name: value}):
                told = wording.why(fault)
                assert told != "cannot be used", f"{fault['type']} has no words of its own"
                assert not LIBRARY.search(told), f"{name}={value!r:.40}: {told}"
                assert len(told) < 500


def test_those_models_are_looked_at_whole() -> None:
    names = {model.__name__ for model in ALL}
    assert {"AccountEntry", "PoolEntry", "MatchEntry", "PointsEntry", "StaticEntry", "ReserveRedirect"} <= names


def test_every_kind_of_fault_that_the_library_knows_is_told_in_other_words() -> None:
    ctx = {"gt": 1, "ge": 1, "lt": 1, "le": 1, "multiple_of": 2, "min_length": 2, "max_length": 2, "field_type": "List",
           "actual_length": 3, "pattern": "x", "expected": "'a' or 'b'", "error": "e", "class": "c", "class_name": "c",
           "attribute": "a", "encoding": "utf-8", "encoding_error": "e", "tz_expected": 1, "tz_actual": 2, "tag": "t",
           "discriminator": "d", "expected_tags": "t", "expected_schemes": "s", "expected_version": 4, "max_digits": 1,
           "decimal_places": 1, "whole_digits": 1, "method_name": "m"}  # fmt: skip
    for kind in get_args(ErrorType):
        if kind == "value_error":
            continue
        told = wording.why({"type": kind, "loc": (), "msg": "library", "input": "x", "ctx": ctx})
        assert "library" not in told
        assert not LIBRARY.search(told), kind
        try:
            theirs = PydanticKnownError(kind, ctx).message()
        except (TypeError, KeyError, ValueError):
            continue
        assert told.lower() != theirs.lower()


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, []), (10, ["0", "9"]), (11, ["0", "9", "and 1 more row"]), (10_010, ["0", "9", "and 10,000 more rows"])],
)
def test_ten_lines_are_shown_and_the_rest_counted(count: int, shown: list[str]) -> None:
    lines = wording.first_of([str(i) for i in range(count)], "rows")
    assert [line for line in lines if line not in map(str, range(1, 9))] == shown
