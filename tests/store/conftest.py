import pytest

from tests.conftest import Desk
from tests.store.office import Office, accounts


@pytest.fixture
async def office(desk: Desk) -> Office:
    await desk.load(accounts())
    return Office(desk, await desk.account("x"))
