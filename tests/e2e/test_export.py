"""`edgeproxy export` beside a running demo, and the example of a consumer group, run as processes."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click.testing
import httpx
import pyarrow.parquet
import pytest
import redis

from edgeproxy.accounts import file as account_file
from edgeproxy.calls.export import COLUMNS
from edgeproxy.commands.calls import export
from edgeproxy.dynamic import signature
from edgeproxy.store import Store, inventory, keys, visits
from tests.conftest import DEMO, web_request
from tests.processes import Running, pasted, started

pytestmark = pytest.mark.slow

CONSUMER = Path(__file__).parents[2] / "deploy" / "streams" / "consumer.py"
TOKEN = {"Access-Token": "demo-token"}
ALL = ("--account", "demo", "--from", "1h")
CALL = (
    "time", "kind", "call_id", "event", "at", "number", "anum_md5", "session_id", "tracking_id", "source_id",
    "customer_id", *visits.FIELDS,
)  # fmt: skip


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Running]:
    with started("demo", "--port", "0", "--manage-port", "0", "--data-dir", str(tmp_path / "data")) as running:
        yield running


def exported(demo: Running, *arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(
        export, arguments, env={"EDGEPROXY_STORE_URL": demo.said["store:"]}, catch_exceptions=False
    )


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def visit(client: httpx.Client, demo: Running, serial: int, **changes: Any) -> str:
    """A visit of a client with an IP of its own; gives its session."""
    body = json.dumps(web_request(**changes)).encode()
    headers = {"X-SIGN": signature.sign(body, b"freespee"), "X-Forwarded-For": f"10.0.{serial >> 8}.{serial & 255}"}
    answer = client.post(f"{demo.edge}/api", content=body, headers=headers).json()
    assert answer["success"], answer
    return str(answer["sessionId"])


def test_visits_and_calls_are_exported(demo: Running, tmp_path: Path) -> None:
    started_at = datetime.now(UTC)
    answer = json.loads(pasted(next(line for line in demo.lines if line.startswith("curl") and "/api " in line)))
    number = answer["numbers"][0]["replace_with"]["e164"]
    with httpx.Client() as client:
        other = visit(client, demo, 1, trackingId="visitor-2", parameters={"a": "ä", "b": ""})
        for event in ("started", "answered", "ended"):
            body = {"call_id": "c1", "event": event, "number": number, "caller": "+4915112345678"}
            if event == "ended":
                body["at"] = "2026-01-31T23:59:59.5Z"
            client.post(f"{demo.manage}/calls", json=body, headers=TOKEN).raise_for_status()
        session_of = {"visitor-1": answer["sessionId"], "visitor-2": other}

        file = tmp_path / "rows.jsonl"
        result = exported(demo, *ALL, str(file))
        assert (result.exit_code, result.stdout) == (0, "2 visits and 3 call events\n"), result.output
        assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == ["rows.jsonl"]
        rows = lines(file.read_text())
        first, second, *calls = rows
        at = datetime.fromisoformat(first["time"])
        assert first["time"].endswith("Z")
        assert abs((at - started_at).total_seconds()) < 30
        assert first == {
            "time": first["time"],
            "kind": "visit",
            "session": session_of["visitor-1"],
            "new": True,
            "trackingId": "visitor-1",
            "type": "web",
            "fullUrl": "https://www.example.com/cars/42?utm_source=newsletter",
            "fullReferrer": "https://www.example.com/",
            "parameters": {"custnr": "1412", "custname": "Autohaus Mitte"},
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "requestIpAddress": "203.0.113.0",
            "numbers": [{"number_on_page": "+493015981100", "number": number, "how": "lease"}],
            **dict.fromkeys(visits.FIRST_TOUCH),
            "first_at": first["time"],
            "first_url": first["fullUrl"],
            "first_referrer": first["fullReferrer"],
            "first_parameters": first["parameters"],
            "utm_source": "newsletter",
        }
        assert (second["session"], second["parameters"]) == (other, {"a": "ä", "b": ""})
        assert [(call["kind"], call["event"], call["number"]) for call in calls] == [
            ("call", "started", number), ("call", "answered", number), ("call", "ended", number),
        ]  # fmt: skip
        assert calls[0]["session_id"] == session_of["visitor-1"]
        assert calls[0]["tracking_id"] == "visitor-1"
        for call in calls:
            assert {name: call[name] for name in visits.FIRST_TOUCH} == {
                name: first[name] for name in visits.FIRST_TOUCH
            }
            assert (call["last_url"], call["last_at"], call["last_after_call"]) == (
                first["fullUrl"],
                first["time"],
                False,
            )
        assert calls[2]["at"] == "2026-01-31T23:59:59.500Z"
        assert {tuple(call) for call in calls} == {CALL}

        file = tmp_path / "rows.parquet"
        assert exported(demo, *ALL, str(file)).stdout == "2 visits and 3 call events\n"
        assert [as_lines(row) for row in pyarrow.parquet.read_table(file).to_pylist()] == rows
        types = {field.name: str(field.type) for field in pyarrow.parquet.read_schema(file)}
        assert types["time"] == types["at"] == "timestamp[ms, tz=UTC]"
        assert types["new"] == "bool"
        assert types["parameters"] == "map<string, string ('parameters')>"

        # Part of it, and what an erasure leaves.
        result = exported(demo, *ALL, "--what", "calls", "-")
        assert lines(result.stdout) == calls
        assert result.stderr.endswith("3 call events\n")
        assert lines(exported(demo, *ALL, "--what", "visits", "--to", second["time"], "-").stdout) == [first]
        until_then = ("--account", "demo", "--what", "visits", "--from", first["time"], "--to", first["time"], "-")
        assert exported(demo, *until_then).exit_code == 1
        erased = client.post(f"{demo.manage}/calls/erase", json={"trackingId": "visitor-1"}, headers=TOKEN)
        erased.raise_for_status()
        assert lines(exported(demo, *ALL, "-").stdout) == [second]
        empty = tmp_path / "empty.parquet"
        assert exported(demo, *ALL, "--what", "calls", str(empty)).stdout == "0 call events\n"
        assert pyarrow.parquet.read_table(empty).num_rows == 0


def as_lines(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a Parquet file as it stands in JSON Lines, where it has only the columns of its kind."""
    for name in ("time", "at", "first_at", "last_at"):
        if row[name] is not None:
            row[name] = row[name].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for name in ("parameters", "first_parameters"):
        if row[name] is not None:
            row[name] = dict(row[name])
    columns = COLUMNS["visits" if row["kind"] == "visit" else "calls"]
    return {name: value for name, value in row.items() if name in columns}


