"""Erlang B: the share of visitors who find every number of a pool busy.

A. K. Erlang, *Solution of some problems in the theory of probabilities of significance in automatic telephone
exchanges* (1917); dimensioning by it is ITU-T E.501's and E.520's subject. It holds for visitors who arrive
independently of one another (Poisson), whatever the distribution of the time for which a number is busy, and who do not
come again when nothing was free.

A number is busy from the lease's begin to the end of its cooldown (`dynamic/README.md`, *Leases*), so the offered load
in erlangs is visitors per second × mean seconds of visit, `idle_ttl` and `cooldown` together.
"""

import math


def blocking(erlangs: float, numbers: int) -> float:
    """The share of visitors (0 to 1) for whom none of `numbers` is free.

    By the recursion B(0) = 1, B(n) = A·B(n−1) / (n + A·B(n−1)): all terms are positive and at most 1, so nothing
    overflows and errors do not grow, unlike in the quotient of A^n/n! and its sum.

    Raises:
        ValueError: the load or the count is negative, or the load is not finite.
    """
    _check(erlangs)
    if numbers < 0:
        raise ValueError("there are no pools of less than 0 numbers")
    share = 1.0
    for count in range(1, numbers + 1):
        share = erlangs * share / (count + erlangs * share)
    return share


def numbers_for(erlangs: float, blocking: float) -> int:
    """The fewest numbers with which at most the share `blocking` (above 0, at most 1) of visitors finds none free.

    Takes time in proportion to the load.

    Raises:
        ValueError: the load is negative or not finite, or the share is out of its range.
    """
    _check(erlangs)
    if not 0 < blocking <= 1:
        raise ValueError("a share of blocked visitors is above 0 and at most 1")
    share, count = 1.0, 0
    while share > blocking:
        count += 1
        share = erlangs * share / (count + erlangs * share)
    return count


def _check(erlangs: float) -> None:
    if not 0 <= erlangs < math.inf:
        raise ValueError("a load is a finite number of erlangs, at least 0")
