"""`edgeproxy user`."""

from typing import Any

from edgeproxy.store import keys
from tests.commands.running import run


def test_a_removed_user_is_gone(client: Any, store_url: str) -> None:
    assert run(store_url, "user", "remove", "leaver").stdout == "leaver is removed\n"
    assert client.hkeys(keys.USERS) == []
    result = run(store_url, "user", "remove", "leaver")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "there is no user leaver")
