"""How one account of the store differs from an account file."""

from dataclasses import dataclass, field
from typing import NamedTuple

FREE = "free"  # the state of a number that is in no pool, and that nothing uses


class Move(NamedTuple):
    """Numbers that leave a pool, or those in no pool, and numbers that enter; for how long they cool down there."""

    leaving: list[str]
    entering: list[str]
    cooldown_ms: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """How one account of the store differs from the file. `lines` say it for people, without a secret in them."""

    account: str
    version: str  # what the store had when it was compared; "" where it had no such account
    config: bytes = field(repr=False)  # it holds secrets, sealed if the store's `Seal` has keys
    moves: dict[str, Move]  # by pool
    free: Move  # of the numbers in no pool
    ending_tokens: list[str] = field(repr=False)  # hashes of access tokens
    beginning_tokens: list[str] = field(repr=False)
    owned: list[str]  # every number that the account is to own
    claimed: list[str]  # those of them that it did not have
    given_up: list[str]
    leases_kept_ms: int
    lines: tuple[str, ...]

    def names(self) -> list[str]:
        """The names of what changes, without what it was or will be."""
        return [line.partition(":")[0] for line in self.lines]
