"""POST /api over HTTP: every status, signatures, headers, sessions (`edgeproxy/dynamic/README.md`)."""

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.dynamic import signature
from edgeproxy.dynamic.handler import Windows
from edgeproxy.store import Store, keys
from tests.conftest import Clock, Desk, Edge, serving, web_request
from tests.dynamic.test_wire import FIELDS, MALFORMED
from tests.servers import calls, client_of, configured, on_primaries

TINY = {"advId": "tiny", "numbers": "+442079460000"}


async def blocked(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    for _ in range(5):
        await edge.post(web_request(), ip="192.0.2.5")
    return await edge.post(web_request(), ip="192.0.2.5", **options)


async def exhausted(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    for _ in range(20):
        assert (await edge.post(web_request(**TINY), "tiny-key"))[0] == 200
    return await edge.post(web_request(**TINY), "tiny-key", **options)


async def storeless(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    await edge.post(web_request())
    with configured(edge.gateway._store._url, maxmemory="1"):
        return await edge.post(web_request(), **options)


async def faulty(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    handler = edge.gateway._handler
    handler._memory = None  # type: ignore[assignment]
    return await edge.post(web_request(), **options)


async def poolless(edge: Edge, **options: Any) -> tuple[int, Any, Any]:
    async with Store(edge.gateway._store._url) as store:
        await Desk(store, Clock(), iter(())).load("accounts: {bare: {secrets: [bare-key], region: DE}}")
    return await edge.post(web_request(advId="bare"), "bare-key", **options)


STATUS_TABLE = [
    (200, None, lambda edge, **options: edge.post(web_request(), **options)),
    (400, "Malformed JSON", lambda edge, **options: edge.post(b"{", **options)),
    (400, "Body too large", lambda edge, **options: edge.post(b"x" * 16385, **options)),
    (400, "Missing parameter: advId", lambda edge, **options: edge.post(b"{}", **options)),
    (
        400,
        "Invalid parameter: type: must be web or app",
        lambda edge, **options: edge.post(web_request(type="tel"), **options),
    ),
    (403, "Missing signature", lambda edge, **options: edge.post(web_request(), None, **options)),
    (403, "Invalid signature", lambda edge, **options: edge.post(web_request(), "wrong", **options)),
    (403, "Invalid signature", lambda edge, **options: edge.post(web_request(advId="nobody"), **options)),
    (403, "Blocked IP: more than 5 requests per second", blocked),
    (403, "Daily point budget exhausted", exhausted),
    (500, "Store unavailable", storeless),
    (500, "Internal error", faulty),
    (501, "No number pool is configured", poolless),
]


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


# Limits ---------------------------------------------------------------------------------------------------------------


async def test_of_eleven_at_once_five_pass(edge: Edge) -> None:
    for round_ in range(10):
        answers = await asyncio.gather(*(edge.post(web_request(), ip=f"198.51.100.{round_}") for _ in range(11)))
        assert sorted(status for status, _, _ in answers) == [200] * 5 + [403] * 6


async def test_ratelimit_headers(edge: Edge) -> None:
    _, _, headers = await edge.post(web_request(), ip="192.0.2.5")
    assert headers["RateLimit-Policy"] == '"ip";q=5;w=1, "points";q=1000000;w=86400'
    ip, points = headers["RateLimit"].split(", ")
    assert ip == '"ip";r=4;t=1'
    assert points.startswith('"points";r=999999;t=')
    assert 0 < int(points.rpartition("=")[2]) <= 86_400
    assert "Retry-After" not in headers
    _, _, headers = await blocked(edge)
    assert headers["RateLimit"].startswith('"ip";r=0;t=1')
    spread = edge.gateway._store.servers.spread  # then the account is not asked about its points
    assert ('"points"' in headers["RateLimit"]) == (not spread)
    assert headers["Retry-After"] == "1"
    _, _, headers = await exhausted(edge)
    assert '"points";r=0;t=' in headers["RateLimit"]
    assert headers["Retry-After"] == headers["RateLimit"].rpartition("=")[2]
    _, _, headers = await edge.post(web_request(), "wrong")
    assert "RateLimit" not in headers


async def test_a_forged_client_ip_is_not_believed(store_url: str) -> None:
    async with serving(store_url, trusted_proxies=[]) as edge:
        answers = [await edge.post(web_request(), ip=f"198.51.100.{i}") for i in range(6)]
        assert [status for status, _, _ in answers] == [200] * 5 + [403]
    async with serving(store_url) as edge:
        spoofed = [await edge.post(web_request(), ip=f"10.9.9.{i}, 198.51.100.1") for i in range(6)]
        assert [status for status, _, _ in spoofed] == [200] * 5 + [403]


async def test_ipv6_counts_by_64_bits(edge: Edge) -> None:
    answers = [await edge.post(web_request(), ip=f"2001:db8:1:2::{i}") for i in range(6)]
    assert [status for status, _, _ in answers] == [200] * 5 + [403]
    assert (await edge.post(web_request(), ip="2001:db8:1:3::1"))[0] == 200


async def test_an_account_may_be_limited_by_the_signed_ip(store_url: str) -> None:
    text = (
        "accounts: {x: {secrets: [s], region: DE, limit: {by: signed, per_second: 2},"
        " pools: {p: {replaces: all, numbers: [+493015981191]}}}}"
    )
    async with serving(store_url) as edge, Store(store_url) as store:
        await Desk(store, Clock(), iter(())).load(text)
        for ip, status in [("203.0.113.1", 200), ("203.0.113.1", 200), ("203.0.113.1", 403), ("203.0.113.2", 200)]:
            request = web_request(advId="x", requestIpAddress=ip)
            assert (await edge.post(request, "s", ip="192.0.2.5"))[0] == status
        _, answer, _ = await edge.post(web_request(advId="x", requestIpAddress="somewhere"), "s")
        assert answer["error"].startswith("Invalid parameter: requestIpAddress: ")
        _, answer, _ = await blocked_of(edge, "s")
        assert answer["error"] == "Blocked IP: more than 2 requests per second"


SIGNED = """
accounts:
  x: {secrets: [s], region: DE, limit: {by: signed}, pools: {p: {replaces: all, numbers: [+493015981191]}}}
  y: {secrets: [s], region: DE, limit: {by: signed}, pools: {p: {replaces: all, numbers: [+493015981192]}}}
"""


async def test_what_an_account_signs_takes_no_place_in_other_accounts_windows(store_url: str) -> None:
    async with serving(store_url) as edge, Store(store_url) as store:
        await Desk(store, Clock(), iter(())).load(SIGNED)
        victim = "203.0.113.9"

        async def ask(account: str, times: int) -> list[int]:
            request = web_request(advId=account, requestIpAddress=victim)
            key, ip = ("freespee", victim) if account == "demo" else ("s", "192.0.2.5")
            return [(await edge.post(request, key, ip=ip))[0] for _ in range(times)]

        assert await ask("x", 6) == [200] * 5 + [403]
        assert await ask("y", 6) == [200] * 5 + [403]  # as another account, also by signed addresses
        assert await ask("demo", 6) == [200] * 5 + [403]  # as an account by clients


async def test_windows_of_signed_addresses_stay_their_account_s_while_the_store_is_away(
    edge: Edge, store_url: str
) -> None:
    async with Store(store_url) as store:
        await Desk(store, Clock(), iter(())).load(SIGNED)
    request = web_request(advId="x", requestIpAddress="203.0.113.9")
    other = web_request(requestIpAddress="203.0.113.9")
    sessions = [
        (await edge.post(sent, key, ip="203.0.113.9"))[1]["sessionId"]
        for sent, key in ((request, "s"), (other, "freespee"))
    ]
    with configured(store_url, maxmemory="1"):
        for sent, key, session in ((request, "s", sessions[0]), (other, "freespee", sessions[1])):
            answers = [await edge.post(sent | {"sessionId": session}, key, ip="203.0.113.9") for _ in range(6)]
            assert [status for status, _, _ in answers] == [200] * 5 + [403]


async def blocked_of(edge: Edge, key: str) -> tuple[int, Any, Any]:
    for _ in range(2):
        await edge.post(web_request(advId="x", requestIpAddress="203.0.113.77"), key)
    return await edge.post(web_request(advId="x", requestIpAddress="203.0.113.77"), key)


# Sessions while the store is away, over the clock ---------------------------------------------------------------------


async def test_a_session_answered_lately_keeps_its_number_while_the_store_is_away(edge: Edge, store_url: str) -> None:
    _, first, _ = await edge.post(web_request())
    with configured(store_url, maxmemory="1"):
        status, again, headers = await edge.post(web_request(sessionId=first["sessionId"]))
        assert (status, again) == (200, first)
        assert "RateLimit" not in headers
        other = await edge.post(web_request(sessionId=first["sessionId"], numbers="+4930999"))
        assert other[1]["error"] == "Store unavailable"
    assert edge.board.total("from_memory") == 1


async def test_a_limiter_goes_on_while_the_store_is_away(edge: Edge, store_url: str) -> None:
    _, first, _ = await edge.post(web_request())
    request = web_request(sessionId=first["sessionId"])
    with configured(store_url, maxmemory="1"):
        for ip in ("192.0.2.20", "192.0.2.21"):
            answers = await asyncio.gather(*(edge.post(request, ip=ip) for _ in range(11)))
            assert sorted(status for status, _, _ in answers) == [200] * 5 + [403] * 6
            refused = next(answer for answer in answers if answer[0] == 403)
            assert refused[1]["error"] == "Blocked IP: more than 5 requests per second"
            assert refused[2]["Retry-After"] == "1"


@given(steps=st.lists(st.tuples(st.floats(0, 0.7), st.sampled_from("xy")), max_size=60))
def test_that_limiter_agrees_with_a_plain_log_of_moments(steps: list[tuple[float, str]]) -> None:
    windows, now = Windows(), 0.0
    log: list[tuple[float, str]] = []
    for pause, ip in steps:
        now += pause
        expected = sum(who == ip and now - when <= 1 for when, who in log) < 5
        assert windows.take(ip, 5, now) == expected
        if expected:
            log.append((now, ip))


async def test_memory_ends_with_the_lease(edge: Edge, store_url: str) -> None:
    _, first, _ = await edge.post(web_request(**TINY), "tiny-key")
    with configured(store_url, maxmemory="1"):
        request = web_request(**TINY, sessionId=first["sessionId"])
        assert (await edge.post(request, "tiny-key"))[1] == first
        await asyncio.sleep(2.05)  # tiny's idle time
        assert (await edge.post(request, "tiny-key"))[1]["error"] == "Store unavailable"


async def test_a_number_comes_back_after_idle_time_and_cooldown(store_url: str) -> None:
    clock = Clock()
    async with serving(store_url, clock=clock) as edge:
        shown = [(await edge.post(web_request(**TINY), "tiny-key"))[1] for _ in range(4)]
        numbers = [entry["replace_with"]["e164"][-1] for answer in shown for entry in answer["numbers"]]
        assert numbers == ["1", "2", "3"]
        clock.advance(2.9)
        assert (await edge.post(web_request(**TINY), "tiny-key"))[1]["numbers"] == []
        clock.advance(0.1)
        _, answer, _ = await edge.post(web_request(**TINY), "tiny-key")
        assert answer["numbers"][0]["replace_with"] == {"e164": "+442079460001", "local": "+44 20 7946 0001"}


async def test_of_many_at_once_points_and_numbers_are_exact(edge: Edge, store_url: str) -> None:
    answers = await asyncio.gather(*(edge.post(web_request(**TINY), "tiny-key") for _ in range(200)))
    assert sorted(status for status, _, _ in answers) == [200] * 20 + [403] * 180
    with client_of(store_url) as client:
        assert client.hget(keys.points("tiny"), "spent") == "20"
    answers = await asyncio.gather(*(edge.post(web_request()) for _ in range(100)))
    numbers = [answer["numbers"][0]["replace_with"]["e164"] for _, answer, _ in answers if answer["numbers"]]
    assert len(numbers) == len(set(numbers)) == 40
    assert sum(not answer["numbers"] for _, answer, _ in answers) == 60


# HTTP -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api", 405),
        ("PUT", "/api", 405),
        ("OPTIONS", "/api?sign=x", 405),
        ("POST", "/", 404),
        ("POST", "/api/", 404),
        ("POST", "/API", 404),
        ("POST", "//api", 200),
        ("GET", "/metrics", 404),  # of the manage port
        ("POST", "/healthz", 405),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
    ],
)
async def test_paths_and_methods_of_the_edge_port(edge: Edge, method: str, path: str, status: int) -> None:
    async with edge.client.request(method, edge.url + path) as response:
        assert response.status == status
        assert (response.headers.get("Allow") is not None) == (status == 405)


async def raw(edge: Edge, request: bytes) -> bytes:
    host, port = edge.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(4096), 5)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_expect_100_continue(edge: Edge) -> None:
    body = orjson.dumps(web_request())
    head = b"POST /api HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await raw(edge, head)).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")


