"""Who was shown this number, and where does the call go: the rules of `README.md`, *Matches* and *Routes*.

A number is looked for in the history of leases, among sources and among static numbers, at the moment of the call. All
that held it then are candidates, and so are leases within their cooldown, for visitors dial late. Nothing is chosen
silently: candidates are ordered, and `certainty` says how far they can be trusted.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edgeproxy.accounts.account import Account, Pool
from edgeproxy.accounts.number import read_number
from edgeproxy.store.calls import Calls, Lease
from edgeproxy.store.numbers import StaticNumbers
from edgeproxy.store.partner import Partner, Record
from edgeproxy.store.visits import Visit

_log = logging.getLogger(__name__)

How = Literal["lease", "source", "static", "cooldown", "shared"]
Certainty = Literal["exact", "likely", "ambiguous", "none"]

_ORDER: tuple[How, ...] = ("lease", "source", "static", "cooldown", "shared")
_WHY: dict[How, str] = {
    "lease": "the session held the number at that moment",
    "source": "the number was the source's at that moment",
    "static": "the number is in use as a static number",
    "cooldown": "the session's lease had ended, and the number was not leased again before its cooldown was over",
    "shared": "the number is shown to everybody when the pool is empty: no visitor can be told from another",
}
_MANY_NETWORKS = "; pages of this session came from many networks at once, as if a cache gave one visitor's page to all"
_POOL = "pool:"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes. `reserve` is tried after `timeout_s` without an answer, `alternatives` in their order."""

    destination: str | None
    alternatives: tuple[str, ...] = ()
    reserve: str | None = None
    timeout_s: int | None = None
    ignore_early_media: bool = True


_NOWHERE = Route(None)


@dataclass(frozen=True, slots=True)
class Match:
    """One that the number may have been shown for. Moments are epoch ms; what does not apply is None."""

    how: How
    route: Route = _NOWHERE  # of a call that is this one's
    session_id: str | None = None
    page: str | None = None  # the number on page that the tracking number replaced
    begin_ms: int | None = None
    end_ms: int | None = None  # None: not known, or not over
    pool: Pool | None = None
    visit: Visit | None = field(default=None, repr=False)  # the session's
    source: Record | None = None
    static: dict[str, Any] | None = None

    @property
    def why(self) -> str:
        """The match in words."""
        return _WHY[self.how] + (_MANY_NETWORKS if self.many_networks else "")

    @property
    def many_networks(self) -> bool:
        """Whether the session's id is not one visitor's, by the networks that its pages came from."""
        return self.visit is not None and self.visit.many_networks


@dataclass(frozen=True, slots=True)
class Found:
    """All matches, best first.

    They are exact (one, that held the number), likely (one, in cooldown), ambiguous (several, or one whose session many
    visitors have in common), or none.
    """

    known: bool  # the number is the account's
    matches: tuple[Match, ...]

    @property
    def certainty(self) -> Certainty:
        """How far the first match can be trusted."""
        told_apart = [match for match in self.matches if match.how != "shared"]
        if not told_apart:
            return "none"
        if len(told_apart) > 1 or told_apart[0].many_networks:
            return "ambiguous"
        return "likely" if told_apart[0].how == "cooldown" else "exact"


async def lookup(calls: Calls, account: Account, number: str, at_ms: int) -> Found:
    """Everyone whom the number (E.164) may have been shown to at that moment.

    A record of the number that cannot be read is left out, and logged: the call goes on with what can.

    Raises:
        Fault: `STORE_UNAVAILABLE`.
    """
    state = await calls.state(account, number)
    shared = [pool for pool in account.pools if pool.shared_number == number]
    pool = _pool_of(account, state)
    reach_ms = max((pool.cooldown_ms for pool in account.pools), default=0)
    matches: list[Match] = []
    with _if_readable(account, number, "leases"):
        found = await calls.leases(account, number, pool, at_ms, reach_ms)
        leases = [of for of in found if of.cools or of.reaches(at_ms, _cooldown_ms(account, pool, of.page))]
        visits = await calls.visits(account, [lease.session_id for lease in leases])
        matches += [_of_lease(lease, visit, pool, at_ms) for lease, visit in zip(leases, visits, strict=True)]
    sources: list[Record] = []
    with _if_readable(account, number, "sources"):
        sources = (await Partner(calls.store, None).find(account, "sources", {"phonenr": [number]})).records
    for source in sources:
        with _if_readable(account, number, "source"):
            matches += _of_source(source, at_ms)
    if state == "static":
        with _if_readable(account, number, "scenario"):
            ((_, parts),) = await StaticNumbers(calls.store, None).look(account, [number])
            matches.append(Match("static", _scenario(parts.get("redirectOptions")), static=parts))
    matches += [Match("shared", _to_what_is_replaced(pool), pool=pool) for pool in shared]
    matches.sort(key=lambda match: _ORDER.index(match.how))
    return Found(state is not None or bool(shared), tuple(matches))


