"""Each room by itself: what one operation costs, in µs, without HTTP around it."""

import asyncio
import contextlib
import ipaddress
import itertools
import time
from collections.abc import Callable
from typing import Any

import orjson
import redis
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import machine, peers, workload
from benchmarks.load import Spread
from benchmarks.workload import Target
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.display import show_number
from edgeproxy.accounts.number import read_number
from edgeproxy.dynamic import signature, wire
from edgeproxy.http.client_ip import ClientIP
from edgeproxy.settings import Settings
from edgeproxy.store import Ask, Store, keys
from edgeproxy.store.lua_libraries import function_name

SIZES = (1, 32, 256)
_SLICE_S = 0.05  # how long a room is run for one repeat
_CALLS = 40  # of a store function for one repeat
_POOL = 100_000
_DEADLINE_S = 10


def run(repeats: int, binary: str | None, progress: Progress) -> dict[str, Any]:
    """Time every room `repeats` times; `binary` is a store server instead of the bundled one."""
    target = Target()
    with peers.store(binary) as store:
        conditions = machine.facts(peers.store_version(store.url))
        asyncio.run(workload.load_accounts(store.url, {target.account: workload.account_tree(_POOL)}))
        account = workload.read_account(store.url, target.account)
        rooms = _rooms(target, account)
        task = progress.add_task("rooms", total=len(rooms) + 5 * len(SIZES))
        rows = []
        for name, operation in rooms.items():
            progress.update(task, description=name)
            rows.append(_row(name, None, [_time_us(operation) for _ in range(repeats)]))
            progress.advance(task)
        with contextlib.closing(redis.Redis.from_url(store.url)) as client:
            rows += uvloop.run(_store_rooms(store.url, account, client, repeats, lambda: progress.advance(task)))
            rows += _account_rooms(client, repeats, lambda: progress.advance(task))
    return {
        "kind": "rooms",
        "machine": conditions,
        "settings": {"repeats": repeats, "pool": _POOL},
        "rooms": rows,
    }


def _row(name: str, size: int | None, values_us: list[float]) -> dict[str, Any]:
    spread = Spread.of(values_us)
    return {
        "room": name,
        "size": size,
        "median_us": spread.median,
        "least_us": spread.least,
        "most_us": spread.most,
    }


def _address(serial: int) -> str:
    return str(ipaddress.IPv4Address(0x0B000000 + serial))


def _rooms(target: Target, account: Account) -> dict[str, Callable[[], object]]:
    body = workload.body(target, 7, "b2f8a9c4-52ab-4f0e-9d5c-0c8b6f2d7e11")
    tree = wire.parse(body)
    signed = [signature.sign(body, target.key.encode())]
    secrets = account.secrets
    on_page = read_number(target.number, "DE")
    number, local = "+493020000000", "030 20 00 00 00"
    session = "b2f8a9c4-52ab-4f0e-9d5c-0c8b6f2d7e11"
    shown = [(target.number, number, local)]
    settings = Settings.model_validate({"trusted_proxies": ["127.0.0.0/8"]})
    client_ip = ClientIP(settings.trusted_proxies, "x-forwarded-for")
    known, serial = (workload.client_ip(7),), itertools.count()  # each serial makes a text that was not seen before
    return {
        "wire.parse": lambda: wire.parse(body),
        "wire.check": lambda: wire.check(tree, body),
        "wire.parse + wire.check": lambda: wire.check(wire.parse(body), body),
        "signature.verify": lambda: signature.verify(body, signed, secrets),
        "wire.render": lambda: wire.render(shown, session),
        "number.read_number, remembered": lambda: read_number(target.number, "DE"),
        "number.read_number, first time": lambda: read_number(f"030 {next(serial) % 10**8:08}", "DE"),
        "display.show_number, remembered": lambda: show_number(number, None, None, target.number, on_page),
        "display.show_number, first time": lambda: show_number(
            f"+4930{next(serial) % 10**8:08}", None, None, "", on_page
        ),
        "ClientIP.find, remembered": lambda: client_ip.find("127.0.0.1", known),
        "ClientIP.find, first time": lambda: client_ip.find("127.0.0.1", (_address(next(serial)),)),
    }


def _time_us(operation: Callable[[], object]) -> float:
    count = 1
    while True:
        begin = time.perf_counter()
        for _ in range(count):
            operation()
        took = time.perf_counter() - begin
        if took >= _SLICE_S:
            return took / count * 1e6
        count = max(count * 2, int(count * _SLICE_S / max(took, 1e-9)))