async def test_a_large_body_is_refused_before_it_has_arrived(edge: Edge) -> None:
    head = b"POST /api HTTP/1.1\r\nHost: x\r\nX-HTTP-STATUSES: 1\r\nContent-Length: 10000000\r\n\r\n{"
    answer = await raw(edge, head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Body too large" in answer


async def test_chunked_and_pipelined_requests(edge: Edge) -> None:
    body = orjson.dumps(web_request())
    sign = signature.sign(body, b"freespee").encode()
    chunked = (
        b"POST /api HTTP/1.1\r\nHost: x\r\nX-SIGN: %b\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (sign, len(body), body)
    )
    plain = b"POST /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-SIGN: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        sign,
        len(body),
        body,
    )
    host, port = edge.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(chunked + plain)
    answers = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answers.count(b'"success":true') == 2


@pytest.mark.parametrize(
    ("coding", "code"), [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_compressed_body_is_signed_as_it_is_sent(
    edge: Edge, coding: str, code: Callable[[bytes], bytes]
) -> None:
    body, headers = orjson.dumps(web_request()), {"Content-Encoding": coding}
    status, answer, _ = await edge.post(code(body), headers=headers)
    assert (status, answer["success"]) == (200, True)
    before = {"X-SIGN": signature.sign(body, b"freespee")}
    assert (await edge.post(code(body), headers=headers | before))[1]["error"] == "Invalid signature"


async def test_a_compressed_body_has_the_limit_of_any_other(edge: Edge) -> None:
    headers = {"Content-Encoding": "gzip"}
    for sent, error in (
        (gzip.compress(b" " * 16_385), "Body too large"),
        (gzip.compress(bytes(10_000_000)), "Body too large"),
        (gzip.compress(b"{}")[:-1], "Malformed JSON"),
        (gzip.compress(b"{}") + b"x", "Malformed JSON"),
        (b"{}", "Malformed JSON"),
        (b"", "Malformed JSON"),
    ):
        assert (await edge.post(sent, headers=headers))[:2] == (400, {"success": False, "error": error})


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "x"])
async def test_another_coding_is_415_and_told_which_are_taken(edge: Edge, coding: str) -> None:
    for statuses in (True, False):
        status, answer, headers = await edge.post(
            web_request(), statuses=statuses, headers={"Content-Encoding": coding}
        )
        assert (status, answer["success"], headers["Accept-Encoding"]) == (415, False, "gzip, deflate")
    assert edge.board.total("unread_bodies") == 2


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /api?sign=0123456789abcdef HTTP/1.1\r\nHost: x\r\nX-SIGN 0123456789abcdef\r\n\r\n",
        b"\x16\x03\x01 0123456789abcdef\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: x\r\nX-SIGN: 0123456789abcdef\r\nContent-Length: x\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: x\r\nX: " + b"0123456789abcdef" * 1000 + b"\r\n\r\n",
    ],
)
async def test_broken_http_is_refused_and_not_quoted_in_the_log(
    edge: Edge, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    assert (await raw(edge, request_)).startswith(b"HTTP/1.")
    assert "0123456789abcdef" not in caplog.text
    assert (await edge.post(web_request()))[0] == 200


async def test_a_client_that_reads_no_answers_is_not_written_to_without_end(edge: Edge) -> None:
    host, port = edge.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    flood = b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" * 1000
    sent = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(3):
            while True:
                writer.write(flood)
                await writer.drain()  # the gateway reads no more once its answers pile up
                sent += 1000
    async with asyncio.timeout(20):  # what had been read is answered, and then nothing more is
        seen = -1.0
        while seen != (seen := edge.board.total("outcome:malformed_json")):
            await asyncio.sleep(0.5)
    writer.transport.abort()


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(edge: Edge) -> None:
    host, port = edge.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    assert (await edge.post(web_request()))[0] == 200


async def test_an_answered_client_may_go_on_using_its_connection(edge: Edge) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as client:
        edge.client, outer = client, edge.client
        for body in (b"{", b"x" * 16_384, orjson.dumps(web_request())):
            assert (await edge.post(body))[0] in (200, 400)
        edge.client = outer
