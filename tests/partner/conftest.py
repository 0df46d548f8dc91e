from collections.abc import AsyncIterator

import pytest

from tests.partner.client import Api, logged_in


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    async with logged_in(store_url) as api:
        yield api
