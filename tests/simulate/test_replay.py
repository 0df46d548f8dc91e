"""`edgeproxy simulate`: traces, and their replay against the store."""

import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.commands.simulate import simulate
from edgeproxy.simulate import erlang
from edgeproxy.simulate.replay import Calls, Outcome, SimulationError, _Replay, occupancy, replay
from edgeproxy.simulate.trace import Rules, Trace, TraceError, Traffic, Visitor, recorded, spells, synthetic
from tests.servers import client_of, on_primaries

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
RULES = Rules(numbers=1, idle_ttl_ms=30 * MINUTE, cooldown_ms=15 * MINUTE, max_ttl_ms=DAY)


def trace_of(*visitors: Visitor, ends: int = 10 * HOUR) -> Trace:
    return Trace(sorted(visitors, key=lambda visitor: min(visitor.pages + visitor.calls)), 0, ends)


# Traces


def leases(pages: Iterable[int], rules: Rules) -> list[tuple[int, int]]:
    """Begin and end of each lease, renewed by every page: the rule at its plainest."""
    found: list[tuple[int, int]] = []
    for at in pages:
        since = found.pop()[0] if found and at < found[-1][1] else at
        found.append((since, min(at + rules.idle_ttl_ms, since + rules.max_ttl_ms)))
    return found


@given(st.sets(st.integers(0, 200)), st.integers(1, 20), st.integers(0, 60))
def test_page_views_that_are_left_out_change_no_lease(moments: set[int], idle: int, more: int) -> None:
    rules = Rules(1, idle, 5, idle + more)
    pages = sorted(moments)
    found = spells(pages, rules)
    kept = [at for spell in found for at in spell.pages]
    assert [(spell.pages[0], spell.ends_ms) for spell in found] == leases(pages, rules) == leases(kept, rules)
    assert set(kept) <= moments


def test_page_views_are_left_out() -> None:
    (spell,) = spells(range(0, 100, 5), Rules(1, 30, 0, 1000))
    assert spell.pages == (0, 25, 50, 75, 95)


def test_a_synthetic_trace_is_what_it_says() -> None:
    traffic = Traffic(visitors_per_hour=6000, visit_ms=3 * MINUTE, calls=0.2, hours=2, seed=7)
    rules = Rules(numbers=600, idle_ttl_ms=MINUTE, cooldown_ms=2 * MINUTE, max_ttl_ms=DAY)
    trace = synthetic(traffic, rules)
    visitors = list(trace.visitors)
    assert visitors == list(synthetic(traffic, rules).visitors)
    assert trace.ends_ms - trace.counted_from_ms == 2 * HOUR
    assert trace.counted_from_ms > 2 * traffic.hold_ms(rules)
    begins = [visitor.pages[0] for visitor in visitors]
    assert begins == sorted(begins)
    counted = [visitor for visitor in visitors if visitor.pages[0] >= trace.counted_from_ms]
    assert len(counted) == pytest.approx(12_000, rel=0.03)
    assert sum(v.pages[-1] - v.pages[0] for v in counted) / len(counted) == pytest.approx(3 * MINUTE, rel=0.03)
    callers = [visitor for visitor in counted if visitor.calls]
    assert len(callers) == pytest.approx(0.2 * len(counted), rel=0.1)
    places = []
    for visitor in visitors:
        assert all(0 < later - page < rules.idle_ttl_ms for page, later in itertools.pairwise(visitor.pages))
        (spell,) = spells(visitor.pages, rules)
        assert spell.ends_ms == visitor.pages[-1] + rules.idle_ttl_ms
        busy = spell.busy_until_ms(rules) - visitor.pages[0]
        places += [(call - visitor.pages[0]) / busy for call in visitor.calls]
    assert min(places) >= 0
    assert max(places) < 1
    assert sum(places) / len(places) == pytest.approx(0.5, abs=0.03)


