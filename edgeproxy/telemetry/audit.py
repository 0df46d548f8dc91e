"""The audit of management writes: one line for each, however it ends, and whether or not its client is still there.

A write begins once it is known who asks and what for: failed logins and requests that cannot be read are none.
"""

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from edgeproxy.errors import NotDurableError, PartlyDoneError, RefusedError, SealError, StoreError
from edgeproxy.telemetry.logs import JSONLines

# Made; nothing was changed; it may have been made or not; made, but not known to be safe on disk.
Ended = Literal["done", "refused", "uncertain", "not durable"]

_audit_log = logging.getLogger("edgeproxy.audit")
_audit_log.setLevel(logging.INFO)  # whatever is logged else, the audit is


@dataclass(slots=True)
class Write:
    """What becomes known of a write while it is made."""

    account: str | None
    record: str | None  # its id, or its number
    fields: Iterable[str]  # names of what changes; never values
    refused: bool = False  # nothing was changed, although nothing was raised


@contextlib.contextmanager
def write(
    what: str,
    *,
    who: str,
    ip: str | None = None,
    account: str | None = None,
    record: str | None = None,
    fields: Iterable[str] = (),
    refusals: tuple[type[Exception], ...] = (),
) -> Iterator[Write]:
    """A context in which one write is made; on leaving it, its line is written (see `_log`).

    `refusals` are exceptions, beside the store's, that say that nothing was changed. What ends with any other, or is
    cancelled, may have been made or not.
    """
    refusing: tuple[type[Exception], ...] = (RefusedError, StoreError, SealError, *refusals)
    made = Write(account, record, fields)
    ended: Ended = "uncertain"
    try:
        yield made
        ended = "refused" if made.refused else "done"
    except NotDurableError:
        ended = "not durable"
        raise
    except PartlyDoneError:
        raise
    except refusing:
        ended = "refused"
        raise
    finally:
        _log(what, account=made.account, who=who, ip=ip, record=made.record, fields=sorted(made.fields), ended=ended)


@contextlib.contextmanager
def audit_to_stderr() -> Iterator[None]:
    """A context in which the audit goes to stderr: for commands, which have no log otherwise."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    _audit_log.addHandler(handler)
    try:
        yield
    finally:
        _audit_log.removeHandler(handler)


def _log(
    what: str,
    *,
    account: str | None,
    who: str,
    ip: str | None,
    record: str | None,
    fields: list[str],
    ended: Ended,
) -> None:
    """Write a line of the audit to the log `edgeproxy.audit`: who wrote what (`customers.create`), and how that ended.

    `who` is `user:NAME`, `token:` and the first digits of its hash, or `command:` and the system's user. `ip` is
    truncated, `record` the id or number of what was written, `fields` the names of what changed; no value is given.
    """
    line = {
        "audit": what, "account": account, "who": who, "ip": ip, "record": record, "fields": fields, "ended": ended,
    }  # fmt: skip
    _audit_log.info("%s %s", what, ended, extra={"audit": line})
