"""What a worker goes by while the store is away: the numbers it has lately shown, and who asks how often."""

from collections import deque

from cachetools import LRUCache

SHOWN_MOST = 64 * 1024**2  # bytes of memory for numbers shown, of both its generations; see deploy/CAPACITY.md
CLIENTS_KEPT = 16_384  # client IPs whose windows are known
_SESSION_BYTES, _NUMBER_BYTES = 500, 240  # what a session takes there, and each of its numbers, at most
_NUMBERS_REMEMBERED_MOST = 256  # of one session


class Memory:
    """The numbers this worker has lately shown to sessions, for when the store does not answer.

    Two generations of a plain dict: when the young one has half of the bytes that both may take (`most`), or is as old
    as memories last, it becomes the old one.
    """

    def __init__(self, life_s: float, most: int = SHOWN_MOST) -> None:
        self._life_s = life_s
        self._half = most // 2
        self._taken = 0  # bytes, of the young one
        self._young: dict[tuple[str, str], dict[str, tuple[float, str]]] = {}
        self._old: dict[tuple[str, str], dict[str, tuple[float, str]]] = {}
        self._turned = 0.0

    def keep(self, account: str, session_id: str, shown: dict[str, tuple[float, str]], now: float) -> None:
        """Remember what was shown: number on page (E.164) → when, and the tracking number."""
        young = self._young
        if self._taken >= self._half or now - self._turned > self._life_s:
            self._old, self._turned = young, now
            young, self._taken = {}, 0
            self._young = young
        known = young.get((account, session_id))
        if known is None:
            young[account, session_id] = shown
            self._taken += _SESSION_BYTES + _NUMBER_BYTES * len(shown)
        elif len(known) <= _NUMBERS_REMEMBERED_MOST:
            before = len(known)
            known.update(shown)
            self._taken += _NUMBER_BYTES * (len(known) - before)
        else:
            young[account, session_id] = shown
            self._taken += _NUMBER_BYTES * len(shown)  # what they replace goes with the generation

    def recall(self, account: str, session_id: str, on_page: str, since: float) -> str | None:
        """The number that the session was shown for `on_page` at `since` or later."""
        key = (account, session_id)
        for generation in (self._young, self._old):
            when, number = generation.get(key, {}).get(on_page, (0.0, ""))
            if number and when >= since:
                return number
        return None


class Windows:
    """The limiter while the store is away: so many requests of a client IP in any second, of this worker alone."""

    def __init__(self) -> None:
        self._passed: LRUCache[str, deque[float]] = LRUCache(CLIENTS_KEPT)

    def take(self, ip: str, limit: int, now: float) -> bool:
        """Take a place in the IP's window; False if there is none. `now` is in s."""
        passed = self._passed.get(ip)
        if passed is None:
            passed = self._passed[ip] = deque()
        while passed and now - passed[0] > 1:
            passed.popleft()
        if len(passed) >= limit:
            return False
        passed.append(now)
        return True