def _function_us(client: "redis.Redis", calls: int) -> float:
    """µs a call that the store's own statistics have for functions since they were reset."""
    stats: Any = client.info("commandstats")
    fcall = stats["cmdstat_fcall"]
    if fcall["calls"] != calls or fcall["failed_calls"]:
        raise RuntimeError(f"of {calls} calls the store counted {fcall}")
    return float(fcall["usec"]) / calls


async def _store_rooms(
    url: str, account: Account, client: "redis.Redis", repeats: int, advance: Callable[[], None]
) -> list[dict[str, Any]]:
    ips, visitors = itertools.count(), itertools.count()
    rows = []
    async with Store(url) as store:

        async def batch(sessions: list[workload.Session]) -> list[workload.Session]:
            deadline = time.monotonic() + _DEADLINE_S
            asked = [store.resolve(account, ask(next(ips), session), deadline) for session in sessions]
            answers = await asyncio.gather(*asked)
            return [
                workload.Session(answer.session_id, session.visitor)
                for answer, session in zip(answers, sessions, strict=True)
            ]

        for size in SIZES:
            brought, renewed = [], []
            for _ in range(repeats):
                client.config_resetstat()
                sessions = [
                    await batch([workload.Session("", next(visitors)) for _ in range(size)]) for _ in range(_CALLS)
                ]
                brought.append(_function_us(client, _CALLS))
                client.config_resetstat()
                for those in sessions:
                    await batch(those)
                renewed.append(_function_us(client, _CALLS))
            rows.append(_row("ep1_resolve, new sessions", size, brought))
            advance()
            rows.append(_row("ep1_resolve, renewed sessions", size, renewed))
            advance()
    return rows


def ask(index: int, session: workload.Session) -> Ask:
    """What client `index` asks of the store, as the gateway puts it, for a session's visitor; its id may be ""."""
    tree = orjson.loads(workload.body(Target(), session.visitor, session.id, index))
    kept = ("type", "trackingId", "fullUrl", "fullReferrer")
    return Ask(
        ip=workload.client_ip(index),
        session_id=session.id,
        visitor=tree["trackingId"],
        bare=False,
        pages=(("+493015981100", 0),),
        browser=orjson.dumps(tree["userAgent"]),
        context=orjson.dumps({name: tree[name] for name in ("requestIpAddress", "parameters")})[1:-1],
        page=orjson.dumps({name: tree[name] for name in kept}),
    )


def _account_rooms(client: "redis.Redis", repeats: int, advance: Callable[[], None]) -> list[dict[str, Any]]:
    """The functions of account set-up; a size is how many numbers are claimed, moved into a pool, given up."""
    rows = []
    for size in SIZES:
        found: dict[str, list[float]] = {"ep1_claim": [], "ep1_save_account": [], "ep1_disclaim": []}
        numbers = [f"+4940{index:08}" for index in range(size)]
        name = f"room-{size}"
        config = orjson.dumps(workload.account_tree(1))
        names = [
            keys.account(name),
            keys.numbers(name),
            keys.free(name),
            keys.history(name),
            *keys.pool(name, workload.POOL_NAME),
            keys.LEFT,
        ]
        entering = orjson.dumps([[workload.POOL_NAME, [], numbers, 0]])
        for _ in range(repeats):
            client.delete(*names)
            for function, arguments in (
                ("ep1_claim", (1, keys.OWNERS, orjson.dumps({name: numbers}), b"{}")),
                ("ep1_save_account", (len(names), *names, 0, name, "", config, entering, b"[[],[]]", 1000, b"{}")),
                ("ep1_disclaim", (1, keys.OWNERS, name, orjson.dumps(numbers))),
            ):
                client.config_resetstat()
                client.execute_command("FCALL", function_name(function), *arguments)  # type: ignore[no-untyped-call]
                found[function].append(_function_us(client, 1))
        rows += [_row(function, size, values) for function, values in found.items()]
        for _ in range(3):
            advance()
    return rows


def show(result: dict[str, Any], console: Console) -> None:
    """Print µs per operation, and for store functions per request or number of the call."""
    table = Table(title="Rooms: µs, median (least–most) over repeats", title_justify="left")
    for heading in ("room", "size", "µs a call", "µs each"):
        table.add_column(heading, justify="left" if heading == "room" else "right")
    for row in result["rooms"]:
        size = row["size"] or 1
        spread = Spread(row["median_us"], row["least_us"], row["most_us"])
        each = f"{spread.median / size:.2f}"
        table.add_row(row["room"], str(row["size"] or ""), spread.shown(2 if spread.median < 100 else 0), each)
    console.print(table)