def test_an_export_is_there_whole_or_not_at_all(demo: Running, tmp_path: Path) -> None:
    """An export that is ended by signals, and one onto a full file system."""
    out = tmp_path / "out"
    out.mkdir()
    file = out / "rows.parquet"
    file.write_text("what was there")
    with redis.Redis.from_url(demo.said["store:"]) as store:
        entry = [{"session": "s", "new": True, "numbers": {}, "visit": {"fullUrl": "x" * 1000}}] * 30
        for _ in range(20):
            pipeline = store.pipeline(transaction=False)
            for _ in range(200):
                pipeline.xadd(keys.visits("demo"), {"visits": json.dumps(entry)})
            pipeline.execute()
    program = "from edgeproxy.commands.calls import export; export()"
    command = [sys.executable, "-c", program, *ALL, str(file)]
    environment = os.environ | {"EDGEPROXY_STORE_URL": demo.said["store:"]}
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 1)):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while len(list(out.iterdir())) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert process.stderr is not None
        assert b"Traceback" not in (said := process.stderr.read()), said
        assert process.wait(20) == status, said
        process.stderr.close()
        assert [(path.name, path.read_text()) for path in out.iterdir()] == [("rows.parquet", "what was there")]
    for suffix in ("jsonl", "parquet"):
        full = out / f"full.{suffix}"
        full.symlink_to("/dev/full")
        result = exported(demo, *ALL, str(full))
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, f"{full}: No space left on device")
    assert exported(demo, *ALL, str(file)).stdout == "120000 visits and 0 call events\n"
    assert pyarrow.parquet.ParquetFile(file).num_row_groups > 1


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (("--account", "nobody", "--from", "1h", "x.jsonl"), 1, "there is no account nobody"),
        (("--account", "demo", "--from", "1h", "--to", "2h", "x.jsonl"), 1, "--from is not before --to"),
        (("--account", "demo", "--from", "soon", "x.jsonl"), 2, "'soon' must be a time such as"),
        (("--account", "demo", "--from", "1960-01-01", "x.jsonl"), 2, "'1960-01-01' must be a time from 1970 to 9998"),
        (("--account", "demo", "--from", "2026-01-31 23:59:60", "x.jsonl"), 2, "must be a time such as"),
        (("--account", "demo", "--from", "1769817600", "--to", "1769817600000", "x.jsonl"), 1, "--from is not before"),
        (("--account", "demo", "--from", "1h", "x.csv"), 2, "x.csv ends neither in .jsonl nor in .parquet"),
        (("--account", "demo", "--from", "1h", "/nowhere/x.jsonl"), 1, "/nowhere/x.jsonl: No such file or directory"),
    ],
)
def test_what_cannot_be_exported(store_url: str, arguments: tuple[str, ...], status: int, error: str) -> None:
    asyncio.run(load_demo(store_url))
    result = click.testing.CliRunner().invoke(export, arguments, env={"EDGEPROXY_STORE_URL": store_url})
    assert (result.exit_code, error in result.output) == (status, True), result.output


