"""Logs: JSON lines on stderr, and the access log on stdout. Nothing here holds a secret or a full IP."""

import contextlib
import json
import logging
import sys
import time
from typing import Any


class JSONLines(logging.Formatter):
    """A JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON object."""
        line: dict[str, Any] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (audit := getattr(record, "audit", None)) is not None:
            del line["message"]  # which says the same for people
            line |= audit
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def log_to_stderr() -> None:
    """Send the process's log to stderr, a JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def log_access(*, account: str | None, ip: str, status: int, outcome: str, took_s: float, size: int) -> None:
    """Write a line of the access log to stdout. `ip` is truncated; query, body and headers are never given."""
    line = {
        "time": _timestamp(time.time()),
        "request": "POST /api",
        "account": account,
        "ip": ip,
        "status": status,
        "outcome": outcome,
        "ms": round(took_s * 1000, 3),
        "bytes": size,
    }
    with contextlib.suppress(OSError):  # nobody reads it any more: the request is answered all the same
        sys.stdout.write(json.dumps(line, ensure_ascii=True) + "\n")
        sys.stdout.flush()
