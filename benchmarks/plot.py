"""One picture of the results: CPU per request beside the peers, latency over load."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks import machine
from benchmarks.compare import cost
from benchmarks.load import Spread
from benchmarks.peers import BARE, FASTAPI, GATEWAY, NGINX

_SERVERS = (BARE, GATEWAY, NGINX, FASTAPI)  # from the top
_SERVER, _STORE, _OURS = "#4c78a8", "#f2a65a", "#1f4e79"
_LINES = (("p50_ms", "p50", "#6baed6"), ("p99_ms", "p99", "#4c78a8"), ("p999_ms", "p99.9", "#1f4e79"))
_BUDGET_MS = 50
_INK, _FAINT = "#222222", "#8a8a8a"


def draw(directory: Path) -> Path:
    """Draw what has been measured, of `peers` and `open`, into overview.png.

    Raises:
        FileNotFoundError: neither has been measured.
    """
    compared, loops = machine.read("peers", directory), machine.read("open", directory)
    panels = [(paint, result) for paint, result in ((_peers, compared), (_latency, loops)) if result is not None]
    if not panels:
        raise FileNotFoundError(f"there are no results of peers or open in {directory}")
    figure = Figure(figsize=(6.4 * len(panels), 5), dpi=110, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for (paint, result), panel in zip(panels, axes[0], strict=True):
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(_FAINT)
        panel.tick_params(colors=_INK, length=0)
        paint(panel, result)
    conditions = panels[0][1]["machine"]
    versions = conditions["versions"]
    figure.supxlabel(
        f"{conditions['cpu']}, {conditions['cores']} cores · Python {versions['python']} · "
        f"aiohttp {versions['aiohttp']} · {versions['store']} · {conditions['date'][:10]}",
        fontsize=8,
        color=_FAINT,
    )
    path = directory / "overview.png"
    figure.savefig(path)
    return path


def _peers(axes: Axes, result: dict[str, Any]) -> None:
    counts = sorted({entry["connections"] for entry in result["timings"]})
    rounds = {(entry["connections"], entry["server"]): entry["rounds"] for entry in result["timings"]}
    widest = max(_median(those, "total") for those in rounds.values())
    height = 0.8 / len(counts)
    for place, name in enumerate(_SERVERS):
        for at, count in enumerate(counts):
            those = rounds[count, name]
            y = place - 0.4 + height * (at + 0.5)
            server, store = _median(those, "server"), _median(those, "store")
            first = place == at == 0
            axes.barh(y, server, color=_SERVER, label="server" if first else None, height=height * 0.9)
            axes.barh(y, store, left=server, color=_STORE, label="store" if first else None, height=height * 0.9)
            text = f"{_median(those, 'total'):.0f} µs"
            axes.text(server + store + widest * 0.012, y, text, va="center", fontsize=9, color=_INK)
            axes.text(widest * 0.012, y, f"{count}", va="center", fontsize=8, color="white")
    axes.set_yticks(range(len(_SERVERS)), _SERVERS)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == GATEWAY else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0, widest * 1.13)
    axes.set_xlabel("µs of CPU per request (median of interleaved rounds; in the bars: connections)", color=_INK)
    axes.set_title("CPU per request, the store included", loc="left", fontsize=12, color=_INK)
    axes.legend(frameon=False, loc="upper right")


def _median(rounds: list[dict[str, Any]], of: str) -> float:
    return Spread.of([cost(timing, of) for timing in rounds]).median


def _latency(axes: Axes, result: dict[str, Any]) -> None:
    rows = result["loops"]
    rates = [row["rate"] for row in rows]
    for key, name, colour in _LINES:
        values = [row[key] for row in rows]
        axes.plot(rates, values, marker="o", color=colour, linewidth=2)
        axes.annotate(
            name, (rates[-1], values[-1]), xytext=(8, 0), textcoords="offset points", va="center", color=colour
        )
    axes.axhline(_BUDGET_MS, color="#c0392b", linestyle="--", linewidth=1)
    axes.text(rates[0], _BUDGET_MS * 1.06, "the budget, 50 ms", color="#c0392b", fontsize=9)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xticks(rates, [f"{row['level']:.0%}\n{row['rate']:.0f}/s" for row in rows])
    axes.set_xlim(rates[0] - 0.08 * rates[-1], rates[-1] * 1.12)
    axes.set_xlabel("load, of the closed loop's maximum", color=_INK)
    axes.set_ylabel("ms from the moment a request is due", color=_INK)
    axes.set_title("Latency over load, one worker", loc="left", fontsize=12, color=_INK)
