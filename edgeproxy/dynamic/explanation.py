"""Why each number of a request is replaced, or is not: what the data path would do, and nothing is written."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgeproxy.accounts.account import Account, Origin, Pool
from edgeproxy.dynamic import wire
from edgeproxy.dynamic.handler import Call, Handler, crawler_mark
from edgeproxy.http.client_ip import Client
from edgeproxy.settings import Settings
from edgeproxy.store import Store
from edgeproxy.store.explanation import Decision, Verdict, explain
from edgeproxy.telemetry.metrics import Board

_NOBODY = Client("", "")


@dataclass(frozen=True, slots=True)
class Number:
    """A number on page, and what became of it on its way."""

    sent: str
    read: str | None  # E.164; None: it is no number, and stays
    asked: Sequence[
        tuple[Pool, str | None]
    ]  # the pools in order, each with what it does not serve it for; the last may
    verdict: Verdict | None  # None: the store was not asked of it


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would become of a request."""

    page: wire.Page
    origin: Origin
    bare: str  # why no number may be spent on it: `crawler`, `dry_run`; "" where one may
    crawler_mark: str | None  # what tells that it is a crawler's: a part of the user agent; `KNOWN`: the usual list
    decision: Decision
    numbers: Sequence[Number]


async def explain_request(store: Store, settings: Settings, account: Account, body: bytes) -> Explanation:
    """Explain the request that a body is, for an account as it is in the store. The limiter is not asked.

    Raises:
        Fault: what the request would be refused with before the store is asked; `STORE_UNAVAILABLE`.
        StoreError: the account has changed since it was read.
    """
    page = wire.check(wire.parse(body), body)
    handler = Handler(store, settings, Board(1).row(0))
    call = Call(body, (), _NOBODY, time.monotonic())
    ask, shown = handler.ask(call, account, page, 0)
    decision = await explain(store, account, ask)
    origin = Origin.of(page.full_url, page.full_referrer, page.parameters)
    verdicts = iter(decision.verdicts)
    reads = iter(zip(shown, ask.pages, strict=True))
    numbers, following = [], next(reads, None)
    for sent in page.numbers:
        if following is None or following[0] != sent:
            numbers.append(Number(sent, None, (), None))
            continue
        number, index = following[1]
        pools = account.pools if index < 0 else account.pools[: index + 1]
        asked = [(pool, pool.unmet(number, origin)) for pool in pools]
        numbers.append(Number(sent, number, asked, next(verdicts, None)))
        following = next(reads, None)
    mark = None if page.is_app else crawler_mark(page.user_agent, account.crawlers, account.no_crawlers)
    return Explanation(page, origin, call.bare, mark, decision, numbers)
