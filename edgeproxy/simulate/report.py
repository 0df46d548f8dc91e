"""What a simulation tells: text with a small chart, and a picture."""

from pathlib import Path

from edgeproxy.simulate.replay import Outcome
from edgeproxy.simulate.trace import HOUR_MS

_HEIGHT = 8  # lines of the chart
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_UNITS = ((86_400_000, "d"), (HOUR_MS, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))
_MINUTE_MS = 60_000
_LEAST_SHOWN = 1e-5  # share


def percent(share: float) -> str:
    """A share as text, to three digits."""
    if 0 < share < _LEAST_SHOWN:
        return f"under {_LEAST_SHOWN * 100:g} %"
    return f"{share * 100:.3g} %"


def text(outcome: Outcome) -> str:
    """The whole result, for people."""
    rules, occupancy, overflow, calls = outcome.rules, outcome.occupancy, outcome.overflow, outcome.calls
    hours = outcome.counted_ms / HOUR_MS
    total = calls.unique + calls.ambiguous + calls.wrong + calls.none
    return "\n".join(
        [
            f"pool       {rules.numbers:,} numbers, idle_ttl {_duration(rules.idle_ttl_ms)}, "
            f"cooldown {_duration(rules.cooldown_ms)}, max_ttl {_duration(rules.max_ttl_ms)}",
            f"time       {hours:.4g} h, after {outcome.warm_up_ms / HOUR_MS:.3g} h of warm-up that do not count",
            f"load       {overflow.asked / hours:,.0f} leases an hour × {overflow.mean_hold_ms / _MINUTE_MS:.4g} min "
            f"= {overflow.erlangs:,.4g} erlangs",
            f"occupancy  {occupancy.least:,} to {occupancy.most:,} numbers busy, {occupancy.mean:,.1f} on average",
            f"overflow   {percent(overflow.share)} ({overflow.refused:,} of {overflow.asked:,} leases); "
            f"Erlang B predicts {percent(overflow.predicted)}",
            f"calls      {total:,}: {calls.unique:,} attributed uniquely, {calls.ambiguous:,} ambiguously, "
            f"{calls.wrong:,} wrongly, {calls.none:,} not at all; {calls.untracked:,} more on the page's own number",
            "",
            *_chart(outcome),
        ]
    )


def _duration(ms: int) -> str:
    """A time as account files have it, in the largest unit that it is a whole number of."""
    return next(f"{ms // unit}{name}" for unit, name in _UNITS if ms % unit == 0 and (ms or name == "ms"))


def _chart(outcome: Outcome) -> list[str]:
    """Numbers busy over time, up to the pool's size."""
    top = outcome.rules.numbers
    width = len(f"{top:,}")
    lines = []
    for line in range(_HEIGHT, 0, -1):
        fills = [sample / top * _HEIGHT - (line - 1) for sample in outcome.occupancy.samples]
        bars = "".join(_EIGHTHS[max(0, min(8, round(fill * 8)))] for fill in fills)
        scale = f"{top:,}" if line == _HEIGHT else "0" if line == 1 else ""
        lines.append(f"{scale:>{width}} │{bars}│")
    return [f"{'':{width}} numbers busy, over {outcome.counted_ms / HOUR_MS:.4g} h", *lines]


def plot(outcome: Outcome, path: Path) -> None:
    """Draw numbers busy over time into a PNG or SVG file; needs matplotlib.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # only the extra `bench` installs it

    occupancy, overflow = outcome.occupancy, outcome.overflow
    figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    edges = [at * occupancy.sample_ms / HOUR_MS for at in range(len(occupancy.samples) + 1)]
    axes.stairs(occupancy.samples, edges, fill=True, color="#4c78a8")
    axes.axhline(outcome.rules.numbers, color="#222222", linewidth=1)
    axes.text(0, outcome.rules.numbers, f" {outcome.rules.numbers:,} numbers", va="bottom")
    axes.set(xlim=(0, edges[-1]), ylim=(0, outcome.rules.numbers * 1.1), xlabel="hours", ylabel="numbers busy")
    axes.set_title(
        f"{overflow.erlangs:,.4g} erlangs: {percent(overflow.share)} overflow, Erlang B {percent(overflow.predicted)}",
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
