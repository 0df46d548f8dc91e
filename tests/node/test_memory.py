"""What a worker remembers of what clients send is bounded in bytes, and deploy/ plans for it."""

import itertools
import tracemalloc
import uuid
from collections import deque
from collections.abc import Callable

import pytest
import yaml
from cachetools import LRUCache

from benchmarks import machine, sizing
from edgeproxy.accounts import display, number
from edgeproxy.dynamic import handler, wire
from edgeproxy.dynamic.memory import CLIENTS_KEPT, Memory
from edgeproxy.http import access, client_ip
from edgeproxy.store import accounts as store_accounts

WIDE = "\U0001f600"  # a character that takes four bytes
SAMPLE = 300


def taken(fill: Callable[[int], object]) -> float:
    """Bytes that an entry takes, made `SAMPLE` times of different things."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [fill(i) for i in range(SAMPLE)]
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    del kept
    return held / SAMPLE


def of_shown(per_session: int, sessions: int, most: int) -> tuple[float, Memory, list[str]]:
    """Bytes that `Memory` takes for sessions with so many numbers each; it; and the sessions, in order."""
    serial = itertools.count(10**11)
    ids = [str(uuid.UUID(int=i)) for i in range(sessions)]
    memory = Memory(1800, most)
    tracemalloc.start()
    try:
        for i, session_id in enumerate(ids):
            shown = {f"+4{next(serial)}": (float(i), f"+4{next(serial)}") for _ in range(per_session)}
            memory.keep("demo", (session_id + ".")[:-1], shown, 1.0)
        return tracemalloc.get_traced_memory()[0], memory, ids
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("per_session", [1, 6, 50])
def test_numbers_shown_take_a_bounded_number_of_bytes(per_session: int) -> None:
    most = 2 * 1024**2
    held, memory, ids = of_shown(per_session, 4 * most // (500 + 240 * per_session), most)
    assert held <= most
    assert held >= most / 3  # and not much less than that is made use of
    assert len(memory._young) + len(memory._old) >= most / (500 + 240 * per_session) / 2
    latest = next(iter(memory._young[("demo", ids[-1])]))
    assert memory.recall("demo", ids[-1], latest, 0) is not None
    assert ("demo", ids[0]) not in memory._young.keys() | memory._old.keys()


def test_a_session_that_shows_ever_more_numbers_is_bounded() -> None:
    memory = Memory(1800, 10**6)
    for i in range(10_000):
        memory.keep("demo", "s", {f"+{i}": (1.0, f"+{i}")}, 1.0)
    assert len(memory._young.get(("demo", "s"), {})) <= 257


def text(i: int, length: int) -> str:
    return f"{i:06}" + WIDE * (length - 6)


CLIENTS = client_ip.ClientIP([], "x-forwarded-for")
CACHE: LRUCache[str, object] = LRUCache(10**6)  # stands for those that handlers have
DISTINCT = "2001:db8:{:x}::/64"


def client(i: int) -> object:
    return CLIENTS.find("127.0.0.1", (f"{i}".rjust(client_ip._REMEMBERED_MOST, "x"),))


def visitor(i: int) -> object:
    return client_ip.read_client(f"2001:db8:1111:2222:3333:4444:5555:{i & 0xFFFF:x}")


def shown(i: int) -> object:
    return display._show_remembered(f"+4930{i:09}", None, text(i, display._SHORT_MOST), f"+4931{i:09}")


def piece(i: int) -> object:
    return wire._fragment(text(i, wire._REMEMBERED_MOST), f"+4930{i:09}", text(i, wire._REMEMBERED_MOST))


def window(i: int) -> None:
    CACHE[f"account {DISTINCT.format(i)}"] = deque(i + place / 5 for place in range(5))


# What → how many are kept, and how one of the largest comes in.
READ: dict[str, tuple[int, Callable[[int], object]]] = {
    "numbers on pages": (number._NUMBERS_READ, lambda i: number._read_short(text(i, number._SHORT_MOST), "")),
    "long texts on pages": (number._LONG_READ, lambda i: number._read_long(text(i, number.TEXT_MOST), "")),
    "whether numbers are valid": (number._NUMBERS_READ, lambda i: number.is_valid(f"+4930{i:09}")),
    "how numbers are shown": (display._DISPLAYS_KEPT, shown),
    "formats of numbers": (display._DISPLAYS_KEPT, lambda i: display._formatted_by_library(f"+4930{i:05}0000", 2)),
    "countries of numbers": (display._PAGES_KEPT, lambda i: display._country_and_national(f"+4930{i:09}")),
    "groupings": (display._PAGES_KEPT, lambda i: display._grouping(f"(030) {i:0250}", f"+4930{i:09}")),
    "first groups": (display._PAGES_KEPT, lambda i: display._first_group(f"+4930{i:06}000")),
    "pieces of answers": (wire._FRAGMENTS_KEPT, piece),
    "user agents": (handler._AGENTS_KEPT, lambda i: handler.crawler_mark(text(i, 1024), (), ())),
    "client addresses": (client_ip._ADDRESSES_KEPT, client),
    "visitors' addresses": (client_ip._ADDRESSES_KEPT, visitor),
    "bad signatures of addresses": (
        handler._OFFENDERS_KEPT, lambda i: CACHE.__setitem__(DISTINCT.format(i), handler._Offences())
    ),
    "windows while the store is away": (CLIENTS_KEPT, window),
    "addresses shut out": (
        access._SHUT_OUT_MOST, lambda i: CACHE.__setitem__(DISTINCT.format(i) + "x", True)
    ),
    "good tokens": (2 * access._GOOD_KEPT, lambda i: CACHE.__setitem__(f"{i:064x}", True)),
    "names of no account": (store_accounts._ACCOUNTS_MOST, lambda i: CACHE.__setitem__(f"{i:064}", True)),
}  # fmt: skip
TIMED = 200  # bytes that an entry of a TTLCache takes more than one of an LRUCache


def test_what_is_read_is_remembered_within_the_bytes_that_are_planned() -> None:
    number.prepare()
    mib = {}
    for what, (kept, fill) in READ.items():
        fill(10**5)  # what is made once is not an entry's
        mib[what] = kept * (taken(fill) + TIMED) / 1024**2
    assert sum(mib.values()) <= sizing.READ_MIB, {what: round(size, 1) for what, size in mib.items()}


def test_the_pod_s_limit_is_more_than_what_clients_can_fill() -> None:
    result = machine.read("capacity", machine.RESULTS)
    assert result is not None
    pod = sizing.pod_mib(result)
    workloads = list(yaml.safe_load_all((sizing.PAGE.parent / "kubernetes" / "workload.yaml").read_text()))
    (deployment,) = [tree for tree in workloads if tree["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    limit = float(container["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert pod <= limit <= 1.25 * pod
    assert f"| a pod of one worker, with all this full | {sizing.shown(pod)} MiB |" in sizing.PAGE.read_text()
