"""The audit of management writes: one line for each, however it ends, and whether or not its client is still there.

A write begins once it is known who asks and what for: failed logins and requests that cannot be read are none.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from edgeproxy import telemetry
from edgeproxy.store import StoreError
from edgeproxy.store.functions import NotDurableError, RefusedError
from edgeproxy.store.inventory import PartlyDoneError
from edgeproxy.store.sealing import SealError


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
    """A context in which one write is made; on leaving it, its line is written (see `telemetry.log_audit`).

    `refusals` are exceptions, beside the store's, that say that nothing was changed. What ends with any other, or is
    cancelled, may have been made or not.
    """
    refusing: tuple[type[Exception], ...] = (RefusedError, StoreError, SealError, *refusals)
    made = Write(account, record, fields)
    ended: Literal["done", "refused", "uncertain", "not durable"] = "uncertain"
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
        telemetry.log_audit(
            what, account=made.account, who=who, ip=ip, record=made.record, fields=sorted(made.fields), ended=ended
        )
