"""What became of a page's numbers, and who counts as a crawler: as the access log tells it."""

import json
from typing import Any

import pytest

from edgeproxy.accounts import file as account_file
from edgeproxy.store import Store, inventory
from tests.conftest import BROWSER, Edge, serving, web_request

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
OWN = """
accounts:
  own:
    secrets: [own-key]
    region: DE
    crawlers: {add: [acme-MONITOR, "node (x"], ignore: [acme-app]}
    pools: {p: {replaces: [+493015981100], numbers: [+493015981191, +493015981192]}}
"""


async def outcome(edge: Edge, capsys: pytest.CaptureFixture[str], key: str = "freespee", **changes: Any) -> str:
    """The outcome that the access log tells of one request."""
    capsys.readouterr()
    await edge.post(web_request(**changes), key)
    (line,) = capsys.readouterr().out.splitlines()
    return str(json.loads(line)["outcome"])


async def test_the_access_log_tells_what_became_of_the_numbers(
    store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(store_url, access_log=True) as edge:
        assert await outcome(edge, capsys) == "success"
        assert await outcome(edge, capsys, numbers="+493015981100,+493055555555") == "success"
        assert await outcome(edge, capsys, numbers="+493055555555") == "no_pool"
        assert await outcome(edge, capsys, numbers="12") == "success"
        assert await outcome(edge, capsys, dryRun=True) == "dry_run"
        assert await outcome(edge, capsys, userAgent=GOOGLEBOT) == "crawler"
        assert await outcome(edge, capsys, userAgent=GOOGLEBOT, dryRun=True) == "crawler"
        assert await outcome(edge, capsys, userAgent=GOOGLEBOT, numbers="+493055555555") == "no_pool"
        assert await outcome(edge, capsys, "wrong") == "invalid_signature"
        tiny = {"advId": "tiny", "numbers": "+442079460000"}
        shared = {"advId": "shared", "numbers": "+442079460010"}
        recycle = {"advId": "recycle", "numbers": "+442079460020"}
        assert [await outcome(edge, capsys, "tiny-key", **tiny) for _ in range(4)] == ["success"] * 3 + ["original"]
        assert [await outcome(edge, capsys, "shared-key", **shared) for _ in range(3)] == ["success"] * 2 + ["shared"]
        assert [await outcome(edge, capsys, "recycle-key", **recycle) for _ in range(3)] == ["success"] * 3


async def test_an_account_mends_the_list_of_crawlers(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(store_url, access_log=True) as edge, Store(store_url) as store:
        file = account_file.parse(OWN.encode())
        await inventory.apply(store, await inventory.compare(store, file))
        for agent, seen in [
            (f"{BROWSER} Acme-Monitor/2", "crawler"),
            ("node (X)", "crawler"),
            (GOOGLEBOT, "crawler"),
            (f"{GOOGLEBOT} ACME-APP/1", "success"),
            ("acme-monitor acme-app", "success"),
            (BROWSER, "original"),
        ]:
            assert await outcome(edge, capsys, "own-key", advId="own", userAgent=agent) == seen, agent
        assert await outcome(edge, capsys, advId="demo", userAgent=f"{BROWSER} Acme-Monitor/2") == "success"
