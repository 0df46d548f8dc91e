"""POST /api: every row of the table of statuses, sessions, and signatures."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from edgeproxy.dynamic import signature
from edgeproxy.store import Store
from tests.conftest import Clock, Desk, Edge, serving, web_request
from tests.dynamic.bodies import FIELDS, MALFORMED
from tests.dynamic.statuses import STATUS_TABLE
from tests.servers import calls, client_of, on_primaries


@pytest.mark.parametrize("statuses", [True, False], ids=["X-HTTP-STATUSES", "legacy"])
@pytest.mark.parametrize(("status", "error", "send"), STATUS_TABLE, ids=[str(row[1]) for row in STATUS_TABLE])
async def test_the_status_table(
    edge: Edge, status: int, error: str | None, send: Callable[..., Any], statuses: bool
) -> None:
    seen, answer, headers = await send(edge, statuses=statuses)
    assert seen == (status if statuses else 200)
    assert headers["Content-Type"].startswith("application/json")
    if error is None:
        assert answer["success"] is True
    else:
        assert answer == {"success": False, "error": error}


@pytest.mark.parametrize(("status", "error", "ask"), STATUS_TABLE)
async def test_no_cache_may_keep_an_answer(edge: Edge, status: int, error: str | None, ask: Any) -> None:
    _, _, headers = await ask(edge)
    assert headers.getall("Cache-Control") == ["no-store"]


async def test_no_cache_may_keep_an_answer_that_is_no_json(edge: Edge) -> None:
    async with edge.client.post(f"{edge.url}/api", headers={"Expect": "a miracle"}, data=b"{}") as answer:
        assert (answer.status, answer.headers["Cache-Control"]) == (417, "no-store")


async def test_the_header_counts_whatever_its_value(edge: Edge) -> None:
    for value in ("", "0", "false"):
        status, _, _ = await edge.post(b"{", statuses=False, headers={"x-http-statuses": value})
        assert status == 400


@pytest.mark.parametrize(("body", "error"), MALFORMED)
async def test_malformed_bodies(edge: Edge, body: bytes, error: str, caplog: pytest.LogCaptureFixture) -> None:
    assert (await edge.post(body))[:2] == (400, {"success": False, "error": error})
    assert not caplog.records


async def test_bad_fields_are_named_once_the_signature_is_good(edge: Edge) -> None:
    for name, value, error in FIELDS:
        status, answer, _ = await edge.post(web_request(**{name: value}))
        assert (status, answer["error"]) == (400, error)
        if name != "advId":
            assert (await edge.post(web_request(**{name: value}), "wrong"))[1]["error"] == "Invalid signature"


async def test_the_documented_replacement(edge: Edge) -> None:
    status, answer, _ = await edge.post(web_request())
    assert (status, answer["success"]) == (200, True)
    assert answer["numbers"] == [
        {"number_on_page": "+493015981100", "replace_with": {"e164": "+493015981151", "local": "030 15 98 11 51"}}
    ]
    assert len(answer["sessionId"]) == 36


async def test_numbers_are_echoed_as_sent_and_unknown_ones_left_out(edge: Edge) -> None:
    for numbers in (" tel:+49 (0)30 15981100 , +4930999, x", [" tel:+49 (0)30 15981100 ", "+4930999", "x"]):
        _, answer, _ = await edge.post(web_request(numbers=numbers))
        assert [entry["number_on_page"] for entry in answer["numbers"]] == ["tel:+49 (0)30 15981100"]
    status, answer, _ = await edge.post(web_request(numbers="+4930999"))
    assert (status, answer["numbers"]) == (200, [])


async def test_a_session_keeps_its_number_over_requests(edge: Edge) -> None:
    _, first, _ = await edge.post(web_request())
    _, again, _ = await edge.post(web_request(sessionId=first["sessionId"]))
    assert again == first
    for unknown in ("", "40846be9-88de-4120-bf8c-dfc2fd6c4c3", first["sessionId"][:-1] + "x", "}{*:\r\n"):
        _, other, _ = await edge.post(web_request(sessionId=unknown))
        assert other["sessionId"] not in (unknown, first["sessionId"])


async def test_a_campaign_at_the_end_of_a_long_url_is_found(store_url: str, desk: Desk) -> None:
    await desk.load(
        """
        accounts:
          x:
            secrets: [s]
            region: DE
            pools:
              ads: {replaces: all, numbers: [+493015981400], match: {utm_source: ads}}
              rest: {replaces: all, numbers: [+493015981410]}
        """
    )
    url = f"https://example.com/?click={'x' * 9000}&utm_source=ads"
    async with serving(store_url) as edge:
        for sent, number in ((url, "+493015981400"), (url + "x", "+493015981410")):
            _, answer, _ = await edge.post(web_request(advId="x", fullUrl=sent), "s")
            assert answer["numbers"][0]["replace_with"]["e164"] == number


async def test_an_app_is_answered_too(edge: Edge) -> None:
    request = web_request(type="app", fullUrl="", userAgent=None, requestIpAddress=None, sessionId=None)
    _, first, _ = await edge.post(request)
    _, again, _ = await edge.post(request | {"sessionId": first["sessionId"]})
    assert first["numbers"]
    assert again == first


async def test_crawlers_and_dry_runs_spend_no_number(edge: Edge, store_url: str) -> None:
    googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    for changes in ({"userAgent": googlebot}, {"dryRun": True}):
        status, answer, _ = await edge.post(web_request(**changes))
        assert (status, answer["success"], answer["numbers"]) == (200, True, [])
    _, app, _ = await edge.post(web_request(type="app", userAgent="okhttp/4.9.0"))
    assert app["numbers"][0]["replace_with"]["e164"] == "+493015981151"


# Signatures -----------------------------------------------------------------------------------------------------------


async def test_the_signature_by_header_by_query_or_by_both(edge: Edge) -> None:
    raw = orjson.dumps(web_request())
    good = signature.sign(raw, b"freespee")
    bad = "0" * 40
    for query, header, status in [
        ("", good, 200),
        ("", good.upper(), 200),
        (f"?sign={good}", None, 200),
        (f"?x=1&sign={good}", None, 200),
        (f"?sign={good}", good, 200),
        (f"?sign={bad}", good, 403),
        (f"?sign={good}", bad, 403),
        (f"?sign={good}&sign={bad}", None, 403),
        (f"?sign={good}&sign={good}", None, 403),
        ("?sign=", None, 403),
        ("?sign=%FF", None, 403),
        ("?SIGN=" + good, None, 403),
    ]:
        headers = {"X-SIGN": header} if header else {}
        seen, _, _ = await edge.post(raw, None, query=query, headers=headers)
        assert seen == status, (query, header)


async def test_the_raw_bytes_are_signed(edge: Edge) -> None:
    raw = json.dumps(web_request(), indent=2).encode()
    sign = signature.sign(raw, b"freespee")
    assert (await edge.post(raw, None, headers={"X-SIGN": sign}))[0] == 200
    assert (await edge.post(raw + b"\n", None, headers={"X-SIGN": sign}))[0] == 403
    curly = raw.decode().replace('"', "”").encode()
    assert (await edge.post(curly, None, headers={"X-SIGN": sign}))[1]["error"] == "Malformed JSON"


async def test_a_revoked_secret_stops_at_once_and_two_secrets_overlap(store_url: str) -> None:
    text = "accounts: {x: {secrets: [%s], region: DE, pools: {p: {replaces: all, numbers: [+493015981191]}}}}"
    async with serving(store_url) as edge, Store(store_url) as store:
        desk = Desk(store, Clock(), iter(()))
        for secrets, good, bad in [("a", "a", "b"), ("b, a", "b", "c"), ("b, a", "a", "c"), ("b", "b", "a")]:
            await desk.load(text % secrets)
            assert (await edge.post(web_request(advId="x"), bad))[1] == {"success": False, "error": "Invalid signature"}
            async with asyncio.timeout(1):  # between servers of a cluster the news of another secret takes a moment
                while (await edge.post(web_request(advId="x"), good))[0] != 200:
                    assert store.servers.spread
                    await asyncio.sleep(0.005)


async def test_a_flood_of_bad_signatures_costs_no_store_calls(store_url: str) -> None:
    async with serving(store_url, bad_signatures_per_minute=3) as edge:
        for i in range(3):
            assert (await edge.post(web_request(advId=f"x{i}"), ip="192.0.2.9"))[0] == 403
        with client_of(store_url) as client:
            on_primaries(client, "CONFIG RESETSTAT")
            for i in range(20):
                assert (await edge.post(web_request(advId=f"y{i}"), ip="192.0.2.9"))[0] == 403
            assert calls(client, "hmget") + calls(client, "exists") <= 2 * 3  # at most a look-up a second
        for _ in range(30):  # who signs well is served from the next look-up on
            status, answer, _ = await edge.post(web_request(), ip="192.0.2.9")
            if status == 200:
                break
            assert answer["error"] == "Invalid signature"
            await asyncio.sleep(0.1)
        assert status == 200
