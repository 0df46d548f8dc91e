"""The static numbers API over HTTP: access, statuses, the shared limits, and numbers that go in and out of use."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from edgeproxy.store.embedded import EmbeddedStore
from tests.conftest import NOON, Clock, Desk, Edge, serving, web_request
from tests.servers import configured

PATH = "/phone-service/v1/api/calltracking/ad-platform/phone/"
LOGIN = {"Access-Token": "demo-token", "SiteId": "1001"}
FREE, OTHER = "79990000006", "79990000007"
DISPLAY = {"source": "yandex", "medium": None, "campaign": None, "content": None, "keyword": None}
REDIRECT = {"redirectType": "PSTN", "ptsnOptions": {"redirectNumber": "74951234567"}}
RESERVE = {"reserveNumber": "74957654321", "reserveTimeOut": 30, "ignoreEarlyMedia": True}
NOTHING = {"displayOptions": None, "redirectOptions": None, "poolName": None}


@dataclass
class Api:
    """The demo's static numbers API."""

    edge: Edge
    clock: Clock

    async def post(
        self, method: str, body: Any, *, ip: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        """Status, decoded answer (None if it is empty) and headers; without `ip`, from a fresh client IP."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {"X-Forwarded-For": ip or self.edge.fresh_ip()} | (LOGIN if headers is None else headers)
        async with self.edge.client.post(self.edge.manage + PATH + method, data=raw, headers=sent) as response:
            content = await response.read()
            return response.status, orjson.loads(content) if content else None, response.headers

    async def status(self, method: str, body: Any, **more: Any) -> int:
        return (await self.post(method, body, **more))[0]

    async def show(self, number: str) -> dict[str, Any]:
        status, (shown,), _ = await self.post("list", {"phoneNumbers": [number]})
        assert status == 200
        assert shown.pop("phoneNumber") == number
        return dict(shown)


@pytest.fixture
async def api(store_url: str, clock: Clock) -> AsyncIterator[Api]:
    async with serving(store_url, clock=clock) as edge:
        with configured(store_url, appendfsync="always"):
            yield Api(edge, clock)


# Numbers in and out of use --------------------------------------------------------------------------------------------


async def test_a_number_s_life(api: Api) -> None:
    assert await api.show(FREE) == NOTHING
    create = {"phoneNumber": FREE, "displayOptions": {"source": "yandex"}}
    status, answer, headers = await api.post("create", create)
    assert (status, answer, headers["Content-Length"]) == (200, None, "0")
    assert await api.show(FREE) == NOTHING | {"displayOptions": DISPLAY}
    assert await api.status("create", create) == 409
    assert await api.status("update", {"phoneNumber": FREE, "poolName": "Офис"}) == 200
    assert await api.show(FREE) == NOTHING | {"displayOptions": DISPLAY, "poolName": "Офис"}
    redirect = REDIRECT | {"reserveRedirect": {"reserveNumber": "74957654321", "reserveTimeOut": "30"}}
    assert await api.status("update", {"phoneNumber": FREE, "redirectOptions": redirect}) == 200
    expected = {
        "displayOptions": DISPLAY,
        "redirectOptions": REDIRECT | {"reserveRedirect": RESERVE},
        "poolName": "Офис",
    }
    assert await api.show(FREE) == expected
    assert await api.status("delete", {"phoneNumber": FREE}) == 200
    assert await api.show(FREE) == NOTHING
    assert await api.status("delete", {"phoneNumber": FREE}) == 409
    assert await api.status("update", create) == 409
    assert await api.status("create", create) == 200
    assert (await api.show(FREE))["poolName"] is None


async def test_a_number_in_use_without_display_options_shows_them_without_values(api: Api) -> None:
    assert await api.status("create", {"phoneNumber": FREE, "poolName": "p"}) == 200
    assert await api.show(FREE) == NOTHING | {"displayOptions": dict.fromkeys(DISPLAY), "poolName": "p"}


async def test_numbers_that_are_none_of_the_site_s(api: Api) -> None:
    body = {"phoneNumber": "79991112233", "poolName": "x"}
    for method in ("update", "create"):
        assert await api.status(method, body) == 404
    assert await api.status("delete", {"phoneNumber": "79991112233"}) == 404
    status, answer, _ = await api.post("list", {"phoneNumbers": [FREE, "79991112233"]})
    assert status == 404
    assert "79991112233" in answer["data"]["apiErrorData"]["errorMessage"]
    pooled = {"phoneNumber": "493015981151", "poolName": "x"}  # leased to visitors, not a static number
    assert [await api.status(method, pooled) for method in ("create", "update")] == [409, 409]


async def test_a_list_is_in_the_order_asked(api: Api) -> None:
    await api.status("create", {"phoneNumber": OTHER, "poolName": "p"})
    status, answer, _ = await api.post("list", {"phoneNumbers": [OTHER, FREE, OTHER]})
    assert status == 200
    assert [(shown["phoneNumber"], shown["poolName"]) for shown in answer] == [(OTHER, "p"), (FREE, None), (OTHER, "p")]


async def test_concurrent_updates_of_different_parts_lose_neither(api: Api) -> None:
    await api.status("create", {"phoneNumber": FREE, "poolName": "first"})
    parts: list[dict[str, Any]] = [
        {"displayOptions": {"source": "s"}},
        {"redirectOptions": REDIRECT},
        {"poolName": "last"},
    ]
    statuses = await asyncio.gather(*(api.status("update", {"phoneNumber": FREE, **part}) for part in parts))
    assert statuses == [200] * 3
    shown = await api.show(FREE)
    assert shown["displayOptions"]["source"] == "s"
    assert shown["redirectOptions"]["ptsnOptions"]["redirectNumber"] == "74951234567"
    assert shown["poolName"] == "last"


async def test_of_many_that_put_one_number_to_use_one_does(api: Api) -> None:
    body = {"phoneNumber": FREE, "poolName": "p"}
    statuses = await asyncio.gather(*(api.status("create", body) for _ in range(20)))
    assert sorted(statuses) == [200] + [409] * 19


async def test_what_was_set_outlives_the_store(tmp_path: Any) -> None:
    body = {"phoneNumber": FREE, "redirectOptions": REDIRECT | {"reserveRedirect": RESERVE}}
    for turn in range(2):
        with EmbeddedStore(tmp_path) as embedded:
            async with serving(embedded.url) as edge:
                api = Api(edge, Clock())
                if turn == 0:
                    assert await api.status("create", body) == 200
                assert (await api.show(FREE))["redirectOptions"] == body["redirectOptions"]


# Access and errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "UNAUTHORIZED"),
        ({"SiteId": "1001"}, 401, "UNAUTHORIZED"),
        ({"Access-Token": "", "SiteId": "1001"}, 401, "UNAUTHORIZED"),
        ({"Access-Token": "wrong-token", "SiteId": "1001"}, 401, "UNAUTHORIZED"),
        ({"Access-Token": "demo-token"}, 403, "FORBIDDEN"),
        ({"Access-Token": "demo-token", "SiteId": "1002"}, 403, "FORBIDDEN"),
        ({"Access-Token": "demo-token", "SiteId": "1001"}, 400, "VALIDATION_ERROR"),
    ],
)
async def test_who_may_ask(api: Api, headers: dict[str, str], status: int, code: str) -> None:
    answered, answer, _ = await api.post("update", {}, headers=headers)
    assert answered == status
    assert answer["data"]["apiErrorData"]["errorCode"] == code


async def test_all_violations_at_once_each_with_its_field(api: Api) -> None:
    status, answer, _ = await api.post("update", {"phoneNumber": "1", "displayOptions": {}, "redirectOptions": {}})
    assert status == 400
    assert answer == {
        "data": {
            "apiErrorData": {"errorCode": "VALIDATION_ERROR", "errorMessage": "the request is not valid"},
            "validationErrorData": {
                "violations": [
                    {"field": "phoneNumber", "message": "must be a phone number like 7xxxxxxxxxx"},
                    {"field": "displayOptions.source", "message": "is required"},
                    {"field": "redirectOptions.redirectType", "message": "is required"},
                    {"field": "redirectOptions.ptsnOptions", "message": "is required"},
                ]
            },
        }
    }


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b" " * 65_537])
async def test_what_is_no_body(api: Api, raw: bytes) -> None:
    status, answer, _ = await api.post("update", raw)
    assert status == 400
    assert "validationErrorData" not in answer["data"]


async def test_other_methods(api: Api) -> None:
    async with api.edge.client.get(api.edge.manage + PATH + "update", headers=LOGIN) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert await api.status("remove", {}) == 404


async def test_a_flood_of_bad_tokens_is_shut_out_by_its_address(api: Api) -> None:
    bad = {"Access-Token": "wrong-token", "SiteId": "1001"}
    for _ in range(20):
        assert await api.status("list", {}, ip="192.0.2.9", headers=bad) == 401
    status, _, headers = await api.post("list", {}, ip="192.0.2.9")
    assert (status, headers["Retry-After"]) == (429, "60")
    assert await api.status("list", {"phoneNumbers": [FREE]}, ip="192.0.2.10") == 200


async def test_a_store_that_is_away_is_500(tmp_path: Any) -> None:
    embedded = EmbeddedStore(tmp_path)
    with embedded:
        async with serving(embedded.url) as edge:
            api = Api(edge, Clock())
            assert await api.status("list", {"phoneNumbers": [FREE]}) == 200
            embedded.__exit__(None, None, None)
            status, answer, _ = await api.post("list", {"phoneNumbers": [FREE]})
    assert status == 500
    assert answer["data"]["apiErrorData"]["errorCode"] == "INTERNAL_ERROR"


async def test_no_token_is_logged_or_kept(api: Api, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    await api.post("list", {"phoneNumbers": [FREE]})
    await api.post("list", {}, headers={"Access-Token": "wrong-token"})
    assert "demo-token" not in caplog.text
    assert "wrong-token" not in caplog.text
    assert "demo-token" not in str(await desk.redis.hgetall("ep1:tokens"))
    assert "demo-token" not in str(await desk.redis.hgetall("ep1:{demo}:account"))


# Limits and points ----------------------------------------------------------------------------------------------------


async def test_of_eleven_at_once_five_pass(api: Api) -> None:
    body = {"phoneNumbers": [FREE]}
    answers = await asyncio.gather(*(api.post("list", body, ip="198.51.100.1") for _ in range(11)))
    assert sorted(status for status, _, _ in answers) == [200] * 5 + [429] * 6
    refused = [(answer, headers) for status, answer, headers in answers if status == 429]
    assert {headers["Retry-After"] for _, headers in refused} == {"2"}
    assert refused[0][0]["data"]["apiErrorData"]["errorMessage"] == "more than 5 requests per second"


async def test_the_window_is_shared_with_post_api(api: Api) -> None:
    ip = "198.51.100.2"
    calls = [api.edge.post(web_request(), ip=ip) for _ in range(6)]
    calls += [api.post("list", {"phoneNumbers": [FREE]}, ip=ip) for _ in range(5)]
    answers = await asyncio.gather(*calls)
    assert sum(status == 200 for status, _, _ in answers) == 5
    api.clock.advance(1.001)
    assert await api.status("list", {"phoneNumbers": [FREE]}, ip=ip) == 200


async def test_a_bad_body_takes_no_place_in_the_window(api: Api) -> None:
    for _ in range(10):
        assert await api.status("update", {}, ip="198.51.100.3") == 400
    assert await api.status("list", {"phoneNumbers": [FREE]}, ip="198.51.100.3") == 200


COSTS = """
accounts:
  x:
    secrets: [s]
    region: RU
    timezone: Europe/Moscow
    points: {daily: 10, costs: {numbers: 2, create: 3, update: 2, list: 1, delete: 0}}
    numbers: [+79990009001, +79990009002]
    static: {site: "7", tokens: [x-token-x]}
    pools: {p: {replaces: all, numbers: [+74950009001]}}
"""


async def test_a_success_spends_its_method_s_points_and_a_failure_none(api: Api, desk: Desk) -> None:
    await desk.load(COSTS)
    login = {"Access-Token": "x-token-x", "SiteId": "7"}
    one, two = "79990009001", "79990009002"

    async def left(method: str, body: dict[str, Any], status: int = 200) -> str:
        answered, _, headers = await api.post(method, body, headers=login)
        assert answered == status
        return str(headers.get("RateLimit", ""))

    day_left = (86_400_000 - (NOON + 3 * 3_600_000) % 86_400_000) // 1000
    assert await left("create", {"phoneNumber": one, "poolName": "p"}) == f'"ip";r=4;t=1, "points";r=7;t={day_left}'
    for method, number, status in (("create", one, 409), ("update", two, 409), ("update", "79990009009", 404)):
        told = await left(method, {"phoneNumber": number, "poolName": "p"}, status)
        assert told == f'"ip";r=4;t=1, "points";r=7;t={day_left}'
    assert "r=5" in await left("update", {"phoneNumber": one, "poolName": "q"})
    answered, _, headers = await api.edge.post(
        web_request(advId="x", numbers="84950009000"), "s", ip=api.edge.fresh_ip()
    )
    assert answered == 200
    assert '"points";r=3;' in headers["RateLimit"]  # one budget, whichever API spends it
    assert '"points";r=0;' in await left("create", {"phoneNumber": two, "poolName": "p"})
    answered, answer, headers = await api.post("list", {"phoneNumbers": [one]}, headers=login)
    assert (answered, headers["Retry-After"]) == (429, str(day_left))
    assert '"points";r=0;' in headers["RateLimit"]
    assert answer["data"]["apiErrorData"]["errorMessage"] == "the daily point budget is exhausted"
    assert await left("delete", {"phoneNumber": two}) != ""  # it costs nothing
    api.clock.advance(day_left)
    assert '"points";r=9;' in await left("list", {"phoneNumbers": [one]})


async def test_a_refusal_by_the_limiter_tells_what_is_left(api: Api) -> None:
    body, ip = {"phoneNumbers": ["79990000001"]}, {"X-Forwarded-For": "192.0.2.77"}
    answers = [await api.post("list", body, headers=LOGIN | ip) for _ in range(6)]
    assert [status for status, _, _ in answers] == [200] * 5 + [429]
    assert answers[-1][2]["RateLimit"] == '"ip";r=0;t=1'
    assert answers[-1][2]["RateLimit-Policy"].startswith('"ip";q=5;w=1')


async def test_the_budget_is_never_exceeded(api: Api, desk: Desk) -> None:
    await desk.load(COSTS)
    login = {"Access-Token": "x-token-x", "SiteId": "7"}
    statuses = await asyncio.gather(
        *(api.status("list", {"phoneNumbers": ["79990009001"]}, headers=login) for _ in range(30))
    )
    assert sorted(statuses) == [200] * 10 + [429] * 20


async def test_a_static_number_is_no_source_s_and_no_pool_s(api: Api, desk: Desk) -> None:
    await api.status("create", {"phoneNumber": FREE, "poolName": "p"})
    assert await desk.redis.hget("ep1:{demo}:numbers", "+" + FREE) == "static"
    assert "+" + FREE not in await desk.redis.zrange("ep1:{demo}:free", 0, -1)
    with pytest.raises(Exception, match=r"\+79990000006 is in use \(static\)"):
        await desk.load("accounts: {demo: {secrets: [s], region: DE}}")


async def test_tokens_rotate_and_belong_to_one_account(api: Api, desk: Desk) -> None:
    both = COSTS.replace("[x-token-x]", "[x-token-x, x-token-y]")
    await desk.load(both)
    body = {"phoneNumbers": ["79990009001"]}
    for token in ("x-token-x", "x-token-y"):
        assert await api.status("list", body, headers={"Access-Token": token, "SiteId": "7"}) == 200
    (change,) = await desk.load(COSTS.replace("[x-token-x]", "[x-token-y]"))
    assert change.lines == ("access tokens change",)
    assert await api.status("list", body, headers={"Access-Token": "x-token-x", "SiteId": "7"}) == 401
    with pytest.raises(Exception, match="an access token of x belongs to account demo"):
        await desk.load(COSTS.replace("[x-token-x]", "[demo-token]"))
