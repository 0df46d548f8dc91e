#!/usr/bin/env python3
"""Takes visits and call events out of the store as they come, and prints them as JSON Lines: an example.

    pip install redis
    python consumer.py --url redis://localhost:6379/0 --account demo --consumer one >> rows.jsonl

Any number of consumers with names of their own share the work. Every entry is printed at least once; of lines with the
same `key` the one with the greatest `id` counts (see README.md), so whoever takes the lines in needs no other memory.
"""

import argparse
import json
import signal
import socket
import sys
from typing import Any

import redis

BLOCK_MS = 1000  # how long to wait for new entries, and so to notice SIGTERM: less than redis-py's timeout of 5 s
COUNT = 100


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", required=True, help="of the store")
    options.add_argument("--account", required=True)
    options.add_argument("--group", default="warehouse")
    options.add_argument("--consumer", default=socket.gethostname(), help="one name a process")
    options.add_argument(
        "--take-over-s", type=float, default=60, help="after which others' unfinished entries are taken"
    )
    asked = options.parse_args()
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    streams = [f"ep1:{{{asked.account}}}:{name}" for name in ("visits", "calls")]
    with redis.Redis.from_url(asked.url, decode_responses=True, protocol=2) as store:
        while not stopping:
            try:
                take_over(store, streams, asked.group, asked.consumer, int(asked.take_over_s * 1000))
                read: Any = store.xreadgroup(
                    asked.group, asked.consumer, dict.fromkeys(streams, ">"), COUNT, block=BLOCK_MS
                )
                for stream, entries in read:
                    finish(store, stream, asked.group, entries)
            except redis.ResponseError as error:
                # At first there is no group; and a stream that nothing came to for its time is gone, its groups too.
                if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                    raise
                make_groups(store, streams, asked.group)


def make_groups(store: "redis.Redis", streams: list[str], group: str) -> None:
    """Make the group where it is not there yet; it begins with the oldest entry that is kept."""
    for stream in streams:
        try:
            store.xgroup_create(stream, group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


def take_over(store: "redis.Redis", streams: list[str], group: str, consumer: str, idle_ms: int) -> None:
    """Finish what some consumer, or this one before it was started again, began and did not finish."""
    for stream in streams:
        at = ""
        while at != "0-0":
            claimed: Any = store.xautoclaim(stream, group, consumer, idle_ms, at or "0-0", COUNT)
            at, entries = claimed[:2]  # the rest are ids of entries that were erased, or are too old: they are gone
            finish(store, stream, group, entries)


def finish(store: "redis.Redis", stream: str, group: str, entries: list[tuple[str, dict[str, str]]]) -> None:
    """Print entries, and only then acknowledge them."""
    for entry_id, fields in entries:
        name = "visits" if "visits" in fields else "call"
        line = {"key": f"{name}/{fields.get('replaces', entry_id)}", "id": entry_id, name: json.loads(fields[name])}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()
    if entries:
        store.xack(stream, group, *[entry_id for entry_id, _ in entries])


if __name__ == "__main__":
    main()
