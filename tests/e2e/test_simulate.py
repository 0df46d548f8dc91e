"""At 10,000 visitors an hour: every call leads to its visitor, and a pool overflows as often as Erlang B says."""

import json

import pytest
from click.testing import CliRunner

from edgeproxy.commands.simulate import simulate

pytestmark = pytest.mark.slow


def test_every_call_is_attributed_and_the_overflow_is_as_erlang_says() -> None:
    """A pool that is too small on purpose: with 17 % blocked, chance moves the share by about 1 % of itself."""
    options = {
        "--visitors-per-hour": "10000", "--hours": "1", "--numbers": "1100", "--calls": "10%",
        "--visit": "3m", "--idle-ttl": "4m", "--cooldown": "1m", "--seed": "1",
    }  # fmt: skip
    result = CliRunner().invoke(simulate, ["--json", *[word for pair in options.items() for word in pair]])
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    calls, overflow = outcome["calls"], outcome["overflow"]
    assert calls["unique"] > 500
    assert (calls["ambiguous"], calls["wrong"], calls["none"]) == (0, 0, 0)
    assert overflow["asked"] == pytest.approx(10_000, rel=0.05)
    assert overflow["share"] > 0.1
    assert overflow["share"] == pytest.approx(overflow["predicted"], rel=0.05)
