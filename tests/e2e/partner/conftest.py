from collections.abc import Iterator

import pytest
import redis

from edgeproxy.store import keys
from tests.e2e.partner.clients import DOCUMENTED_NUMBER, Demo
from tests.processes import started


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo")
    arguments = ("demo", "--port", "0", "--manage-port", "0", "--data-dir", str(directory / "data"))
    with started(*arguments, stderr=directory / "log") as running:
        with redis.Redis.from_url(running.said["store:"], decode_responses=True) as store:
            store.config_set("appendfsync", "always")  # a write is acknowledged at once, not with the second's fsync
            free = [number for number in store.zrange(keys.free("demo"), 0, -1) if number != DOCUMENTED_NUMBER]
        yield Demo(running.manage + "/2.4.9", running.said["store:"], directory / "log", free)
