"""Limits of POST /api: windows of addresses, points, and what holds them while the store is away."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.dynamic.memory import Windows
from edgeproxy.store import Store, keys
from tests.conftest import Clock, Desk, Edge, serving, web_request
from tests.dynamic.statuses import TINY, blocked, exhausted
from tests.servers import client_of, configured

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
