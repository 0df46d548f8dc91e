from collections.abc import AsyncIterator

import pytest

from tests.calls.api import Api, account_served
from tests.conftest import Clock, Desk


@pytest.fixture
async def api(store_url: str, clock: Clock, desk: Desk) -> AsyncIterator[Api]:
    async with account_served(store_url, clock, desk) as edge:
        yield Api(edge, clock)
