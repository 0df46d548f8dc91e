"""Who may use the partner API: Digest, its nonces and counts, guesses, HTTPS, networks, and what is told of users."""

import asyncio
import time
from collections import Counter
from typing import Any
from unittest.mock import ANY

import pytest
from pydantic import SecretStr

from edgeproxy.commands import demo_records as demo
from edgeproxy.partner import digest
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.store import Store, sealing
from edgeproxy.store.partner import Partner
from edgeproxy.store.sealing import Seal
from edgeproxy.store.users import Users
from tests.conftest import Desk, serving
from tests.partner.client import Api, authorization, bare, challenge
from tests.servers import client_of, on_primaries

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # what aiohttp's client says


# Access ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", digest.OFFERED)
async def test_login_with_either_algorithm(api: Api, algorithm: str) -> None:
    (offer,) = [line for line in await challenge(api) if f"algorithm={algorithm}" in line]
    status, text, _ = await bare(api, "miscellaneous/ping", authorization("GET", "/2.4.9/miscellaneous/ping", offer))
    assert (status, text) == (200, '{"ping":"ok"}')


async def test_nobody_learns_which_users_there_are(api: Api) -> None:
    uri = "/2.4.9/miscellaneous/ping"
    offer, _ = await challenge(api)
    answers = []
    for count, (user, password) in enumerate([("demo", "wrong"), ("nobody", "demo-password")], 1):
        header = authorization("GET", uri, offer, count=count, password=password, username=user)
        status, text, lines = await bare(api, "miscellaneous/ping", header)
        answers.append((status, text, [line.split("nonce=")[0] for line in lines], "stale" in lines[0]))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    assert not answers[0][3]


async def test_a_count_is_taken_once_over_all_workers(api: Api, store_url: str) -> None:
    offer, _ = await challenge(api)
    header = authorization("GET", "/2.4.9/miscellaneous/ping", offer)
    assert (await bare(api, "miscellaneous/ping", header))[0] == 200
    async with serving(store_url, allow_plain_http=True) as other:
        again = Api(other, other.client)
        for node in (api, again):
            status, _, lines = await bare(node, "miscellaneous/ping", header)
            assert status == 401
            assert all("stale=true" in line for line in lines)
        header = authorization("GET", "/2.4.9/miscellaneous/ping", offer, count=2)
        assert (await bare(again, "miscellaneous/ping", header))[0] == 200  # a nonce is good on every node
    header = authorization("GET", "/2.4.9/miscellaneous/ping", offer, count=digest.COUNT_MOST + 1)
    assert (await bare(api, "miscellaneous/ping", header))[0] == 401


async def test_an_old_nonce_is_stale_and_a_strange_one_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "/2.4.9/miscellaneous/ping"
    offer, _ = await challenge(api)
    strange = authorization("GET", uri, offer, nonce="x" * 40)
    assert "stale=true" in (await bare(api, "miscellaneous/ping", strange))[2][0]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + digest.NONCE_LIFE_S)
    status, _, lines = await bare(api, "miscellaneous/ping", authorization("GET", uri, offer))
    assert status == 401
    assert "stale=true" in lines[0]


async def test_an_answer_for_another_request_is_none(api: Api) -> None:
    offer, _ = await challenge(api)
    header = authorization("GET", "/2.4.9/customers", offer)
    assert (await bare(api, "miscellaneous/ping", header))[0] == 400
    header = authorization("DELETE", "/2.4.9/miscellaneous/ping", offer)
    assert (await bare(api, "miscellaneous/ping", header))[0] == 401


async def test_failed_logins_shut_an_address_out_and_no_other(api: Api) -> None:
    uri = "/2.4.9/miscellaneous/ping"
    offer, _ = await challenge(api)
    mine, other = {"X_Forwarded_For": "127.0.1.7"}, {"X_Forwarded_For": "127.0.0.9"}
    for count in range(20):
        header = authorization("GET", uri, offer, count=count + 1, password="wrong")
        assert (await bare(api, "miscellaneous/ping", header, **mine))[0] == 401
    header = authorization("GET", uri, offer, count=21)
    async with api.edge.client.get(
        api.url("miscellaneous/ping"), headers={"Authorization": header, "X-Forwarded-For": "127.0.1.7"}
    ) as response:
        assert (response.status, response.headers["Retry-After"]) == (403, "60")
    assert (await bare(api, "miscellaneous/ping", header, **other))[0] == 200


async def test_guesses_at_once_are_counted_one_by_one(api: Api) -> None:
    uri = "/2.4.9/miscellaneous/ping"
    offer, _ = await challenge(api)
    headers = [authorization("GET", uri, offer, count=count + 1, password="wrong") for count in range(100)]
    answers = await asyncio.gather(
        *(bare(api, "miscellaneous/ping", header, X_Forwarded_For="127.0.1.8") for header in headers)
    )
    assert sorted(status for status, _, _ in answers) == [401] * 20 + [403] * 80


async def test_many_requests_at_once_of_one_client_are_no_guesses(api: Api) -> None:
    offer, _ = await challenge(api)
    headers = [authorization("GET", "/2.4.9/miscellaneous/ping", offer, count=count + 1) for count in range(60)]
    answers = await asyncio.gather(*(bare(api, "miscellaneous/ping", header) for header in headers))
    assert {status for status, _, _ in answers} == {200}


