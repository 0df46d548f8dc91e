"""Account files of one account `x`, as tests of several files write them."""

from edgeproxy.accounts.account import Account
from edgeproxy.accounts.file import parse


def account(pools: str, more: str = "") -> str:
    return f"accounts:\n  x:\n    secrets: [s]\n    region: DE\n{more}    pools:\n{pools}"


def runtime(pools: str) -> Account:
    return Account.from_config("x", 1, parse(account(pools).encode()).accounts["x"].config() | {"token_hashes": []})
