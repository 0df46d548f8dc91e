"""What a deployment needs: the arithmetic, and that deploy/CAPACITY.md says what it computes."""

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import machine, sizing
from benchmarks.sizing import Assumptions, CapacityError, Costs, PerCall, Table

ASSUMED = Assumptions()
COSTS = Costs(
    gateway_us=200,
    server=PerCall(250, 50),
    resolve=PerCall(200, 50),
    admit=PerCall(90, 10),
    replica_ratio=1,
    replica_us=50,
    request_bytes=700,
    answer_bytes=300,
    asked_bytes=1000,
    decided_bytes=250,
    asked_limiter_bytes=200,
    replicated_bytes=1500,
    appended_bytes=1500,
    worker_mib=100,
    session_bytes=500,
    visitor_bytes=200,
    past_lease_bytes=100,
    live_lease_bytes=100,
    visit_bytes=500,
    number_bytes=100,
    account_bytes=1000,
)
SHORT = replace(ASSUMED, leases_kept_d=1, visitors_kept_d=1, visits_kept_h=0.1)  # memory does not decide


def test_the_page_says_what_is_computed_from_the_kept_results() -> None:
    result = machine.read("capacity", machine.RESULTS)
    assert result is not None
    page = sizing.PAGE.read_text()
    computed = sizing.tables(result, Assumptions())
    assert page == sizing.filled(page, computed), "python -m benchmarks capacity --from-results --write"
    assert all(table.markdown() in page for table in computed.values())


def test_the_page_explains_every_assumption() -> None:
    page = sizing.PAGE.read_text()
    for field in fields(Assumptions):
        assert f"`--{field.name.replace('_', '-')}`" in page


def test_tables_go_to_their_places(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- computed: a -->\nold\n<!-- end -->\nafter\n")
    table = Table("A", ("what", "figure"), (("x", "1"),), "Note.")
    sizing.write(page, {"a": table})
    text = page.read_text()
    lines = "| what | figure |\n| --- | --: |\n| x | 1 |\n\nNote."
    assert text == f"before\n<!-- computed: a -->\n{lines}\n<!-- end -->\nafter\n"
    sizing.write(page, {"a": table})
    assert page.read_text() == text
    with pytest.raises(CapacityError, match="places for"):
        sizing.filled(text, {"a": table, "b": table})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.1234, "0.12"), (2.345, "2.35"), (23.45, "23.4"), (234.5, "234"), (2345, "2,340"),
        (23_456, "23,500"), (99.99, "100"), (2_345_678, "2.35 m"), (8_640_000_000, "8.64 bn"), (999_999, "1 m"),
    ],
)  # fmt: skip
def test_figures_keep_the_digits_that_mean_something(value: float, text: str) -> None:
    assert sizing.shown(value) == text


# Costs of a call ---------------------------------------------------------------------------------------------------


@given(st.floats(1, 500), st.floats(1, 500))
def test_a_fit_finds_the_two_parts(call: float, request: float) -> None:
    fit = PerCall.fit([(size, call / size + request) for size in (1, 2, 8, 64, 256)])
    assert fit.call_us == pytest.approx(call, rel=1e-6)
    assert fit.request_us == pytest.approx(request, rel=1e-6)


@given(st.lists(st.floats(1, 1000), min_size=3, max_size=3))
def test_no_part_of_a_fit_is_negative(values: list[float]) -> None:
    fit = PerCall.fit(list(zip((1, 8, 256), values, strict=True)))
    assert fit.call_us >= 0
    assert fit.request_us >= -1e-9


# What is kept ------------------------------------------------------------------------------------------------------


def test_what_is_kept() -> None:
    held = sizing.kept(3000, ASSUMED, COSTS)
    assert held.sessions == pytest.approx(100 * 30 * 86_400)  # 300 begin a second in the peak, 100 in the mean
    assert held.visitors == held.sessions
    assert held.live == pytest.approx(300 * 2100)
    assert held.numbers == pytest.approx(300 * 3000)
    assert held.visits == 3000 * 3600
    parts = 600 * held.sessions + 200 * held.visitors + 100 * held.live + 100 * held.numbers + 500 * held.visits + 1e6
    assert held.bytes == pytest.approx(parts)


def test_sessions_without_a_number_are_kept_for_their_idle_time() -> None:
    bare = replace(ASSUMED, leased=0.0, visits_kept_h=0.0)
    held = sizing.kept(3000, bare, COSTS)
    assert held.numbers == held.sessions == 0
    assert held.bytes == pytest.approx(300 * (300 + 1980) * 500 + 1e6)


