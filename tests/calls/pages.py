"""Pages of a visit, and what is kept of them."""

import asyncio
from typing import Any

import orjson

from edgeproxy.store import Ask
from edgeproxy.store.calls import Calls
from edgeproxy.store.visits import Visit
from tests.calls.api import NUMBER, PAGE, Api
from tests.conftest import BROWSER, Desk, far

OTHER_BROWSER = BROWSER.replace("140", "141")


CLICK = "https://example.com/?utm_source=google&utm_medium=cpc&gclid=Cj0K"


FIRST: dict[str, Any] = {
    "fullUrl": CLICK,
    "fullReferrer": "https://www.google.com/",
    "parameters": {"custnr": "1", "plan": "basic"},
}


LATER: dict[str, Any] = {"fullUrl": "https://example.com/prices", "fullReferrer": CLICK, "parameters": {}}


LAST: dict[str, Any] = {"fullUrl": "https://example.com/contact", "fullReferrer": "", "parameters": {"plan": "gold"}}


async def match_of(api: Api, at: str = "") -> Any:
    (match,) = (await api.lookup(NUMBER, at))["matches"]
    return match


# Custom dimensions ----------------------------------------------------------------------------------------------------


async def visit_of(desk: Desk, session: str) -> Visit:
    (visit,) = await Calls(desk.store, None).visits(await desk.account("x"), [session])
    assert visit is not None
    return visit


def page_of(
    parameters: dict[str, str], *, address: str = "203.0.113.0", agent: str = BROWSER, url: str = ""
) -> dict[str, Any]:
    """A visit as the gateway puts it into an `Ask`."""
    page = {"type": "web", "trackingId": "me", "fullUrl": url, "fullReferrer": ""}
    return {
        "browser": orjson.dumps(agent),
        "context": orjson.dumps({"requestIpAddress": address, "parameters": parameters})[1:-1],
        "page": orjson.dumps(page),
    }


async def turn(desk: Desk, session: str, *pages: dict[str, Any]) -> str:
    """Pages of one session, in one batch."""
    account = await desk.account("x")
    asks = [Ask(desk.fresh_ip(), session, "", False, ((PAGE, 0),), **page) for page in pages]
    return (await asyncio.gather(*(desk.store.resolve(account, ask, far()) for ask in asks)))[0].session_id


# One visitor, one number ----------------------------------------------------------------------------------------------

MANY = """
accounts:
  x:
    secrets: [s]
    region: DE
    static: {site: "1", tokens: [x-token-x]}
    pools: {p: {replaces: [+4930111], numbers: [+493015981400..+493015981439]}}
"""
