"""What is read of a page of numbers: bodies, fields, and the answer's text."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.dynamic import wire
from edgeproxy.errors import Fault, Kind
from tests.conftest import web_request
from tests.dynamic.bodies import FIELDS, GOOD, MALFORMED, TAKEN


def read(body: bytes) -> wire.Page:
    return wire.check(wire.parse(body), body)


def error_of(body: bytes) -> str:
    with pytest.raises(Fault) as caught:
        read(body)
    assert caught.value.kind.status == 400
    return caught.value.text


APP_MAY_LACK = ("userAgent", "requestIpAddress", "sessionId")


APP_REQUIRES = ("advId", "numbers", "fullUrl", "trackingId", "fullReferrer", "parameters")


@pytest.mark.parametrize(("body", "error"), MALFORMED)
def test_malformed(body: bytes, error: str) -> None:
    assert error_of(body) == error


@pytest.mark.parametrize(("name", "value", "error"), FIELDS)
def test_a_bad_field_is_named(name: str, value: Any, error: str) -> None:
    assert error_of(orjson.dumps(web_request(**{name: value}))) == error


@pytest.mark.parametrize(("name", "value"), TAKEN)
def test_a_good_field_is_taken(name: str, value: Any) -> None:
    read(orjson.dumps(web_request(**{name: value})))


@pytest.mark.parametrize("name", APP_MAY_LACK)
def test_an_app_may_leave_out(name: str) -> None:
    assert read(orjson.dumps(web_request(**{"type": "app", name: None}))).is_app


@pytest.mark.parametrize("name", APP_REQUIRES)
def test_an_app_must_send(name: str) -> None:
    assert error_of(orjson.dumps(web_request(**{"type": "app", name: None}))) == f"Missing parameter: {name}"


def test_an_apps_url_may_be_empty() -> None:
    assert read(orjson.dumps(web_request(type="app", fullUrl=""))).full_url == ""


def test_scalars_in_parameters_become_their_json_text() -> None:
    page = read(orjson.dumps(web_request(parameters={"a": 9.5, "b": 12, "c": False})))
    assert page.parameters == {"a": "9.5", "b": "12", "c": "false"}


@pytest.mark.parametrize(
    "text", ["12345678901234567890123", "10.10", "1E6", "-0", "0.1e-7", "1" + "0" * 44, "9007199254740993", "1e400"]
)
def test_a_number_keeps_its_json_text_to_the_last_digit(text: str) -> None:
    body = json.dumps(web_request(parameters={"custnr": "N", "a": None}, trackingId="N")).replace('"N"', text).encode()
    try:
        page = read(body)
    except Fault:
        assert text == "1e400"  # no double: the reader of JSON refuses it
    else:
        assert (page.parameters, page.tracking_id) == ({"custnr": text}, text)


def test_a_dimension_that_is_null_is_an_absent_one_and_php_s_empty_array_an_empty_object() -> None:
    assert read(orjson.dumps(web_request(parameters={"a": None, "b": "c", "d": None}))).parameters == {"b": "c"}
    assert read(orjson.dumps(web_request(parameters=[]))).parameters == {}


def test_a_number_is_no_longer_than_a_text_may_be() -> None:
    body = GOOD.replace(b'"1412"', b"1" * 46)
    assert error_of(body) == "Invalid parameter: parameters.custnr: more than 45 characters"


def test_deep_json_beside_a_number_is_an_error_of_the_client() -> None:
    deep = b'"extra":' + b'{"a":' * 1000 + b"1" + b"}" * 1000
    assert error_of(orjson.dumps(web_request(parameters={"a": 1}))[:-1] + b"," + deep + b"}") in (
        "Malformed JSON", "Invalid parameter: extra: there is no such field"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("030 1,030 2,", ("030 1", "030 2")),
        ("030 1;030 2;", ("030 1", "030 2")),
        ("030 1\n030 2\r\n\r\n030 3", ("030 1", "030 2", "030 3")),
        (" 030 1 ; 030 2 ,\n; 030 3", ("030 1", "030 2", "030 3")),
        ("&#43;49 30 1;&plus;49&nbsp;30 2", ("&#43;49 30 1", "&plus;49&nbsp;30 2")),
        ("tel:+49301;ext=5;030 2", ("tel:+49301;ext=5", "030 2")),
        ("tel:030-1; phone-context=+49,030 2", ("tel:030-1; phone-context=+49", "030 2")),
    ],
)
def test_numbers_are_separated_by_commas_semicolons_and_line_breaks(text: str, numbers: tuple[str, ...]) -> None:
    assert read(orjson.dumps(web_request(numbers=text))).numbers == numbers


def test_a_long_user_agent_is_cut_and_url_and_referrer_are_read_to_their_ends() -> None:
    page = read(orjson.dumps(web_request(userAgent="x" * 2000, fullUrl="u" * 3000, fullReferrer="r" * 3000)))
    assert (len(page.user_agent), len(page.full_url), len(page.full_referrer)) == (1024, 3000, 3000)


def test_numbers_are_split_and_trimmed() -> None:
    page = read(orjson.dumps(web_request(numbers=" 030 1 ,\t+49 2\n,, ")))
    assert page.numbers == ("030 1", "+49 2")


@pytest.mark.parametrize("text", ['":', ": ", '{"', "\\", '\\"', "/", "\\u0041", '","advId":"x'])
def test_what_looks_like_a_repeated_key_inside_a_string_is_not_one(text: str) -> None:
    request = web_request(trackingId=text, parameters={"a": text, text: "b"})
    for body in (json.dumps(request), json.dumps(request, separators=(",", ":")), json.dumps(request, indent=1)):
        assert read(body.encode()).tracking_id == text


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    body = orjson.dumps(web_request(trackingId="\\u0000"))
    assert read(body).tracking_id == "\\u0000"


def test_an_error_repeats_a_name_without_what_a_terminal_acts_on() -> None:
    assert error_of(orjson.dumps(web_request(parameters={"a\x1b[31m": []}))) == (
        "Invalid parameter: parameters.a?[31m: must be a string"
    )


@given(st.binary(max_size=20_000))
def test_arbitrary_bytes_end_in_a_page_or_a_fault(body: bytes) -> None:
    try:
        read(body)
    except Fault as fault:
        assert fault.kind.status == 400


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(web_request())), ANY_JSON, max_size=10), st.booleans())
def test_arbitrary_fields_end_in_a_page_or_a_fault(changes: dict[str, Any], spaced: bool) -> None:
    request = web_request() | changes
    body = json.dumps(request, separators=None if spaced else (",", ":"), ensure_ascii=spaced).encode(
        "utf-8", "surrogatepass"
    )
    try:
        page = read(body)
    except Fault as fault:
        assert fault.kind in (
            Kind.MALFORMED_JSON, Kind.BODY_TOO_LARGE, Kind.MISSING_PARAMETER, Kind.INVALID_PARAMETER
        )  # fmt: skip
    else:
        assert page.account == request["advId"]


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), min_size=1, max_size=6), st.data())
def test_a_key_that_stands_twice_is_always_found(members: dict[str, str], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(sorted(members)))
    pairs = [*members.items(), (again, data.draw(st.text(max_size=8)))]
    body = "{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs) + "}"
    with pytest.raises(Fault, match="MALFORMED_JSON"):
        wire.parse(body.encode())


def test_the_answer_is_the_documented_example() -> None:
    body = wire.render([("+493015981100", "+493015981158", "030 15 98 11 58")], "40846be9-88de-4120-bf8c-dfc2fd6c4c3")
    assert orjson.loads(body) == {
        "success": True,
        "numbers": [
            {
                "number_on_page": "+493015981100",
                "replace_with": {"e164": "+493015981158", "local": "030 15 98 11 58"},
            }
        ],
        "sessionId": "40846be9-88de-4120-bf8c-dfc2fd6c4c3",
    }
    assert wire.render_fault(Fault(Kind.MISSING_PARAMETER, "advId")) == (
        b'{"success":false,"error":"Missing parameter: advId"}'
    )


def test_what_is_kept_of_an_answer_takes_no_more_memory_than_its_bytes() -> None:
    def private_kib() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))

    before, count = private_kib(), 8000
    for index in range(count):
        wire.render([("+493015981100", f"+4930777{index:05d}", f"030 777{index:05d}")], "")
    assert (private_kib() - before) * 1024 / count < 1500  # bytes an answer, with its place in the cache
