"""Access tokens: the account decides which are good; the index of tokens only says where to look."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from edgeproxy.store import Store, keys
from edgeproxy.store.access import token_hash
from tests.conftest import DEMO, Desk, Edge, serving
from tests.partner.client import authorization

TARGETS = [
    ("POST", "/phone-service/v1/api/calltracking/ad-platform/phone/list", b'{"phoneNumbers":["79990000006"]}'),
    ("GET", "/calls/lookup?number=%2B493015981151", None),
]
both = pytest.mark.parametrize("target", TARGETS, ids=["static", "calls"])


@pytest.fixture
async def edge(store_url: str) -> AsyncIterator[Edge]:
    async with serving(store_url, bad_logins_per_minute=3) as edge:
        yield edge


async def ask(edge: Edge, target: tuple[str, str, bytes | None], *tokens: str, ip: str = "") -> int:
    method, path, body = target
    headers = [("Access-Token", token) for token in tokens]
    headers += [("SiteId", "1001"), ("X-Forwarded-For", ip or edge.fresh_ip())]
    async with edge.client.request(method, edge.manage + path, data=body, headers=headers) as response:
        await response.read()
        return response.status


async def edit(store: Store, account: str, **changes: object) -> None:
    """Change an account's configuration in the store, and nothing else."""
    key = keys.account(account)
    config = orjson.loads(await store.client(key).hget(key, "config") or b"")
    await store.client(key).hset(key, "config", orjson.dumps(config | changes).decode())


@both
async def test_a_token_taken_out_of_its_account_is_void_whatever_the_index_says(
    edge: Edge, store_url: str, target: tuple[str, str, bytes | None]
) -> None:
    assert await ask(edge, target, "demo-token") == 200
    async with Store(store_url) as store:
        await edit(store, "demo", token_hashes=[token_hash("another-token")])
        assert await store.client(keys.TOKENS).hget(keys.TOKENS, token_hash("demo-token")) == "demo"
        assert await ask(edge, target, "demo-token") == 401
        await edit(store, "demo", token_hashes=[token_hash("another-token"), token_hash("demo-token")])
    assert await ask(edge, target, "demo-token") == 200


@both
async def test_an_index_that_leads_elsewhere_gives_nothing(
    edge: Edge, store_url: str, target: tuple[str, str, bytes | None]
) -> None:
    async with Store(store_url) as store:
        await edit(store, "tiny", site="1001")
        for token in ("demo-token", "a-new-token"):
            await store.client(keys.TOKENS).hset(keys.TOKENS, token_hash(token), "tiny")
            assert await ask(edge, target, token) == 401


@both
async def test_a_token_is_changed_by_a_load(edge: Edge, desk: Desk, target: tuple[str, str, bytes | None]) -> None:
    await desk.load(DEMO.read_text().replace("[demo-token]", "[demo-token, fresh-token]"))
    assert [await ask(edge, target, token) for token in ("demo-token", "fresh-token")] == [200, 200]
    await desk.load(DEMO.read_text().replace("[demo-token]", "[fresh-token]"))
    assert [await ask(edge, target, token) for token in ("demo-token", "fresh-token")] == [401, 200]


@both
async def test_several_tokens_are_none_and_bad_ones_shut_an_ip_out(
    edge: Edge, target: tuple[str, str, bytes | None]
) -> None:
    assert [await ask(edge, target, *tokens) for tokens in ((), ("",), ("demo-token", "demo-token"))] == [401] * 3
    ip = "192.0.2.9"
    for _ in range(4):
        assert await ask(edge, target, ip=ip) == 401  # none was guessed
    assert [await ask(edge, target, "wrong-token", ip=ip) for _ in range(4)] == [401, 401, 401, 429]
    assert await ask(edge, target, "demo-token", ip=ip) == 429
    assert await ask(edge, target, "demo-token") == 200


@both
async def test_guesses_at_once_are_counted_one_by_one(edge: Edge, target: tuple[str, str, bytes | None]) -> None:
    ip = "192.0.2.9"
    answers = await asyncio.gather(*(ask(edge, target, f"guess-{i}", ip=ip) for i in range(30)))
    assert sorted(answers) == [401] * 3 + [429] * 27
    good = await asyncio.gather(*(ask(edge, target, "demo-token") for _ in range(30)))
    assert good == [200] * 30


async def test_bad_tokens_and_logins_of_an_address_count_together_over_workers_and_apis(
    edge: Edge, store_url: str
) -> None:
    ip = "127.0.7.7"
    async with serving(store_url, bad_logins_per_minute=3, allow_plain_http=True) as other:

        async def login(gateway: Edge) -> int:
            url = f"{gateway.manage}/2.4.9/customers"
            async with gateway.client.get(url) as response:
                offer = response.headers["WWW-Authenticate"]
            head = {"Authorization": authorization("GET", "/2.4.9/customers", offer, password="wrong")}
            async with gateway.client.get(url, headers=head | {"X-Forwarded-For": ip}) as response:
                return response.status

        assert await ask(edge, TARGETS[0], "guess", ip=ip) == 401
        assert await ask(other, TARGETS[1], "guess", ip=ip) == 401
        assert await login(other) == 401
        assert [await ask(gateway, target, "demo-token", ip=ip) for gateway in (edge, other) for target in TARGETS] == [
            429
        ] * 4
        assert await login(other) == 403
        assert await ask(other, TARGETS[0], "demo-token", ip="127.0.7.8") == 200
