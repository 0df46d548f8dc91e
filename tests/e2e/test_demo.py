"""`edgeproxy demo` as a newcomer meets it."""

import asyncio
import json
import signal
import time
from pathlib import Path

import aiohttp
import orjson
import pytest
import redis

from edgeproxy.dynamic import signature
from edgeproxy.store import keys
from tests.conftest import check_keys, web_request
from tests.processes import pasted, run, started

pytestmark = pytest.mark.slow

DEMO = ("demo", "--port", "0", "--manage-port", "0", "--data-dir")


async def post(client: aiohttp.ClientSession, url: str, request: dict[str, object], key: str, ip: str) -> int:
    body = orjson.dumps(request)
    headers = {"X-SIGN": signature.sign(body, key.encode()), "X-HTTP-STATUSES": "", "X-Forwarded-For": ip}
    async with client.post(url + "/api", data=body, headers=headers) as response:
        await response.read()
        return response.status


def test_what_it_prints_works_when_pasted(tmp_path: Path) -> None:
    begun = time.monotonic()
    with started(*DEMO, str(tmp_path / "data")) as demo:
        assert time.monotonic() - begun < 5
        assert list(demo.said) == ["store:", "edge:", "manage:", "docs:", "curl", "ready"]
        answer = json.loads(pasted("curl " + demo.said["curl"]))
        assert answer["success"] is True
        (number,) = answer["numbers"]
        assert number["replace_with"] == {"e164": "+493015981151", "local": "030 15 98 11 51"}
        assert pasted(f"curl -s {demo.manage}/readyz") == "ready\n"
        assert pasted(f"curl -sL {demo.manage}") == pasted(f"curl -s {demo.said['docs:']}")
        with redis.Redis.from_url(demo.said["store:"], decode_responses=True) as store:
            check_keys(store)
        assert demo.stop(signal.SIGINT) == 0


def test_a_second_start_finds_the_same_leases(tmp_path: Path) -> None:
    shown = []
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        with started(*DEMO, str(tmp_path / "data")) as demo:
            shown.append(json.loads(pasted("curl " + demo.said["curl"])))
            with redis.Redis.from_url(demo.said["store:"], decode_responses=True) as store:
                leases = store.zrange(keys.pool("demo", "berlin")[1], 0, -1)
            assert leases == [f"+493015981151:{shown[0]['sessionId']}"]
            assert demo.stop(signal_number) == 0
    assert shown[1] == shown[0]  # the pasted request's visitor has no session id, and joins the lease that lives on


def test_a_data_dir_serves_one_demo_at_a_time(tmp_path: Path) -> None:
    with started(*DEMO, str(tmp_path / "data")) as demo:
        second = run(*DEMO, str(tmp_path / "data"))
        assert second.returncode == 1
        assert f"is in use by process {demo.process.pid}" in second.stderr
        assert "--data-dir" in second.stderr


def test_a_demo_that_was_killed_leaves_nothing_behind_and_starts_again(tmp_path: Path) -> None:
    with started(*DEMO, str(tmp_path / "data")) as demo:
        with redis.Redis.from_url(demo.said["store:"]) as client:
            store = client.info("server")["process_id"]
        left = [store, *demo.workers()]
        demo.stop(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in left):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with started(*DEMO, str(tmp_path / "data")) as again:
            assert pasted(f"curl -s {again.edge}/readyz") == "ready\n"


def test_a_very_long_data_dir(tmp_path: Path) -> None:
    with started(*DEMO, str(tmp_path / ("x" * 120))) as demo:
        assert json.loads(pasted("curl " + demo.said["curl"]))["success"] is True


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with started(*DEMO, str(tmp_path / "data")) as demo:
        port = demo.edge.rpartition(":")[2]
        second = run("demo", "--port", port, "--manage-port", "0", "--data-dir", str(tmp_path / "other"))
        assert second.returncode == 1
        assert second.stderr.splitlines()[-1] == (
            f"cannot listen on 127.0.0.1:{port}: Address already in use: choose another with --port"
        )


def test_two_workers_are_exact(tmp_path: Path) -> None:
    """Of 11 at once from one IP five pass, ten times running; of 200 at once on `tiny` 20; 100 sessions, 40 numbers."""

    async def drive(edge: str) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            warm = [post(client, edge, web_request(dryRun=True), "freespee", f"192.0.2.{i}") for i in range(64)]
            assert set(await asyncio.gather(*warm)) == {200}
            for round_ in range(10):
                ip = f"198.51.100.{round_}"
                statuses = await asyncio.gather(
                    *(post(client, edge, web_request(dryRun=True), "freespee", ip) for _ in range(11))
                )
                assert sorted(statuses) == [200] * 5 + [403] * 6
            tiny = web_request(advId="tiny", numbers="+442079460000")
            statuses = await asyncio.gather(
                *(post(client, edge, tiny, "tiny-key", f"203.0.113.{i}") for i in range(200))
            )
            assert sorted(statuses) == [200] * 20 + [403] * 180
            statuses = await asyncio.gather(
                *(post(client, edge, web_request(), "freespee", f"10.0.0.{i}") for i in range(100))
            )
            assert statuses == [200] * 100

    settings = {"EDGEPROXY_BUDGET_MS": "1000"}  # the clients share two cores with the gateway
    with started(*DEMO, str(tmp_path / "data"), "--workers", "2", settings=settings) as demo:
        asyncio.run(drive(demo.edge))
        with redis.Redis.from_url(demo.said["store:"], decode_responses=True) as store:
            assert store.hget(keys.points("tiny"), "spent") == "20"
            leases = store.zrange(keys.pool("demo", "berlin")[1], 0, -1)
            assert len({lease.split(":")[0] for lease in leases}) == len(leases) == 40
        metrics = pasted(f"curl -s {demo.manage}/metrics")
        assert 'edgeproxy_numbers_total{event="original"} 77.0' in metrics  # 60 of demo, 17 of tiny
        assert "edgeproxy_workers 2.0" in metrics
