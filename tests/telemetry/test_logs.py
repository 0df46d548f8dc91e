import json
from typing import Any

import pytest

from edgeproxy.telemetry.logs import log_access


def test_an_access_line(capsys: pytest.CaptureFixture[str]) -> None:
    log_access(account="demo", ip="203.0.113.0", status=200, outcome="success", took_s=0.0012, size=180)
    line: dict[str, Any] = json.loads(capsys.readouterr().out)
    line.pop("time")
    assert line == {
        "request": "POST /api", "account": "demo", "ip": "203.0.113.0", "status": 200, "outcome": "success",
        "ms": 1.2, "bytes": 180,
    }  # fmt: skip
