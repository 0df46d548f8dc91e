"""The OpenAPI document of the calls API: its fields, limits and answers are the server's."""

import dataclasses
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from pydantic import BaseModel, ValidationError

from edgeproxy.accounts import moments
from edgeproxy.calls import attribution, wire
from edgeproxy.calls import openapi as calls
from edgeproxy.http.access import ACCESS_TOKEN
from edgeproxy.http.openapi.tree import RETRY_AFTER
from edgeproxy.store import keys
from edgeproxy.store.embedded import EmbeddedStore
from edgeproxy.store.erasure import Receipt
from edgeproxy.store.partner import Partner, Record
from tests.calls.api import ACCOUNT, NUMBER, PAGE, SHARED_PAGE, account_served
from tests.conftest import Clock, Desk, Edge, serving, web_request
from tests.numbers.described import SENT_WHOLE, ask_static
from tests.openapi import DOCUMENT, SCHEMAS, changed, members, resolved, validator

MODELS: dict[str, type[BaseModel]] = {"CallEvent": wire.Event, "CallErasure": wire.Erasure}


CALL_OPERATIONS = (("get", "/calls/lookup"), ("post", "/calls"), ("post", "/calls/erase"))


STARTED = {
    "call_id": "c-1",
    "event": "started",
    "number": NUMBER,
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
            assert str(wire.BODY_MOST) in tree["requestBody"]["description"]
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
    async with account_served(store_url, clock, desk) as edge:
        yield edge


async def visit(edge: Edge, **changes: Any) -> str:
    _, answer, _ = await edge.post(web_request(advId="x", **({"numbers": PAGE} | changes)), "s")
    return str(answer["sessionId"])


async def test_every_match_of_a_lookup_is_as_described(calls_edge: Edge, clock: Clock, desk: Desk) -> None:
    told: list[Any] = [await ask_who(calls_edge, NUMBER)]
    session = await visit(calls_edge, trackingId="me")
    told.append(await ask_who(calls_edge, NUMBER))
    clock.advance(30 * 60)
    told.append(await ask_who(calls_edge, NUMBER))
    await desk.redis.delete(keys.session_prefix("x") + session)
    begin = told[1]["matches"][0]["begin"]
    told.append(await ask_who(calls_edge, NUMBER, begin))
    assert told[-1]["matches"][0]["parameters"] is None
    await visit(calls_edge, numbers=SHARED_PAGE)
    await visit(calls_edge, numbers=SHARED_PAGE)
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

    await desk.load((ACCOUNT % "keep").replace("on_call: keep", "overflow: recycle"))
    desk.store.forget("x")
    clock.advance(3600)
    await visit(calls_edge)
    clock.advance(60)
    await visit(calls_edge)
    told.append(await ask_who(calls_edge, NUMBER))
    assert {answer["certainty"] for answer in told} == set(get_args(attribution.Certainty))
    assert {match["how"] for answer in told for match in answer["matches"]} == set(get_args(attribution.How))


async def test_answers_to_events_and_erasures_are_as_described(calls_edge: Edge, clock: Clock) -> None:
    await visit(calls_edge, trackingId="me")
    answer = await tell(calls_edge, "c", "started", number=NUMBER, caller="+49301234567")
    assert (answer["certainty"], answer["route"]["destination"]) == ("exact", PAGE)
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
    for raw in (b"", b"{", b"[]", b" " * (wire.BODY_MOST + 1), {}, twice, STARTED | {"number": "x"}):
        for path in ("/calls", "/calls/erase"):
            assert (await ask_calls(calls_edge, "POST", path, raw))[0] == 400
    most = DOCUMENT["paths"]["/calls/lookup"]["get"]["parameters"][0]["schema"]["maxLength"]
    spaces = "%20" * (most - len(NUMBER))
    number = NUMBER.replace("+", "%2B")
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