# Deployments -------------------------------------------------------------------------------------------------------


def test_one_server_is_enough_for_little() -> None:
    need = sizing.plan(100, SHORT, COSTS)
    assert not need.spread
    assert (need.workers, need.clusters, need.shards, need.servers) == (1, 1, 1, 2)
    assert need.shard_busy == pytest.approx(100 * 300 / 1e6, rel=0.01)
    assert need.client_mbit == pytest.approx(100 * 1000 * 8 / 1e6)
    assert need.append_gb_day == pytest.approx(100 * 1500 / 3 * 86_400 / 1e9)


def test_a_cluster_where_one_core_is_too_few() -> None:
    need = sizing.plan(4000, SHORT, COSTS)
    assert need.spread
    assert (need.clusters, need.by_cores) == (1, math.ceil(4000 * 250e-6 * 1.25 / 0.5))
    assert need.limiter_apart
    assert need.servers == (need.shards + 1) * 2
    assert need.workers == math.ceil(4000 / 3000)
    assert need.shard_busy == pytest.approx(1.25 / need.shards, rel=0.01)


def test_memory_may_ask_for_more_primaries_than_cores() -> None:
    need = sizing.plan(1000, ASSUMED, COSTS)
    assert need.by_memory > need.by_cores
    assert need.shards == max(3, need.by_memory)
    assert need.shard_gib <= ASSUMED.shard_gib
    assert need.machine_gib == pytest.approx(2 * need.shard_gib)


def test_several_clusters_where_the_limiter_s_slot_is_too_few() -> None:
    need = sizing.plan(100_000, SHORT, COSTS)
    assert need.clusters > 1
    fewer = 100_000 / (need.clusters - 1)
    assert need.limiter_busy <= SHORT.store_busy < fewer * COSTS.admit.us(need.limiter_batch) / 1e6 * 1.05


def test_what_no_number_of_clusters_bears() -> None:
    with pytest.raises(CapacityError, match="not even"):
        sizing.plan(1000, replace(SHORT, store_busy=1e-9), COSTS)


def test_a_large_account_is_split() -> None:
    assert sizing.plan(1000, replace(SHORT, largest=0.01), COSTS).largest_parts == 1
    need = sizing.plan(10_000, replace(SHORT, largest=0.9), COSTS)
    assert need.largest_parts == math.ceil(need.largest_busy / 0.5) > 1
    need = sizing.plan(10_000, replace(ASSUMED, largest=0.2), COSTS)
    assert need.largest_parts == math.ceil(need.largest_gib / 32) > 1


@given(st.floats(1, 200_000), st.sampled_from([ASSUMED, SHORT]))
def test_every_deployment_stays_within_its_bounds(rate: float, assumed: Assumptions) -> None:
    need = sizing.plan(rate, assumed, COSTS)
    assert need.shard_busy <= assumed.store_busy + 1e-9
    assert need.limiter_busy <= assumed.store_busy
    assert need.shard_gib <= assumed.shard_gib + 1e-9
    assert need.workers * assumed.worker_busy >= rate * COSTS.gateway_us / 1e6 - 1e-6
    more = sizing.plan(rate * 2, assumed, COSTS)
    assert more.servers >= need.servers
    assert more.workers >= need.workers


def test_a_replica_is_work_for_its_primary() -> None:
    costs = replace(COSTS, replica_ratio=1.2)
    with_replica, without = (sizing.plan(500, replace(SHORT, replicas=count), costs) for count in (1, 0))
    assert with_replica.shard_busy == pytest.approx(1.2 * without.shard_busy)
    assert (with_replica.servers, without.servers) == (2, 1)
    assert without.replica_mbit == 0


# Ceilings ----------------------------------------------------------------------------------------------------------


def test_ceilings_are_in_order_and_hold() -> None:
    found = sizing.ceilings(ASSUMED, COSTS)
    assert [ceiling.planned for ceiling in found] == sorted(ceiling.planned for ceiling in found)
    slot = next(ceiling for ceiling in found if ceiling.what == "one account's slot of a cluster, calls of 1")
    assert slot.full == pytest.approx(1e6 / 250)
    assert slot.planned == pytest.approx(1e6 / 250 / 2)
    memory = sizing.memory_rate(ASSUMED, COSTS)
    assert sizing.kept(memory, ASSUMED, COSTS).bytes == pytest.approx(32 * 2**30)