def test_other_seeds_make_other_visitors() -> None:
    one, other = (list(synthetic(Traffic(60, MINUTE, 0, 1, seed), RULES).visitors) for seed in (1, 2))
    assert one != other


def test_a_recorded_trace(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(
        '{"at": 1800000060, "visitor": "b", "event": "page"}\n'
        '{"at": 1800000030.5, "visitor": "a", "event": "call"}\n\n'
        '{"at": 1800000000, "visitor": "a", "event": "page"}\n'
        '{"at": 1800000000.0004, "visitor": "a", "event": "page"}\n'
        '{"at": 1800010000, "visitor": "c", "event": "call"}\n'
    )
    trace = recorded(file, RULES)
    assert trace.visitors == [
        Visitor("a", (0,), (30_500,)), Visitor("b", (60_000,), ()), Visitor("c", (), (10_000_000,)),
    ]  # fmt: skip
    assert (trace.counted_from_ms, trace.ends_ms) == (45 * MINUTE, 10_000_001)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", [": there are no events"]),
        ("\n{", [":2: is no JSON"]),
        ('{"at": 1, "visitor": "a"}', [":1: event: is required"]),
        ('{"at": 1, "visitor": "a", "event": "page", "url": "/"}', [":1: url: there is no such field"]),
        ('{"at": "1", "visitor": "a", "event": "page"}', [":1: at: must be a number"]),
        ('{"at": 1e999, "visitor": "a", "event": "page"}', [":1: at: "]),
        ('{"at": 1, "visitor": "", "event": "visit"}', [":1: visitor: is empty", ":1: event: must be page or call"]),
        ('{"at": 1, "visitor": "a", "event": "page"}\n[]\n', [":2: must be a mapping"]),
        ("x\n" * 25, [*[f":{line}: is no JSON" for line in range(1, 11)], "and 15 more faults"]),
        (
            '{"at": 1, "visitor": "a", "event": "page"}\n{"at": 1e9, "visitor": "a", "event": "page"}',
            ["longer than a year"],
        ),
    ],
)
def test_a_recorded_trace_is_refused_with_its_lines(tmp_path: Path, text: str, faults: Sequence[str]) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(text)
    with pytest.raises(TraceError) as refused:
        recorded(file, RULES)
    lines = str(refused.value).splitlines()
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert fault in line


# Occupancy


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 120))), st.integers(0, 100), st.integers(1, 300))
def test_occupancy_counts_what_is_busy(intervals: list[tuple[int, int]], begin: int, length: int) -> None:
    busy = [(at, at + long) for at, long in intervals]
    counts = [sum(since <= at < until for since, until in busy) for at in range(begin, begin + length)]
    found = occupancy(busy, begin, begin + length)
    assert (found.least, found.most) == (min(counts), max(counts))
    assert found.mean == pytest.approx(sum(counts) / length)
    assert sum(found.samples) / len(found.samples) == pytest.approx(found.mean)
    assert all(found.least - 1e-6 <= sample <= found.most + 1e-6 for sample in found.samples)


# Replay


async def test_a_replay_tells_what_becomes_of_each_visitor_and_call(store_url: str) -> None:
    busy = 45 * MINUTE
    trace = trace_of(
        Visitor("first", (0,), (0, 30 * MINUTE, busy - 1)),  # in its lease, and in the cooldown after it
        Visitor("refused", (MINUTE, 2 * MINUTE, busy + 60), (5 * MINUTE,)),  # the second page does not ask again
        Visitor("late", (), (10,)),  # calls without having seen a page
        Visitor("next", (busy,), (2 * busy,)),
        Visitor("first again", (10 * busy,), (12 * busy - 1,)),
    )
    outcome = await replay(store_url, trace, RULES)
    assert outcome.calls == Calls(unique=3, ambiguous=0, wrong=0, none=2, untracked=2)
    # "refused" would have had its lease until minute 32; its third page is another visit, and the number is busy again
    assert (outcome.overflow.asked, outcome.overflow.refused) == (5, 2)
    assert outcome.occupancy.least == 0
    assert outcome.occupancy.most == 1
    assert outcome.occupancy.mean == pytest.approx(3 * busy / (10 * HOUR))
    assert outcome.overflow.erlangs == pytest.approx((5 * busy + MINUTE) / (10 * HOUR))
    assert outcome.overflow.predicted == erlang.blocking(outcome.overflow.erlangs, 1)


