"""A gateway before several servers, with accounts that lie on different primaries."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from edgeproxy.store import keys
from tests.processes import Running, run, started
from tests.servers import Cluster, ServerProcess, Watched

# `busy` and `lots` (of points there are few) lie on one primary of a cluster, the limiter and `CALM` on others.
ACCOUNTS = """
accounts:
  busy: {secrets: [busy-key], region: DE, pools: {p: {replaces: all, numbers: [+493015000000..+493015009999]}}}
  lots:
    secrets: [lots-key]
    region: DE
    points: {daily: 150}
    pools: {p: {replaces: all, numbers: [+493016000000..+493016009999]}}
  CALM: {secrets: [calm-key], region: DE, pools: {p: {replaces: all, numbers: [+493017000000..+493017009999]}}}
"""


@contextlib.contextmanager
def serving(url: str, directory: Path, calm: str, **settings: str) -> Iterator[Running]:
    settings = {
        "EDGEPROXY_STORE_URL": url, "EDGEPROXY_PORT": "0", "EDGEPROXY_MANAGE_PORT": "0",
        "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.0/8", "EDGEPROXY_DRAIN_S": "0",
    } | settings  # fmt: skip
    file = directory / "accounts.yaml"
    file.write_text(ACCOUNTS.replace("CALM", calm))
    loaded = run("load", str(file), **settings)
    assert loaded.returncode == 0, loaded.stderr
    with started("serve", stderr=directory / "log", settings=settings) as serve:
        yield serve


def primary(nodes: Cluster | Watched, key: str) -> ServerProcess:
    return nodes.primary_of(key) if isinstance(nodes, Cluster) else nodes.primary()


def elsewhere(nodes: Cluster | Watched, name: str) -> str:
    """An account of another primary than this one's and the limiter's, where there are several."""
    if isinstance(nodes, Watched):
        return "calm"
    taken = {nodes.primary_of(key).port for key in (keys.account(name), keys.LIMITER[0])}
    return next(
        other for other in map("calm{}".format, range(999)) if nodes.primary_of(keys.account(other)).port not in taken
    )
