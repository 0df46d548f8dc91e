"""The open-loop generator, a process of its own: `python -m benchmarks.open_loop URL FILE RATE SECONDS CONNECTIONS`.

Requests are due at random moments (exponential gaps, as visitors come who know nothing of each other), and a latency
counts from that moment: what a slow answer, a busy connection or this process itself delays is in the figures. A plain
loop over `select`, whose timeouts are finer than a millisecond, costs about half of what asyncio would.
"""

import gc
import json
import math
import random
import select
import socket
import ssl
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from benchmarks.workload import read_requests

_BUDGET_MS = 50
_LAST_ANSWERS_S = 3
_CONNECTIONS_MOST = 900  # select takes file descriptors below 1024
_START_S = 0.2


def _connect(url: SplitResult) -> socket.socket:
    tls = url.scheme == "https"
    plain = socket.create_connection((url.hostname or "", url.port or (443 if tls else 80)), 5)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected = ssl.create_default_context().wrap_socket(plain, server_hostname=url.hostname) if tls else plain
    connected.setblocking(False)
    return connected


def _receive(connection: socket.socket) -> bytes | None:
    """What has arrived; None if nothing has, b"" once the other side has closed."""
    try:
        return connection.recv(65536)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    except OSError:
        return b""


def _is_whole(answer: bytes) -> bool:
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = answer.lower().find(b"content-length:", 0, head)
    return len(answer) >= head + 4 + int(answer[at + 15 : answer.index(b"\r", at)])


def _core_seconds() -> tuple[float, float]:
    """Time of all cores since boot: in use, and altogether."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] * 1000 if ordered else 0.0


def run(url: SplitResult, requests: list[bytes], rate: float, seconds: float, connections: int) -> dict[str, Any]:
    """Send `rate` requests a second for `seconds`; gives the fields of `load.Open`."""
    connections = min(connections, _CONNECTIONS_MOST)
    idle = [_connect(url) for _ in range(connections)]
    busy: dict[int, tuple[socket.socket, float]] = {}  # file descriptor → connection, when its request was due
    parts: dict[int, bytes] = {}  # file descriptor → what has arrived of an answer
    waiting: deque[tuple[float, bytes]] = deque()
    latencies: list[float] = []
    lags: list[float] = []
    refused = waited = lost = sent = 0
    gap = random.Random(2).expovariate
    clock = time.perf_counter
    gc.disable()
    machine_busy, machine_all = _core_seconds()
    used = time.process_time()
    begin = clock() + _START_S
    end, due = begin + seconds, begin + gap(rate)
    while True:
        now = clock()
        while due <= now and due < end:
            request = requests[sent % len(requests)]
            sent += 1
            if idle:
                connection = idle.pop()
                connection.send(request)
                busy[connection.fileno()] = (connection, due)
                lags.append(clock() - due)
            else:
                waited += 1
                waiting.append((due, request))
            due += gap(rate)
        if due >= end and ((not busy and not waiting) or now > end + _LAST_ANSWERS_S):
            break
        for ready in select.select(busy, (), (), max(0.0, min(due - clock(), 0.1)))[0]:
            connection, was_due = busy[ready]
            data = _receive(connection)
            if data is None:
                continue
            answer = parts.pop(ready, b"") + data
            if data and not _is_whole(answer):
                parts[ready] = answer
                continue
            del busy[ready]
            if data:
                latencies.append(clock() - was_due)
                refused += not (answer.startswith(b"HTTP/1.1 200 ") and b'\r\n\r\n{"success":true' in answer)
            else:
                lost += 1
                connection.close()
                connection = _connect(url)
            if waiting:
                was_due, request = waiting.popleft()
                connection.send(request)
                busy[connection.fileno()] = (connection, was_due)
            else:
                idle.append(connection)
    took = clock() - begin
    used = time.process_time() - used
    busy_then, all_then = _core_seconds()
    lost += len(busy) + len(waiting)
    latencies.sort()
    lags.sort()
    late = sum(latency * 1000 > _BUDGET_MS for latency in latencies) + lost
    return {
        "rate": rate,
        "seconds": seconds,
        "requests": sent,
        "refused": refused,
        "lost": lost,
        "waited": waited,
        "connections": connections,
        "p50_ms": _quantile(latencies, 0.5),
        "p99_ms": _quantile(latencies, 0.99),
        "p999_ms": _quantile(latencies, 0.999),
        "max_ms": _quantile(latencies, 1),
        "late_share": late / max(1, sent),
        "lag_p50_ms": _quantile(lags, 0.5),
        "lag_p99_ms": _quantile(lags, 0.99),
        "lag_max_ms": _quantile(lags, 1),
        "busy": used / took,
        "machine_busy": (busy_then - machine_busy) / max(1.0, all_then - machine_all),
    }


if __name__ == "__main__":
    target, file, per_second, duration, count = sys.argv[1:]
    json.dump(
        run(urlsplit(target), read_requests(Path(file)), float(per_second), float(duration), int(count)), sys.stdout
    )
