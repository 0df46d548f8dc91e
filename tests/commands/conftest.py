"""What tests of commands find in the store."""

from typing import Any

import pytest

from edgeproxy.store import removal
from tests.commands.running import run
from tests.conftest import DEMO
from tests.servers import client_of, tells_what_is_on_disk


@pytest.fixture(autouse=True)
def _no_last_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_LAST_REQUESTS_S", 0)


@pytest.fixture
def client(store_url: str) -> Any:
    """The store with the demo's accounts and a user `leaver`; skips where the server cannot tell what is on disk."""
    with client_of(store_url) as client:
        if not tells_what_is_on_disk(client):
            pytest.skip("this server cannot tell what is on disk")
        assert run(store_url, "load", str(DEMO)).exit_code == 0
        assert run(store_url, "user", "add", "leaver", "--account", "demo").exit_code == 0
        yield client
