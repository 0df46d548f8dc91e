"""The commands `edgeproxy pool size` and `edgeproxy simulate`."""

import contextlib
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import orjson
import uvloop
from pydantic import TypeAdapter, ValidationError
from redis.exceptions import RedisError

from edgeproxy import wording
from edgeproxy.accounts.fields import Duration, Rest
from edgeproxy.errors import Fault, StoreError
from edgeproxy.simulate import erlang, report
from edgeproxy.simulate.replay import NUMBERS_MOST, Outcome, SimulationError, replay
from edgeproxy.simulate.trace import HOUR_MS, Rules, Trace, TraceError, Traffic, recorded, synthetic
from edgeproxy.store.embedded import EmbeddedStore, EmbeddedStoreError

_ERLANGS_MOST = 10_000_000  # bounds the time that dimensioning takes
_DEFAULT_BLOCKING = 0.01
_BAR_STEPS = 500  # drawing the bar at every event would take longer than the event


def _ms_of(accepted: Any) -> Callable[[click.Context, click.Parameter, str], int]:
    """What reads an option as a time of account files, in ms."""
    adapter: TypeAdapter[int] = TypeAdapter(accepted)

    def read(context: click.Context, option: click.Parameter, text: str) -> int:
        try:
            return adapter.validate_python(text)
        except ValidationError as invalid:
            why = wording.why(invalid.errors(include_url=False)[0])
            raise click.BadParameter(f"{text!r} {why}", context, option) from None

    return read


def _share(context: click.Context, option: click.Parameter, text: str) -> float:
    """Read an option as a share, from 0 to 1."""
    try:
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a share such as 1% or 0.01", context, option) from None
    if not 0 <= share <= 1:
        raise click.BadParameter(f"{text!r} is not between 0% and 100%", context, option)
    return share


def _some_share(context: click.Context, option: click.Parameter, text: str) -> float:
    """Read an option as a share that is neither nothing nor all."""
    share = _share(context, option, text)
    if share in (0, 1):
        raise click.BadParameter(f"{text!r} is not more than 0% and less than 100%", context, option)
    return share


