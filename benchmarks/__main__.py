"""The command line: `python -m benchmarks --help`."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

import click
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import capacity as measuring
from benchmarks import compare, loops, machine, sizing
from benchmarks import growth as growing
from benchmarks import hostile as attacking
from benchmarks import leases as leasing
from benchmarks import rooms as rooming
from benchmarks import soak as soaking
from benchmarks.load import LoadError
from benchmarks.machine import MissingToolError
from benchmarks.peers import ServerError
from benchmarks.sizing import CapacityError
from benchmarks.workload import SeedError, Target
from edgeproxy.store.embedded import EmbeddedStoreError

# Tables are wider than the 80 columns that rich takes where there is no terminal.
_console = Console(width=None if sys.stdout.isatty() else 150)


@contextmanager
def _running() -> Iterator[Progress]:
    """A run: alone among benchmarks of this machine, its progress shown."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    errors = Console(stderr=True)
    with machine.alone(lambda: errors.print("another benchmark runs on this machine: waiting for its end")), progress:
        yield progress


_rounds = click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Interleaved rounds.")
_seconds = click.option("--seconds", type=click.IntRange(1), default=5, show_default=True, help="Length of a timing.")
_store = click.option("--store-binary", metavar="PATH", help="Store server instead of the bundled Valkey.")
_results = click.option(
    "--results", type=click.Path(path_type=Path), default=machine.RESULTS, help="Directory for results."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Benchmarks of the gateway; README.md in this directory says what each measures."""
    # So that a `kill` of the benchmark stops what it has started, too.
    signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


@main.command()
@_rounds
@_seconds
@click.option("--connections", type=click.IntRange(1), multiple=True, default=(32, 256), show_default=True)
@_store
@_results
def peers(rounds: int, seconds: int, connections: tuple[int, ...], store_binary: str | None, results: Path) -> None:
    """CPU per request beside nginx + Lua, bare aiohttp and FastAPI."""
    with _running() as progress:
        result = compare.run(rounds, seconds, connections, store_binary, _console, progress)
    result["ratios"] = compare.ratios(result)
    compare.show(result, _console)
    _console.print(f"kept in {machine.save('peers', result, results)}")


_loop_options = (
    click.option("--url", help="A deployed gateway's edge address, instead of one started here."),
    click.option("--account", help="With --url: the account's name (advId)."),
    click.option("--key", help="With --url: the account's secret.", envvar="BENCHMARK_KEY"),
    click.option("--number", help="With --url: a number on the page that the account's pool replaces."),
    click.option(
        "--workers", type=click.IntRange(1), default=1, show_default=True, help="Workers of the gateway started here."
    ),
    _store,
    _results,
)


def _loop(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_loop_options):
        command = option(command)
    return command


def _stage(
    url: str | None, account: str | None, key: str | None, number: str | None, workers: int, store_binary: str | None
) -> AbstractContextManager[loops.Stage]:
    if url is None:
        return loops.local(workers, store_binary)
    if not (account and key and number):
        raise click.UsageError("--url needs --account, --key and --number")
    return loops.deployed(url, Target(account, key, number))


@main.command()
@click.option("--connections", type=click.IntRange(1), multiple=True, default=(32, 256), show_default=True)
@_seconds
@_loop
def closed(connections: tuple[int, ...], seconds: int, results: Path, **stage: Any) -> None:
    """Rate, latency and CPU per request as fast as answers come (wrk)."""
    with _running() as progress, _stage(**stage) as opened:
        result = loops.run_closed(opened, connections, seconds, progress)
    loops.show_closed(result, _console)
    _console.print(f"kept in {machine.save('closed', result, results)}")


@main.command("open")
@click.option("--maximum", type=float, help="Requests per second that are 100 %; measured if not given.")
@click.option("--seconds", type=click.IntRange(1), default=20, show_default=True, help="Length of each load.")
@click.option("--connections", type=click.IntRange(1, 900), default=256, show_default=True, help="Kept open.")
@_loop
def open_loop(maximum: float | None, seconds: int, connections: int, results: Path, **stage: Any) -> None:
    """Latency at 20, 50 and 80 % of the maximum, from the moment a request is due."""
    with _running() as progress, _stage(**stage) as opened:
        result = loops.run_open(opened, maximum, seconds, connections, progress)
    loops.show_open(result, _console)
    _console.print(f"kept in {machine.save('open', result, results)}")


@main.command()
@click.option("--axis", "axes", type=click.Choice(growing.AXES), multiple=True, default=growing.AXES, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Interleaved rounds.")
@click.option("--seconds", type=click.IntRange(1), default=4, show_default=True, help="Length of a timing.")
@click.option(
    "--most-sessions", type=click.IntRange(1000), default=max(growing.SESSIONS), help="Leave larger points out."
)
@_store
@_results
def growth(
    axes: tuple[str, ...], rounds: int, seconds: int, most_sessions: int, store_binary: str | None, results: Path
) -> None:
    """CPU per request and memory as sessions, pools, accounts, batches and workers grow."""
    for axis in axes:
        with _running() as progress:
            result = growing.run(axis, rounds, seconds, most_sessions, store_binary, progress)
        growing.show(result, _console)
        _console.print(f"kept in {machine.save(f'growth-{axis}', result, results)}")


@main.command()
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True)
@_store
@_results
def rooms(repeats: int, store_binary: str | None, results: Path) -> None:
    """µs per operation of each room, without HTTP around it."""
    with _running() as progress:
        result = rooming.run(repeats, store_binary, progress)
    rooming.show(result, _console)
    _console.print(f"kept in {machine.save('rooms', result, results)}")


@main.command()
@click.option("--most", type=click.IntRange(1000), default=max(leasing.SIZES), help="Leave larger histories out.")
@_store
@_results
def leases(most: int, store_binary: str | None, results: Path) -> None:
    """Lookups in a history of 1 thousand to 1 million leases: latency, and bytes a lease."""
    with _running() as progress:
        result = leasing.run(most, store_binary, progress)
    leasing.show(result, _console)
    _console.print(f"kept in {machine.save('leases', result, results)}")


@main.command()
@click.option("--seconds", type=click.IntRange(1, 8), default=6, show_default=True, help="Length of each attack.")
@_store
@_results
def hostile(seconds: int, store_binary: str | None, results: Path) -> None:
    """A good client's latency beside slow, flooding and malformed ones."""
    with _running() as progress, loops.local(1, store_binary) as opened:
        result = attacking.run(opened, seconds, progress)
    attacking.show(result, _console)
    _console.print(f"kept in {machine.save('hostile', result, results)}")


def _assumed(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each of `sizing.Assumptions`."""
    for field in reversed(fields(sizing.Assumptions)):
        share = field.name in ("renewed", "leased", "largest", "worker_busy", "store_busy")
        kind: click.FloatRange | click.IntRange = click.FloatRange(
            0, 1 if share else None, min_open=field.name not in ("renewed", "largest")
        )
        if isinstance(field.default, int):
            kind = click.IntRange(0 if field.name == "replicas" else 1)
        option = click.option(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, show_default=True)
        command = option(command)
    return command


@main.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Interleaved rounds.")
@click.option("--seconds", type=click.IntRange(2), default=4, show_default=True, help="Length of a timing.")
@click.option("--from-results", is_flag=True, help="Compute from the kept result, without measuring.")
@click.option("--write", is_flag=True, help="Write the tables into deploy/CAPACITY.md.")
@_store
@_results
@_assumed
def capacity(
    rounds: int, seconds: int, from_results: bool, write: bool, store_binary: str | None, results: Path, **assumed: Any
) -> None:
    """What a deployment at 1, 10 and 100 thousand requests a second needs, by measured costs.

    The options from --peak-to-mean on are what is taken for granted; deploy/CAPACITY.md says what each means.
    """
    if not from_results:
        with _running() as progress:
            measured = measuring.run(rounds, seconds, store_binary, progress)
        _console.print(f"kept in {machine.save('capacity', measured, results)}")
    result = machine.read("capacity", results)
    if result is None:
        raise CapacityError(f"{results} holds no capacity.json: run without --from-results")
    computed = sizing.tables(result, sizing.Assumptions(**assumed))
    measuring.show(computed, _console)
    if write:
        sizing.write(sizing.PAGE, computed)
        _console.print(f"written into {sizing.PAGE}")


@main.command()
@click.option("--minutes", type=click.FloatRange(1), default=20, show_default=True, help="Length of the load.")
@click.option("--rate", type=click.FloatRange(1), help="Requests per second; half of the maximum if not given.")
@_results
def soak(minutes: float, rate: float | None, results: Path) -> None:
    """Mixed traffic for long, with faults of store, gateway and clients thrown in, and a verdict."""
    with _running() as progress:
        result = soaking.run(minutes, rate, progress)
    soaking.show(result, _console)
    _console.print(f"kept in {machine.save('soak', result, results)}")
    if not all(line["held"] for line in result["verdict"]):
        sys.exit(1)


@main.command()
@_results
def plot(results: Path) -> None:
    """Draw the results of `peers` and `open` into overview.png."""
    try:
        from benchmarks import plot as plotting
    except ImportError as error:
        raise click.ClickException(f"{error}: pip install '.[bench]'") from None
    _console.print(f"drawn in {plotting.draw(results)}")


if __name__ == "__main__":
    try:
        main()
    except (
        MissingToolError, ServerError, SeedError, LoadError, CapacityError, EmbeddedStoreError, RedisError, OSError
    ) as error:  # fmt: skip
        Console(stderr=True).print(f"[red]{type(error).__name__}[/red]: {error}", soft_wrap=True)
        sys.exit(1)
