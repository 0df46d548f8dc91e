"""Erlang's formula B, and `edgeproxy pool size`, which asks it."""

import math
from fractions import Fraction

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.commands import main
from edgeproxy.simulate.erlang import blocking, numbers_for

LOADS = st.floats(0.01, 2000)


@pytest.mark.parametrize(
    ("erlangs", "numbers", "share"),
    [(10, 18, 0.0071), (10, 17, 0.0129), (10, 10, 0.2146), (1, 1, 0.5), (1, 2, 0.2), (100, 117, 0.0098), (5, 0, 1)],
)
def test_known_shares(erlangs: float, numbers: int, share: float) -> None:
    assert blocking(erlangs, numbers) == pytest.approx(share, abs=5e-5)


def test_known_sizes() -> None:
    assert numbers_for(10, 0.01) == 18
    assert numbers_for(100, 0.01) == 117
    assert numbers_for(10, 1) == 0


@given(st.fractions(Fraction(1, 100), 40, max_denominator=100), st.integers(0, 40))
def test_the_recursion_is_the_formula(erlangs: Fraction, numbers: int) -> None:
    terms = [erlangs**count / math.factorial(count) for count in range(numbers + 1)]
    assert blocking(float(erlangs), numbers) == pytest.approx(float(terms[-1] / sum(terms)), rel=1e-12)


@given(LOADS, st.integers(0, 3000))
def test_more_numbers_block_less_and_more_visitors_are_blocked_more(erlangs: float, numbers: int) -> None:
    share = blocking(erlangs, numbers)
    assert 0 <= share <= 1
    assert blocking(erlangs, numbers + 1) <= share <= blocking(erlangs * 1.01, numbers)
    assert share >= 1 - numbers / erlangs - 1e-12  # what no pool of this size can carry


@given(LOADS, st.floats(1e-6, 0.999))
def test_a_size_is_the_least_that_does(erlangs: float, share: float) -> None:
    numbers = numbers_for(erlangs, share)
    assert blocking(erlangs, numbers) <= share < blocking(erlangs, numbers - 1)


def test_large_pools_neither_overflow_nor_vanish() -> None:
    assert blocking(100_000, 100_000) == pytest.approx(math.sqrt(2 / (math.pi * 100_000)), rel=0.01)
    assert blocking(1, 100_000) == 0
    assert blocking(1e300, 1000) == pytest.approx(1)


@pytest.mark.parametrize("erlangs", [-1, math.nan, math.inf])
def test_a_load_that_is_none_is_refused(erlangs: float) -> None:
    with pytest.raises(ValueError, match="load"):
        blocking(erlangs, 1)
    with pytest.raises(ValueError, match="load"):
        numbers_for(erlangs, 0.5)


def test_a_share_or_a_count_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="pools"):
        blocking(1, -1)
    for share in (0, 1.01, math.nan):
        with pytest.raises(ValueError, match="share"):
            numbers_for(1, share)


@pytest.mark.parametrize("share", ["1%", "0.01", "1 %"])
def test_pool_size(share: str) -> None:
    options = ["--visitors-per-hour", "600", "--hold", "1m", "--blocking", share]
    result = CliRunner().invoke(main, ["pool", "size", *options])
    assert result.output.splitlines() == [
        "18 numbers for 10 erlangs: 0.714 %",
        "with 16 it would be 2.23 %",
        "with 20 it would be 0.187 %",
    ]


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--visitors-per-hour", "0", "0 is not in the range"),
        ("--visitors-per-hour", "many", "'many' is not a valid integer"),
        ("--hold", "5 minutes", "must be a time such as 1500ms, 2s, 30m, 24h or 7d"),
        ("--hold", "0s", "must be more than 0"),
        ("--blocking", "low", "not a share such as 1% or 0.01"),
        ("--blocking", "nan", "not between 0% and 100%"),
        ("--blocking", "101%", "not between 0% and 100%"),
        ("--blocking", "0", "not more than 0% and less than 100%"),
        ("--blocking", "100%", "not more than 0% and less than 100%"),
    ],
)
def test_pool_size_names_the_option_that_is_wrong(option: str, value: str, why: str) -> None:
    options = {"--visitors-per-hour": "600", "--hold": "1m", "--blocking": "1%"} | {option: value}
    result = CliRunner().invoke(main, ["pool", "size", *[word for pair in options.items() for word in pair]])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output
    assert why in result.output


def test_pool_size_ends_for_any_load() -> None:
    result = CliRunner().invoke(main, ["pool", "size", "--visitors-per-hour", "100000000", "--hold", "30d"])
    assert result.exit_code == 2
    assert "at most 10,000,000" in result.output
