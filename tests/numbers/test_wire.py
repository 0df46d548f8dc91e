"""Bodies of the static numbers API: every row of the table of fields, right and wrong, and its traps."""

from typing import Any

import pytest

from edgeproxy.numbers import wire
from edgeproxy.numbers.wire import InvalidError, MalformedError
from tests.numbers.bodies import NUMBER, REDIRECT, RESERVE, TABLE, body, redirect, reserve


def violations(tree: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        wire.check_change(tree)
    except InvalidError as invalid:
        return [(violation.field, violation.message) for violation in invalid.violations]
    return []


@pytest.mark.parametrize("right", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_parameter_that_is_right(right: dict[str, Any]) -> None:
    assert violations(right) == []


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [(field, wrong, message) for field, _, wrongs in TABLE for wrong, message in wrongs],
)
def test_a_parameter_that_is_wrong(field: str, wrong: dict[str, Any], message: str) -> None:
    assert violations(wrong) == [(field, message)]


def test_at_least_one_part_is_required() -> None:
    text = "at least one of displayOptions, redirectOptions, poolName is required"
    assert violations({"phoneNumber": NUMBER}) == [("", text)]
    assert violations({"phoneNumber": NUMBER, "poolName": None}) == [("", text)]
    assert violations({}) == [("phoneNumber", "is required"), ("", text)]


def test_all_violations_at_once_in_the_table_s_order() -> None:
    wrong = {
        "poolName": "",
        "extra": 1,
        "redirectOptions": {"redirectType": "x", "reserveRedirect": {"reserveTimeOut": 5, "ignoreEarlyMedia": 0}},
        "displayOptions": {"medium": 1},
        "phoneNumber": "1",
    }
    assert [field for field, _ in violations(wrong)] == [
        "phoneNumber",
        "displayOptions.source",
        "displayOptions.medium",
        "redirectOptions.redirectType",
        "redirectOptions.ptsnOptions",
        "redirectOptions.reserveRedirect.reserveNumber",
        "redirectOptions.reserveRedirect.reserveTimeOut",
        "redirectOptions.reserveRedirect.ignoreEarlyMedia",
        "poolName",
        "extra",
    ]


def test_of_more_than_fifty_violations_the_last_tells_how_many_more_there_are() -> None:
    def extra(count: int) -> list[tuple[str, str]]:
        return violations(body(**{f"x{i}": 1 for i in range(count)}))

    text = "there is no such field"
    assert extra(50) == [(f"x{i}", text) for i in range(50)]
    assert extra(51) == [*((f"x{i}", text) for i in range(49)), ("", "2 more violations are not listed")]
    assert extra(3000)[49:] == [("", "2951 more violations are not listed")]


def test_a_number_in_use_is_told_from_a_free_one_by_its_display_options() -> None:
    parts = wire.check_change({"phoneNumber": NUMBER, "poolName": "p"}).parts()
    nulls = dict.fromkeys(("source", "medium", "campaign", "content", "keyword"))
    assert wire.show(parts) == {"displayOptions": nulls, "redirectOptions": None, "poolName": "p"}
    assert wire.show({})["displayOptions"] is None


def test_the_trap_of_the_misspelt_key() -> None:
    """The public documents spell it `ptsnOptions`; who spells it right is understood, and who sends both is told."""
    spelt_right = body(redirectOptions={"redirectType": "PSTN", "pstnOptions": REDIRECT["ptsnOptions"]})
    assert wire.check_change(spelt_right).parts() == wire.check_change(redirect()).parts()
    both = redirect(pstnOptions={"redirectNumber": "74950000000"})
    assert violations(both) == [("redirectOptions.pstnOptions", "stands there twice, as ptsnOptions too")]


def test_the_trap_of_the_nested_reserve() -> None:
    """The table lists `reserveRedirect` by itself; the body has it within `redirectOptions`."""
    assert violations(body(reserveRedirect=RESERVE)) == [
        ("reserveRedirect", "there is no such field here: it belongs into redirectOptions")
    ]


@pytest.mark.parametrize("timeout", [30, "30", "030"])
def test_the_trap_of_the_timeout_that_is_a_number_or_a_string(timeout: object) -> None:
    parts = wire.check_change(reserve(reserveTimeOut=timeout)).parts()
    assert parts["redirectOptions"]["reserveRedirect"]["reserveTimeOut"] == 30


@pytest.mark.parametrize(
    ("sent", "kept"), [({}, True), ({"ignoreEarlyMedia": "false"}, False), ({"ignoreEarlyMedia": "true"}, True)]
)
def test_the_trap_of_early_media_which_is_ignored_by_default(sent: dict[str, Any], kept: bool) -> None:
    parts = wire.check_change(reserve(**sent)).parts()
    assert parts["redirectOptions"]["reserveRedirect"]["ignoreEarlyMedia"] is kept


def test_what_is_not_sent_is_no_part() -> None:
    assert wire.check_change(body()).parts() == {
        "displayOptions": {"source": "yandex", "medium": None, "campaign": None, "content": None, "keyword": None}
    }
    assert list(wire.check_change({"phoneNumber": NUMBER, "poolName": "p"}).parts()) == ["poolName"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"1", b'"x"', b"\xff", b"[" * 100_000, b" " * 65_537, b'{"a":1,"a":1}']
)
def test_what_is_no_body(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        wire.parse(raw)


def test_bodies_of_list_and_delete() -> None:
    assert wire.check_many({"phoneNumbers": [NUMBER, "79990000002"]}).phone_numbers == ["+79990000001", "+79990000002"]
    for wrong in ([], None, NUMBER, [1], [NUMBER] * 1001, ["x"]):
        with pytest.raises(InvalidError):
            wire.check_many({"phoneNumbers": wrong})
    assert wire.check_one({"phoneNumber": NUMBER}).phone_number == "+79990000001"
    with pytest.raises(InvalidError):
        wire.check_one({"phoneNumber": NUMBER, "poolName": "p"})


@pytest.mark.parametrize(
    "written", [79990000001, 89990000001, "+79990000001", "+7 (999) 000-00-01", "8 (999) 000-00-01", "89990000001"]
)
def test_a_number_may_be_an_integer_or_as_it_is_dialled_if_it_can_only_mean_one(written: Any) -> None:
    assert wire.check_one({"phoneNumber": written}).phone_number == "+79990000001"
    assert wire.check_many({"phoneNumbers": [written]}).phone_numbers == ["+79990000001"]


def test_eleven_digits_that_are_another_country_s_number_are_that() -> None:
    assert wire.check_one({"phoneNumber": "84912345678"}).phone_number == "+84912345678"


@pytest.mark.parametrize("written", [7999000000, -79990000001, "+89990000001", "899900000012"])
def test_what_stands_for_no_number_is_refused(written: Any) -> None:
    with pytest.raises(InvalidError):
        wire.check_one({"phoneNumber": written})


def test_a_whole_number_is_one_however_json_writes_it() -> None:
    change = wire.check_change(reserve(reserveTimeOut=30.0) | {"phoneNumber": 79991234567.0})
    assert change.phone_number == "+79991234567"
    assert change.parts()["redirectOptions"]["reserveRedirect"]["reserveTimeOut"] == 30
