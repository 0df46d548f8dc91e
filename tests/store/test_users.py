"""Users of the partner API in the store, and the nonces of their logins."""

import asyncio

import pytest

from edgeproxy.errors import Fault
from edgeproxy.store import Store, keys
from edgeproxy.store.users import User, Users
from tests.conftest import Desk


async def test_a_nonce_s_count_is_taken_once(desk: Desk) -> None:
    taken = await asyncio.gather(*(Users(desk.store).take_nonce("n", 5, 1000) for _ in range(20)))
    assert sorted(taken) == [False] * 19 + [True]
    assert await Users(desk.store).take_nonce("n", 4, 1000)
    assert 0 < await desk.redis.pttl(keys.nonce("n")) <= 1000


async def test_a_user_s_hashes_are_not_in_its_repr(desk: Desk) -> None:
    user = User("x", {"MD5": "5ebe2294"})
    await Users(desk.store).save("u", user)
    assert await Users(desk.store).get("u") == user
    assert "5ebe2294" not in repr(user)
    assert await Users(desk.store).all() == {"u": "x"}
    assert await Users(desk.store).remove("u")
    assert not await Users(desk.store).remove("u")


async def test_all_nodes_sign_nonces_with_one_key(desk: Desk) -> None:
    found = await asyncio.gather(*(Users(desk.store).nonce_key() for _ in range(10)))
    assert len(set(found)) == 1
    assert len(found[0]) == 32


async def test_a_store_that_is_away_is_a_fault() -> None:
    async with Store("redis://127.0.0.1:1") as store:
        users = Users(store)
        with pytest.raises(Fault, match="STORE_UNAVAILABLE"):
            await users.get("u")
        with pytest.raises(Fault, match="STORE_UNAVAILABLE"):
            await users.nonce_key()
