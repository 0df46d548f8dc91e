"""How often a client IP has failed to prove itself."""

from edgeproxy.store import keys
from edgeproxy.store.access import Failures
from tests.conftest import Desk


async def test_failed_logins_are_counted_for_a_minute(desk: Desk) -> None:
    failures = Failures(desk.store)
    for _ in range(3):
        await failures.add("192.0.2.1")
    assert await failures.of("192.0.2.1") == 3
    assert 0 < await desk.redis.pttl(keys.failures("192.0.2.1")) <= 60_000