async def test_a_user_shut_out_while_a_body_is_held_back_is_refused(api: Api, desk: Desk) -> None:
    offer, _ = await challenge(api)
    header = authorization("POST", "/2.4.9/customers", offer)
    host, port = api.edge.manage.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b"name=late&custnr=1"
    head = (
        f"POST /2.4.9/customers HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode())
    await asyncio.sleep(1.2)
    await Users(desk.store).remove(demo.USER)
    writer.write(body)
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()
    account = await desk.account("demo")
    assert (await Partner(desk.store, None).find(account, "customers", {})).total == 2


async def test_the_right_password_from_a_network_that_is_not_listed(api: Api) -> None:
    offer, _ = await challenge(api)
    header = authorization("GET", "/2.4.9/miscellaneous/ping", offer)
    status, text, _ = await bare(
        api, "miscellaneous/ping", header, X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https"
    )
    assert (status, text) == (401, "401: Unauthorized\n")


async def test_https_only_unless_a_trusted_proxy_or_this_machine_says_otherwise(store_url: str) -> None:
    async with serving(store_url) as edge:

        async def status(**headers: str) -> int:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            async with edge.client.get(f"{edge.manage}/2.4.9/miscellaneous/ping", headers=sent) as response:
                return response.status

        assert await status() == 403
        assert await status(X_Forwarded_Proto="http") == 403
        assert await status(X_Forwarded_Proto="https") == 401
        assert await status(X_Forwarded_Proto="https, http") == 403  # the last is the peer's own word
        assert await status(Forwarded="for=1.2.3.4;proto=https") == 403  # not the header that the proxies here write
    async with (
        serving(store_url, trusted_proxies=[]) as edge,
        edge.client.get(f"{edge.manage}/2.4.9/miscellaneous/ping", headers={"X-Forwarded-Proto": "https"}) as response,
    ):
        assert response.status == 403
    async with serving(store_url, client_ip_header="forwarded") as edge:
        for header, expected in (
            ("for=1.2.3.4;proto=https", 401),
            ('for="[::1]" ; Proto="HTTPS"', 401),
            ("for=1.2.3.4", 403),
        ):
            async with edge.client.get(
                f"{edge.manage}/2.4.9/miscellaneous/ping", headers={"Forwarded": header}
            ) as response:
                assert response.status == expected


async def test_a_nonce_key_that_was_lost_is_made_again(api: Api, store_url: str) -> None:
    await api.good("GET", "miscellaneous/ping")
    with client_of(store_url) as client:
        client.delete("ep1:nonce-key")
    await api.good("GET", "miscellaneous/ping")


# Resources ------------------------------------------------------------------------------------------------------------


async def test_every_operation_needs_a_login(api: Api) -> None:
    for operation in OPERATIONS:
        for path in operation.paths:
            async with api.edge.client.request(
                operation.method, api.url(path.replace("{", "").replace("}", ""))
            ) as response:
                assert response.status == 401


async def test_a_user_is_shut_out_at_once(api: Api, desk: Desk) -> None:
    await api.good("GET", "miscellaneous/ping")
    await Users(desk.store).remove(demo.USER)
    async with api.client.get(api.url("miscellaneous/ping")) as response:
        assert response.status == 401


async def test_nothing_secret_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    await api.good("GET", "miscellaneous/ping")
    offer, _ = await challenge(api)
    await bare(api, "miscellaneous/ping", authorization("GET", "/2.4.9/miscellaneous/ping", offer, password="hunter2"))
    for secret in (
        demo.PASSWORD,
        "hunter2",
        *(digest.ha1(a, demo.USER, digest.REALM, demo.PASSWORD) for a in digest.OFFERED),
    ):
        assert secret not in caplog.text


async def test_a_wrong_name_waits_for_what_a_wrong_password_waits_for(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_sealed = sealing._opened

    def counted(fernet: Any, kept: dict[str, str], place: str) -> str:
        opened.append(place.partition(" of ")[0])
        return open_sealed(fernet, kept, place)

    monkeypatch.setattr(sealing, "_opened", counted)
    key = SecretStr(sealing.new_key())
    async with serving(store_url, allow_plain_http=True, store_keys=[key]) as edge:
        async with Store(store_url, seal=Seal([key])) as store:
            await demo.fill(store)
        api = Api(edge, edge.client)

        async def tried(user: str) -> tuple[int, dict[str, int], list[str]]:
            """The status of a login with a wrong password, the store's commands for it, and what was unsealed."""
            offer = (await challenge(api))[0]
            header = authorization("GET", "/2.4.9/customers", offer, password="wrong", username=user)
            with client_of(store_url) as client:
                opened.clear()
                on_primaries(client, "CONFIG", "RESETSTAT")
                status, _, _ = await bare(api, "customers", header)
                stats = Counter[str]()
                for info in on_primaries(client, "INFO", "commandstats"):
                    stats.update({name: stat["calls"] for name, stat in info.items()})
            return (
                status,
                {name: stats[f"cmdstat_{name}"] for name in ("hget", "hmget", "get", "incr", "exec")},
                opened[:],
            )

        for user in (demo.USER, "nobody"):
            await tried(user)  # what is made once is made
        wrong_password, wrong_name = await tried(demo.USER), await tried("nobody")
        assert wrong_password == wrong_name == (401, {"hget": 1, "hmget": 0, "get": 1, "incr": 1, "exec": 1}, ANY)
        assert wrong_name[2] == [f"the {algorithm} password hash" for algorithm in digest.OFFERED]