def _number(context: click.Context, option: click.Parameter, value: float) -> float:
    """Refuse what no range does: that which is less and more than nothing."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number of hours", context, option)
    return value


_duration, _rest = _ms_of(Duration), _ms_of(Rest)
_VISITORS = click.IntRange(1, 100_000_000)


@click.command()
@click.option("--visitors-per-hour", type=_VISITORS, required=True, help="Visitors who begin a visit in the peak hour.")
@click.option(
    "--hold", metavar="DURATION", callback=_duration, required=True,
    help="Mean time for which a visitor keeps a number from others: visit + idle_ttl + cooldown, such as 50m.",
)  # fmt: skip
@click.option(
    "--blocking", metavar="SHARE", callback=_some_share, default="1%", show_default=True,
    help="Share of visitors who may find no number free.",
)  # fmt: skip
def size(visitors_per_hour: int, hold: int, blocking: float) -> None:
    """Tell how many numbers a pool needs, by Erlang's formula B.

    It holds for visitors who come independently of one another, and whose visits may be long or short in any way.
    """
    erlangs = visitors_per_hour * hold / HOUR_MS
    if erlangs > _ERLANGS_MOST:
        raise click.UsageError(f"--visitors-per-hour and --hold make {erlangs:,.0f} erlangs; at most {_ERLANGS_MOST:,}")
    numbers = erlang.numbers_for(erlangs, blocking)
    tenth = max(1, round(numbers / 10))
    click.echo(f"{numbers:,} numbers for {erlangs:,.4g} erlangs: {report.percent(erlang.blocking(erlangs, numbers))}")
    for count in (numbers - tenth, numbers + tenth):
        click.echo(f"with {count:,} it would be {report.percent(erlang.blocking(erlangs, count))}")


@click.command()
@click.option("--visitors-per-hour", type=_VISITORS, default=10_000, show_default=True)
@click.option(
    "--visit", metavar="DURATION", callback=_duration, default="5m", show_default=True, help="Mean length of a visit."
)
@click.option(
    "--calls", metavar="SHARE", callback=_share, default="5%", show_default=True, help="Share of visitors who call."
)
@click.option(
    "--hours", type=click.FloatRange(0.01, 24 * 366), default=2.0, show_default=True, callback=_number,
    help="Virtual hours that count; the pool is filled before.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same visitors.")
@click.option(
    "--trace", "trace_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Recorded visitors instead: JSON Lines, {"at": seconds, "visitor": "id", "event": "page" or "call"}.',
)  # fmt: skip
@click.option(
    "--numbers", type=click.IntRange(1, NUMBERS_MOST),
    help="Numbers in the pool; by default, as many as Erlang B says for 1% blocking of the synthetic visitors.",
)  # fmt: skip
@click.option(
    "--idle-ttl",
    metavar="DURATION",
    callback=_duration,
    default="30m",
    show_default=True,
    help="As in the account file.",
)
@click.option(
    "--cooldown", metavar="DURATION", callback=_rest, default="15m", show_default=True, help="As in the account file."
)
@click.option(
    "--max-ttl",
    metavar="DURATION",
    callback=_duration,
    default="24h",
    show_default=True,
    help="As in the account file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the occupancy into FILE.png or FILE.svg."
)
@click.pass_context
def simulate(
    context: click.Context,
    visitors_per_hour: int,
    visit: int,
    calls: float,
    hours: float,
    seed: int,
    trace_file: Path | None,
    numbers: int | None,
    idle_ttl: int,
    cooldown: int,
    max_ttl: int,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Try a pool: replay visitors against the store's own functions, on a virtual clock.

    Tells how full the pool gets, which share of visitors finds no number free, beside Erlang B's prediction, and how
    many calls lead back to the right visitor. Starts a store of its own, in a temporary directory.

    A visitor who gets no number sees the page's own, and does not ask again during the visit. Chance moves a small
    overflow share much: one of 1% takes tens of hours to come near its prediction, one of 10% takes one or two.
    """
    if idle_ttl > max_ttl:
        raise click.BadParameter("is shorter than --idle-ttl", param_hint="'--max-ttl'")
    draw = None if plot is None else _drawing(plot)
    traffic = Traffic(visitors_per_hour, visit, calls, hours, seed)
    if trace_file is not None and numbers is None:
        raise click.UsageError("--trace needs --numbers")
    if trace_file is not None and (option := _given(context, "visitors_per_hour", "visit", "calls", "hours", "seed")):
        raise click.BadParameter("is of synthetic visitors, and --trace has its own", param_hint=f"'{option}'")
    if numbers is None:
        numbers = _numbers_for(traffic.erlangs(Rules(0, idle_ttl, cooldown, max_ttl)))
    rules = Rules(numbers, idle_ttl, cooldown, max_ttl)
    try:
        trace = synthetic(traffic, rules) if trace_file is None else recorded(trace_file, rules)
    except TraceError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{trace_file}: {error.strerror}") from None
    outcome = _run(trace, rules)
    if draw is not None:
        try:
            draw(outcome)
        except OSError as error:
            raise click.ClickException(f"{plot}: {error.strerror}") from None
    click.echo(orjson.dumps(outcome, option=orjson.OPT_INDENT_2) if as_json else report.text(outcome))


def _given(context: click.Context, *names: str) -> str | None:
    """The first of these options that the command line names."""
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            return "--" + name.replace("_", "-")
    return None


def _numbers_for(erlangs: float) -> int:
    if erlangs > NUMBERS_MOST or (numbers := erlang.numbers_for(erlangs, _DEFAULT_BLOCKING)) > NUMBERS_MOST:
        raise click.UsageError(f"{erlangs:,.0f} erlangs need more than {NUMBERS_MOST:,} numbers: give --numbers")
    return max(1, numbers)


def _drawing(path: Path) -> Callable[[Outcome], None]:
    """What draws into the file.

    Raises:
        ClickException: it can not be drawn.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise click.BadParameter(f"{path} ends neither in .png nor in .svg", param_hint="'--plot'")
    try:
        import matplotlib.figure  # noqa: F401 - only the extra `bench` installs it
    except ImportError:
        raise click.ClickException("--plot needs matplotlib: pip install '.[bench]'") from None
    return lambda outcome: report.plot(outcome, path)


def _run(trace: Trace, rules: Rules) -> Outcome:
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeproxy-simulate-"))
        try:
            embedded = stack.enter_context(EmbeddedStore(Path(directory)))
        except EmbeddedStoreError as error:
            raise click.ClickException(str(error)) from None
        bar = stack.enter_context(
            click.progressbar(
                length=trace.ends_ms,
                label="simulating",
                file=sys.stderr,
                update_min_steps=max(1, trace.ends_ms // _BAR_STEPS),
            )
        )
        try:
            return uvloop.run(replay(embedded.url, trace, rules, bar.update))
        except (SimulationError, StoreError, RedisError, OSError) as error:
            raise click.ClickException(f"the simulation failed: {error}") from None
        except Fault as fault:
            raise click.ClickException(f"the simulation failed: {fault.text}") from None
