"""`edgeproxy erase`."""

from tests.commands.running import run
from tests.conftest import DEMO


def test_erase_gives_a_receipt_and_takes_one_person_at_a_time(store_url: str) -> None:
    assert run(store_url, "load", str(DEMO)).exit_code == 0
    result = run(store_url, "erase", "--account", "demo", "--tracking-id", "me")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        ["sessions: 0", "leases: 0", "visits: 0", "visitors: 0", "calls: 0"],
    )
    for arguments in ((), ("--tracking-id", "me", "--caller", "+49301234567"), ("--caller", "x")):
        assert run(store_url, "erase", "--account", "demo", *arguments).exit_code == 1
    result = run(store_url, "erase", "--account", "demo", "--caller", "+49 1")
    assert result.output.endswith("--caller: is not a phone number\n")
    assert "+49 1" not in result.output
    assert run(store_url, "erase", "--account", "nobody", "--session-id", "x").exit_code == 1