@contextlib.contextmanager
def _if_readable(account: Account, number: str, what: str) -> Iterator[None]:
    """Go on without what is not as it should be in the store."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.error("account %s: the %s of %s cannot be read: %r", account.name, what, number, error)


def _pool_of(account: Account, state: str | None) -> Pool | None:
    name = state.removeprefix(_POOL) if state is not None and state.startswith(_POOL) else None
    return next((pool for pool in account.pools if pool.name == name), None)


def _cooldown_ms(account: Account, pool: Pool | None, page: str) -> int:
    """How long a lease is found after its end: as long as its own pool's cooldown, which is not always the one that the
    number is in by now. It is told by the number on page; the longest, where several pools replace that.
    """
    if pool is not None and pool.lists(page):
        return pool.cooldown_ms
    of_page = [of for of in account.pools if of.lists(page)]
    return max((of.cooldown_ms for of in of_page or ([pool] if pool else account.pools)), default=0)


def _of_lease(lease: Lease, visit: Visit | None, pool: Pool | None, at_ms: int) -> Match:
    held = lease.end_ms is None or at_ms < lease.end_ms
    return Match(
        "lease" if held else "cooldown",
        Route(lease.page),
        session_id=lease.session_id,
        page=lease.page,
        begin_ms=lease.begin_ms,
        end_ms=lease.end_ms,
        pool=pool,
        visit=visit,
    )


def _of_source(source: Record, at_ms: int) -> list[Match]:
    """The source, if the number was its own at that moment."""
    begin_ms, expire_ms = int(source["timestamp"] or 0), int(source.get("expire") or 0)
    end_ms = int(source.get("rests_until") or expire_ms)
    if not (begin_ms <= at_ms and (end_ms == 0 or at_ms < end_ms)) or source.get("reserve_number") == "1":
        return []
    if source["status"] == "quarantined" or 0 < expire_ms <= at_ms:
        goes = _NOWHERE
    else:
        alternatives = source.get("alt_numbers") or ""
        goes = Route(_number_of(source, "destnr"), tuple(number for number in alternatives.split(",") if number))
    return [Match("source", goes, begin_ms=begin_ms, end_ms=end_ms or None, source=source)]


def _scenario(redirect: dict[str, Any] | None) -> Route:
    if redirect is None:
        return _NOWHERE
    reserve = redirect["reserveRedirect"]
    destination = _number_of(redirect["ptsnOptions"], "redirectNumber")
    if reserve is None:
        return Route(destination)
    return Route(
        destination,
        reserve=_number_of(reserve, "reserveNumber"),
        timeout_s=int(reserve["reserveTimeOut"]),
        ignore_early_media=reserve["ignoreEarlyMedia"],
    )


def _number_of(record: Mapping[str, Any], name: str) -> str | None:
    """A number in a record, or what earlier releases took for one.

    Raises:
        TypeError: it is no text.
    """
    number = record.get(name)
    if number is not None and not isinstance(number, str):
        raise TypeError(f"{name} is no text")
    return number


def _to_what_is_replaced(pool: Pool) -> Route:
    return Route(next(iter(pool.replaces)) if len(pool.replaces) == 1 else None)


def route(found: Found) -> Route:
    """Where a call goes, by the first match.

    A lease's call goes to the number on page that the tracking number replaced; a source's to its destination, unless
    it is quarantined; a static number's by its redirect scenario; a shared number's to what its pool replaces, if that
    is one number. It goes to no text that is no number, whatever an earlier release has taken for one.
    """
    chosen = found.matches[0].route if found.matches else _NOWHERE
    destination, *alternatives = [*map(_possible, (chosen.destination, *chosen.alternatives))]
    return replace(
        chosen,
        destination=destination,
        alternatives=tuple(number for number in alternatives if number is not None),
        reserve=_possible(chosen.reserve),
    )


def _possible(number: str | None) -> str | None:
    return read_number(number, "") if number is not None else None
