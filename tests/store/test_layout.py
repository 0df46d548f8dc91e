"""The arrays between the gateway and `ep1_resolve`: both sides go by one layout."""

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

from edgeproxy.store import batching, keys, layout, lua_libraries
from tests.conftest import Desk

PAGE = "+493015981100"
ACCOUNT = f"""
accounts:
  x:
    secrets: [s]
    region: DE
    pools: {{p: {{replaces: [{PAGE}], numbers: [+493015981151], idle_ttl: 60s, max_ttl: 10m, cooldown: 30s}}}}
"""


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All arrays laid out otherwise, on both sides."""
    monkeypatch.setattr(layout, "KEYS", (*layout.KEYS[2:], *layout.KEYS[:2]))
    monkeypatch.setattr(layout, "POOL", layout.POOL[::-1])
    caches = (lua_libraries.function_name, lua_libraries.libraries)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(batching, "_RESOLVE", lua_libraries.function_name("ep1_resolve"))
    yield
    for cache in caches:
        cache.cache_clear()


async def test_whatever_the_layout_is_both_sides_take_it_from_there(turned: None, desk: Desk) -> None:
    await desk.load(ACCOUNT)
    first = await desk.ask("x", PAGE)
    assert first.numbers == ["+493015981151"]
    assert (await desk.ask("x", PAGE, first.session_id)).numbers == first.numbers
    assert await desk.redis.zcard(keys.history("x")) == 1
    assert await desk.redis.xlen(keys.visits("x")) == 2
    desk.clock.advance(60 + 29)  # its idle_ttl, and all of its cooldown but a second
    assert (await desk.ask("x", PAGE)).numbers == [False]
    desk.clock.advance(1)
    assert (await desk.ask("x", PAGE)).numbers == ["+493015981151"]


async def test_a_request_is_laid_out_as_its_layout_names_it(desk: Desk) -> None:
    await desk.load(ACCOUNT)
    ask = batching.Ask("192.0.2.1", "session", "me", False, ((PAGE, 0),), b'"b"', b'"c":1', b'{"d":1}')
    _, *arguments = batching.explaining(await desk.account("x"), ask, desk.clock.now)[-3 - len(layout.ASK) :]
    how = layout.HOW["WITH_SESSION"] + layout.HOW["WITH_VISITOR"]
    values = ask._asdict() | {"how": how, "count": 1}
    assert arguments == [*(values[name] for name in layout.ASK), PAGE, 1]


def test_lua_uses_each_name_of_the_layout_and_no_number_in_its_place() -> None:
    text = files("edgeproxy.store").joinpath("lua", "resolve.lua").read_text()
    for name in re.findall(r"^local (\w+) =", layout.in_lua(), re.MULTILINE):
        assert re.search(rf"\b{name}\b", text), name
    assert not re.findall(r"\b(?:settings|keys)\[\d+\]", text)
