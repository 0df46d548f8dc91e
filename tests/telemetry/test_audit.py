"""The audit's line: how a write's end is called, and what the line looks like."""

import asyncio
import json
import logging
from typing import Any

import pytest

from edgeproxy.errors import Fault, Kind, NotDurableError, RefusedError, SealError, StoreError, UncertainError
from edgeproxy.telemetry import audit
from edgeproxy.telemetry.audit import audit_to_stderr
from edgeproxy.telemetry.logs import log_to_stderr

WHO = "user:u"


class Refusal(Exception):
    pass


def line(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("edgeproxy.audit", "INFO")
    return dict(record.__dict__["audit"])


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (RefusedError("full"), "refused"),
        (StoreError("in use"), "refused"),
        (SealError("x"), "refused"),
        (Refusal(), "refused"),
        (NotDurableError(), "not durable"),
        (UncertainError(), "uncertain"),
        (Fault(Kind.STORE_UNAVAILABLE), "uncertain"),
        (RuntimeError(), "uncertain"),
        (asyncio.CancelledError(), "uncertain"),
    ],
)
def test_a_write_that_fails_has_one_line_and_fails_all_the_same(
    caplog: pytest.LogCaptureFixture, error: BaseException, ended: str
) -> None:
    with pytest.raises(type(error)), audit.write("x.create", who=WHO, refusals=(Refusal,)):
        raise error
    assert line(caplog)["ended"] == ended


def test_what_becomes_known_of_a_write_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with audit.write("x.create", who=WHO, ip="10.0.0.0", account="a", fields={"b": 1, "a": 2}) as write:
        write.record = "7"
    assert line(caplog) == {
        "audit": "x.create", "account": "a", "who": WHO, "ip": "10.0.0.0", "record": "7", "fields": ["a", "b"],
        "ended": "done",
    }  # fmt: skip
    caplog.clear()
    with audit.write("x.delete", who=WHO) as write:
        write.refused = True
    assert line(caplog)["ended"] == "refused"


def test_the_log_of_a_gateway_has_the_line_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        log_to_stderr()
        with audit.write("x.create", who=WHO, account="a"):
            pass
    finally:
        root.handlers = handlers
        root.setLevel(level)
    told = json.loads(capsys.readouterr().err)
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "info", "logger": "edgeproxy.audit", "audit": "x.create", "account": "a", "who": WHO, "ip": None,
        "record": None, "fields": [], "ended": "done",
    }  # fmt: skip


def test_a_command_has_the_line_on_stderr_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with audit_to_stderr(), audit.write("x.create", who=WHO):
            pass
        (said,) = capsys.readouterr().err.splitlines()
        assert json.loads(said)["audit"] == "x.create"
    with audit.write("x.create", who=WHO):
        pass
    assert capsys.readouterr().err == ""
