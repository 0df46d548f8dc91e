"""What the store would decide of a request, without deciding it: `ep1_resolve` itself, told to write nothing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgeproxy.accounts.account import Account
from edgeproxy.errors import Kind, StoreError
from edgeproxy.store import Ask, Store
from edgeproxy.store.batching import explaining
from edgeproxy.store.functions import Functions
from edgeproxy.store.layout import CODES, SESSION, SHOWN

_REFUSALS = {CODES["SPENT"]: Kind.BUDGET_EXHAUSTED, CODES["NO_POOL"]: Kind.NO_POOL}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would become of a number on page.

    `events` are those that would be counted of it (see `metrics.EVENTS`); none, where it stays or is held as it is.
    """

    number: str | None  # the tracking number that would be shown
    pool: int | None  # index of the pool that it was leased from by an earlier page, if that is not the one asked for
    events: frozenset[str]


@dataclass(frozen=True, slots=True)
class Decision:
    """What would become of a request; the limiter is not asked. `verdicts` are in the order of `Ask.pages`."""

    refused: Kind | None
    session_lives: bool  # the one that was asked for, or the one that is joined
    joined: bool  # it is its visitor's, as none that lives was asked for
    verdicts: Sequence[Verdict]


async def explain(store: Store, account: Account, ask: Ask) -> Decision:
    """Tell what would become of a request.

    Raises:
        Fault: `STORE_UNAVAILABLE`.
        StoreError: the account has changed since it was read.
    """
    now_ms = store.clock() or int(time.time() * 1000)
    names, *arguments = explaining(account, ask, now_ms)
    reply = await Functions(store, None).read("ep1_explain_resolve", names, store.clock(), *arguments)
    if reply.get("stale"):
        raise StoreError(f"{account.name} was changed by somebody else meanwhile: ask again")
    result = reply["results"][0]
    code = result[0]
    if code == CODES["JOIN"]:
        return await explain(store, account, ask._replace(session_id=result[SESSION], joining=True))
    if code != CODES["OK"]:
        return Decision(_REFUSALS[code], session_lives=False, joined=False, verdicts=())
    verdicts = []
    for number, told in zip(result[SHOWN:], reply["told"], strict=True):
        shown, _, index = (number or "").partition("/")
        verdicts.append(Verdict(shown or None, int(index) - 1 if index else None, frozenset(told)))
    return Decision(None, result[SESSION] == ask.session_id, ask.joining, verdicts)