async def load_demo(store_url: str) -> None:
    async with Store(store_url) as store:
        await store.load_functions()
        await inventory.apply(store, await inventory.compare(store, account_file.read(DEMO)))


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    result = click.testing.CliRunner().invoke(export, [*ALL, "x.parquet"])
    assert (result.exit_code, result.output) == (
        1, "Error: a .parquet needs pyarrow: pip install '.[export]'\n",
    )  # fmt: skip


# The consumer group ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def consuming(demo: Running, name: str, out: Any) -> "Iterator[subprocess.Popen[bytes]]":
    url = demo.said["store:"]
    command = [sys.executable, str(CONSUMER), "--url", url, "--account", "demo", "--consumer", name]
    process = subprocess.Popen([*command, "--take-over-s", "1"], stdout=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_consumers_share_the_work_and_one_takes_over_what_a_dead_one_had(demo: Running, tmp_path: Path) -> None:
    url = demo.said["store:"]
    streams = [keys.visits("demo"), keys.calls("demo")]
    first, second, third = (tmp_path / f"{name}.jsonl" for name in ("first", "second", "third"))
    with contextlib.ExitStack() as stack:
        store: Any = stack.enter_context(redis.Redis.from_url(url, decode_responses=True))
        client = stack.enter_context(httpx.Client())

        def pending() -> int:
            return sum(store.xpending(stream, "warehouse")["pending"] for stream in streams)

        # One that stops when it is told to, between streams that are not there yet, and entries.
        with first.open("wb") as out, consuming(demo, "one", out) as process:
            wait_for(lambda: store.exists(*streams) == 2)
            sessions = [visit(client, demo, serial) for serial in range(20)]
            wait_for(lambda: len(first.read_text().splitlines()) == store.xlen(streams[0]))
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        assert pending() == 0

        # One that is killed while it holds entries: nobody reads what it prints, until it can print no more.
        long = "https://example.com/" + "x" * 1900
        sessions += [visit(client, demo, serial, fullUrl=long) for serial in range(20, 120)]
        body = {"call_id": "c1", "event": "started", "number": "+493015981151"}
        client.post(f"{demo.manage}/calls", json=body, headers=TOKEN).raise_for_status()
        with consuming(demo, "two", subprocess.PIPE) as process:
            wait_for(lambda: pending() > 50)
            time.sleep(0.2)
            process.kill()
            assert process.stdout is not None
            printed = process.stdout.read()
            process.stdout.close()
        assert pending() > 50
        second.write_bytes(printed[: printed.rfind(b"\n") + 1])  # the last line is cut off

        # One takes over; and an erasure comes between.
        client.post(f"{demo.manage}/calls/erase", json={"sessionId": sessions[1]}, headers=TOKEN).raise_for_status()
        with third.open("wb") as out, consuming(demo, "three", out) as process:
            wait_for(lambda: pending() == 0 and lags(store, streams) == 0)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0

        held: dict[str, Any] = {}
        for line in lines(first.read_text() + second.read_text() + third.read_text()):
            if line["key"] not in held or moment(line["id"]) >= moment(held[line["key"]]["id"]):
                held[line["key"]] = line
        found = [shown["session"] for line in held.values() for shown in line.get("visits", ())]
        assert len(found) == len(set(found))
        assert set(sessions) - {sessions[1]} <= set(found) <= set(sessions)
        assert [line["call"]["call_id"] for line in held.values() if "call" in line] == ["c1"]
        third_keys = [line["key"] for line in lines(third.read_text())]
        assert len(third_keys) == len(set(third_keys))

        # The streams' time is over, and their groups are gone with them: it goes on when they are there again.
        with third.open("wb") as out, consuming(demo, "three", out) as process:
            store.delete(*streams)
            wait_for(lambda: store.exists(*streams) == 2)
            session = visit(client, demo, 200)
            wait_for(lambda: session in third.read_text())
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


def lags(store: Any, streams: list[str]) -> int:
    """Entries that the group was not given yet."""
    behind = 0
    for stream in streams:
        (group,) = store.xinfo_groups(stream)
        behind += len(store.xrange(stream, f"({group['last-delivered-id']}", "+"))
    return behind


def moment(entry: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry.split("-"))
