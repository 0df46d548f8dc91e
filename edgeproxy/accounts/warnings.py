"""What is not wrong in an account file, and most likely not meant."""

import fnmatch
from collections.abc import Callable, Iterator, Mapping

from pydantic import BaseModel

from edgeproxy.accounts.account import CLICK_IDS
from edgeproxy.accounts.entries import AccountEntry, MatchEntry, PoolEntry
from edgeproxy.accounts.fields import TIMES
from edgeproxy.accounts.number import is_valid
from edgeproxy.accounts.yaml_file import FileError, Lines

_LOOKED_AT = 1000  # numbers of a range that are looked at one by one: each is 25 µs


def warnings_of(accounts: Mapping[str, AccountEntry], lines: Lines) -> list[FileError]:
    """Warnings in the order of their lines.

    That is a time without a unit, a number that no network gives out, and a pool, or a number on page of one, to which
    pools before it leave nothing.
    """
    entries = [(("accounts", account), entry) for account, entry in accounts.items()]
    found = [warning for place, entry in entries for warning in _times_without_unit(entry, place, lines)]
    for place, entry in entries:
        found += _invalid_numbers(entry, place, lines)
        found += _shadowed_pools(entry, place, lines)
    return sorted(found, key=lambda warning: warning.line)


def _times_without_unit(entry: BaseModel, place: tuple[str, ...], lines: Lines) -> Iterator[FileError]:
    for name, field in type(entry).model_fields.items():
        value, here = getattr(entry, name), (*place, name)
        if any(time in field.metadata for time in TIMES):
            written = lines.text(here) or ""
            if written.isdigit() and value:
                text = f"has no unit and is read as {written}s: write {written}s, or {written}m"
                yield FileError(lines.of(here), f"{'.'.join(here)}: {written} {text}")
        elif isinstance(value, BaseModel):
            yield from _times_without_unit(value, here, lines)
        elif isinstance(value, dict):
            for key, below in value.items():
                if isinstance(below, BaseModel):
                    yield from _times_without_unit(below, (*here, key), lines)


def _invalid_numbers(entry: AccountEntry, place: tuple[str, ...], lines: Lines) -> Iterator[FileError]:
    listed: list[tuple[tuple[int | str, ...], list[str]]] = [
        ((*place, "numbers", index), numbers) for index, numbers in enumerate(entry.numbers)
    ]
    for name, pool in entry.pools.items():
        at: tuple[str, ...] = (*place, "pools", name)
        listed += [((*at, "replaces", index), [number]) for index, number in enumerate(pool.replaces)]
        listed += [((*at, "numbers", index), numbers) for index, numbers in enumerate(pool.numbers)]
        if pool.shared_number is not None:
            listed.append(((*at, "shared_number"), [pool.shared_number]))
    for where, numbers in listed:
        looked_at = numbers if len(numbers) <= _LOOKED_AT else [*numbers[:: len(numbers) // _LOOKED_AT], numbers[-1]]
        invalid = [number for number in looked_at if not is_valid(number)]
        if invalid:
            others = ", nor are others of this range" if len(invalid) > 1 else ""
            shown = ".".join(str(step) for step in where if isinstance(step, str))
            yield FileError(lines.of(where), f"{shown}: {invalid[0]} is no number that is given out{others}")


def _shadowed_pools(entry: AccountEntry, place: tuple[str, ...], lines: Lines) -> Iterator[FileError]:
    before: list[tuple[str, PoolEntry]] = []
    for name, pool in entry.pools.items():
        wider = [(other, earlier) for other, earlier in before if _covers(earlier.match, pool.match)]
        before.append((name, pool))
        taken = {
            number: next((other for other, earlier in wider if _replaces(earlier, number)), None)
            for number in pool.replaces
        } or {"all": next((other for other, earlier in wider if not earlier.replaces), None)}
        line = lines.of((*place, "pools", name))
        shown = ".".join((*place, "pools", name))
        if all(taken.values()):
            others = " and ".join(dict.fromkeys(filter(None, taken.values())))
            yield FileError(line, f"{shown}: never serves: {others}, which stands before it, takes all of its visits")
            continue
        for index, (number, other) in enumerate(taken.items()):
            if other is not None:
                at = lines.of((*place, "pools", name, "replaces", index))
                yield FileError(
                    at, f"{shown}.replaces: {number} is never replaced here: {other}, which stands before it, does"
                )


def _replaces(pool: PoolEntry, number: str) -> bool:
    """Whether the pool replaces a number on page; see `Pool.unmet`."""
    return number in pool.replaces if pool.replaces else is_valid(number)


def _covers(match: MatchEntry | None, other: MatchEntry | None) -> bool:
    """Whether every visit that `other` takes is taken by the match too; None takes all visits."""
    if match is None:
        return True
    theirs = other or MatchEntry()
    return all(
        not ours or (values and all(any(takes(value, own) for own in ours) for value in values))
        for name in MatchEntry.model_fields
        for takes, ours, values in [(_TAKES.get(name, str.__eq__), getattr(match, name), getattr(theirs, name))]
    )


def _host_is_within(host: str, other: str) -> bool:
    return ("." + host.lower()).endswith("." + other.lower())


def _pattern_is_within(pattern: str, other: str) -> bool:
    """Whether a pattern surely takes all that another takes; some that do are not seen."""
    plain = not set("?[") & set(other) and "[" not in pattern
    return pattern == other or (plain and fnmatch.fnmatchcase(pattern, other))


def _equal_without_case(value: str, other: str) -> bool:
    return value.lower() == other.lower()


# Condition of a match → whether one of its values takes no more than another does; of others, only if it is the same.
_TAKES: dict[str, Callable[[str, str], bool]] = {
    "utm_source": _equal_without_case,
    "utm_medium": _equal_without_case,
    "utm_campaign": _equal_without_case,
    "referrer_host": _host_is_within,
    "landing_path": _pattern_is_within,
    **dict.fromkeys(CLICK_IDS, _pattern_is_within),
}