async def test_a_call_after_the_cooldown_is_somebody_elses(store_url: str) -> None:
    late = Visitor("late", (0,), (46 * MINUTE,))
    outcome = await replay(store_url, trace_of(late, Visitor("next", (45 * MINUTE,), ())), RULES)
    assert outcome.calls == Calls(unique=0, ambiguous=0, wrong=1, none=0, untracked=0)


async def test_a_visit_beyond_max_ttl_goes_on_with_another_number(store_url: str) -> None:
    rules = Rules(numbers=2, idle_ttl_ms=30 * MINUTE, cooldown_ms=15 * MINUTE, max_ttl_ms=HOUR)
    long = Visitor("long", tuple(range(0, 2 * HOUR, 10 * MINUTE)), (59 * MINUTE, 61 * MINUTE, 110 * MINUTE))
    outcome = await replay(store_url, trace_of(long), rules)
    assert outcome.overflow.asked == 2
    assert outcome.occupancy.most == 2
    assert outcome.calls.unique == 3


async def test_a_replay_goes_on_for_weeks(store_url: str) -> None:
    visitors = [Visitor(str(day), (day * DAY,), (day * DAY + 40 * MINUTE,)) for day in range(0, 40, 5)]
    outcome = await replay(store_url, trace_of(*visitors, ends=41 * DAY), RULES)
    assert (outcome.overflow.refused, outcome.calls.unique) == (0, 8)


async def test_visitors_of_one_moment_are_served_in_their_order(store_url: str) -> None:
    crowd = [Visitor(str(serial), (5, 10 * MINUTE), (MINUTE,)) for serial in range(600)]
    rules = Rules(500, RULES.idle_ttl_ms, RULES.cooldown_ms, RULES.max_ttl_ms)
    outcome = await replay(store_url, trace_of(*crowd), rules)
    assert (outcome.overflow.asked, outcome.overflow.refused) == (600, 100)
    assert (outcome.calls.unique, outcome.calls.untracked) == (500, 100)


async def test_a_seed_gives_one_result_and_every_call_its_visitor(store_url: str) -> None:
    traffic = Traffic(visitors_per_hour=2000, visit_ms=3 * MINUTE, calls=0.3, hours=0.3, seed=3)
    rules = Rules(numbers=60, idle_ttl_ms=2 * MINUTE, cooldown_ms=20_000, max_ttl_ms=DAY)
    outcomes: list[Outcome] = []
    passed: list[int] = []
    for _ in range(2):
        trace = synthetic(traffic, rules)
        outcomes.append(await replay(store_url, trace, rules, passed.append))
        with client_of(store_url) as client:
            on_primaries(client, "FLUSHALL")
    one, other = outcomes
    assert one == other
    assert sum(passed) == 2 * trace.ends_ms
    calls = one.calls
    assert (calls.ambiguous, calls.wrong, calls.none) == (0, 0, 0)
    assert calls.unique > 30
    assert one.occupancy.most == 60
    assert one.overflow.share == pytest.approx(one.overflow.predicted, rel=0.1)


async def test_a_store_that_gives_a_number_to_two_is_found_out(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    init = _Replay.__init__

    def misled(self: _Replay, *arguments: Any) -> None:
        init(self, *arguments)
        self._busy_until["+493010000000"] = HOUR

    monkeypatch.setattr(_Replay, "__init__", misled)
    with pytest.raises(SimulationError, match="while somebody else had it"):
        await replay(store_url, trace_of(Visitor("a", (0,), ())), RULES)


# The command


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, arguments)


