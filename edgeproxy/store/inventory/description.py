"""What changes of an account, in lines for people: without a secret, or a token, in them."""

from typing import Any

from edgeproxy.accounts.entries import AccountEntry
from edgeproxy.store.inventory.change import Move

_SETTINGS_SHOWN = ("region", "timezone", "points_daily", "costs", "per_second", "limit_by", "visitor_ttl_ms",
                   "visits_kept_ms", "networks", "quarantine_ms", "calls_kept_ms", "leases_kept_ms", "customers_most",
                   "sources_most", "sound_most", "custom_fields",
                   "crawlers", "join", "site")  # fmt: skip
_DEFAULTS = AccountEntry.model_validate(
    {"secrets": ["-"], "region": "DE"}
).config()  # what the releases went by that kept no such setting


def describe(before: dict[str, Any] | None, after: dict[str, Any], moves: dict[str, Move], free: Move) -> list[str]:
    """A line for each setting that differs, each pool of which something does, and the numbers in no pool.

    `before` and `after` are the account's configurations; None where there is none yet.
    """
    lines = ["account is created"] if before is None else _settings(before, after)
    pools_before = before["pools"] if before else {}
    for pool, move in moves.items():
        words = _pool(pools_before.get(pool), after["pools"].get(pool))
        words += [f"+{len(move.entering)} numbers"] if move.entering else []
        words += [f"−{len(move.leaving)} numbers, their leases end"] if move.leaving else []
        if words:
            lines.append(f"pool {pool}: {', '.join(words)}")
    counts = [f"{sign}{len(numbers)}" for sign, numbers in (("+", free.entering), ("−", free.leaving)) if numbers]
    return [*lines, f"numbers in no pool: {', '.join(counts)}"] if counts else lines


def _settings(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    lines = []
    if before["secrets"] != after["secrets"]:
        lines.append("secrets change")
    if before["token_hashes"] != after["token_hashes"]:
        lines.append("access tokens change")
    lines += [
        f"{key}: {before.get(key)} → {after[key]}"
        for key in _SETTINGS_SHOWN
        if before.get(key, _DEFAULTS[key]) != after[key]
    ]
    if before["displays"] != after["displays"]:
        lines.append("display texts change")
    if list(before["pools"]) != list(after["pools"]) and sorted(before["pools"]) == sorted(after["pools"]):
        lines.append(f"order of pools: {', '.join(after['pools'])}")
    return lines


def _pool(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    if old is None:
        return ["is created"]
    if new is None:
        return ["is removed"]
    return [f"{key}: {old.get(key)} → {new[key]}" for key in new if old.get(key) != new[key]]