@pytest.fixture
def trace_file(tmp_path: Path) -> str:
    file = tmp_path / "trace.jsonl"
    events = [(0, "a", "page"), (3000, "b", "page"), (3001, "c", "page"), (5000, "b", "call"), (6000, "c", "call")]
    file.write_text("".join(json.dumps({"at": at, "visitor": who, "event": what}) + "\n" for at, who, what in events))
    return str(file)


def test_a_recorded_trace_is_replayed(trace_file: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "occupancy.svg"
    result = invoke("--trace", trace_file, "--numbers", "1", "--json", "--plot", str(picture))
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    assert outcome["rules"] == {
        "numbers": 1, "idle_ttl_ms": 1_800_000, "cooldown_ms": 900_000, "max_ttl_ms": 86_400_000,
    }  # fmt: skip
    assert outcome["warm_up_ms"] == 45 * MINUTE
    assert outcome["calls"] == {"unique": 1, "ambiguous": 0, "wrong": 0, "none": 0, "untracked": 1}
    assert outcome["overflow"]["share"] == 0.5
    assert "<svg" in picture.read_text()
    assert "simulating" not in result.stdout


def test_the_result_in_words(trace_file: str) -> None:
    lines = invoke("--trace", trace_file, "--numbers", "1").stdout.splitlines()
    assert lines[0] == "pool       1 numbers, idle_ttl 30m, cooldown 15m, max_ttl 1d"
    assert lines[3] == "occupancy  0 to 1 numbers busy, 0.8 on average"
    assert lines[4] == "overflow   50 % (1 of 2 leases); Erlang B predicts 62.1 %"
    assert lines[5] == (
        "calls      1: 1 attributed uniquely, 0 ambiguously, 0 wrongly, 0 not at all; 1 more on the page's own number"
    )
    assert lines[8] == "1 │" + 6 * " " + 48 * "█" + 6 * " " + "│"
    assert lines[15] == "0 │" + 5 * " " + 50 * "█" + 5 * " " + "│"


def test_synthetic_visitors_are_replayed() -> None:
    result = invoke(
        "--visitors-per-hour", "600", "--hours", "0.1", "--idle-ttl", "1m", "--cooldown", "30s", "--visit", "30s",
        "--calls", "100%",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "pool       30 numbers" in result.stdout
    assert "0 ambiguously, 0 wrongly, 0 not at all" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--hours", "nan"], "Invalid value for '--hours'"),
        (["--hours", "0"], "Invalid value for '--hours'"),
        (["--numbers", "100001"], "Invalid value for '--numbers'"),
        (["--cooldown", "-1s"], "Invalid value for '--cooldown'"),
        (["--calls", "2"], "Invalid value for '--calls'"),
        (["--idle-ttl", "2h", "--max-ttl", "1h"], "Invalid value for '--max-ttl': is shorter than --idle-ttl"),
        (["--plot", "x.pdf"], "Invalid value for '--plot'"),
        (["--trace", "/nowhere"], "Invalid value for '--trace'"),
        (["--visitors-per-hour", "1000000", "--idle-ttl", "1h"], "give --numbers"),
    ],
)
def test_a_wrong_option_is_named(arguments: list[str], why: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_trace_has_its_own_visitors_and_no_size_of_pool(trace_file: str, tmp_path: Path) -> None:
    assert "--trace needs --numbers" in invoke("--trace", trace_file).stderr
    seeded = invoke("--trace", trace_file, "--numbers", "1", "--seed", "2").stderr
    assert "Invalid value for '--seed': is of synthetic visitors" in seeded
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    result = invoke("--trace", str(bad), "--numbers", "1")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (1, f"Error: {bad}:1: at: is required")


def test_a_picture_needs_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = invoke("--plot", "x.png")
    assert (result.exit_code, "pip install '.[bench]'" in result.stderr) == (1, True)
