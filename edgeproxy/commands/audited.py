"""The audit of what commands write."""

import contextlib
import getpass
import os
from collections.abc import Iterable, Iterator

from edgeproxy.telemetry import audit
from edgeproxy.telemetry.audit import audit_to_stderr


@contextlib.contextmanager
def audited(
    what: str, *, account: str | None = None, record: str | None = None, fields: Iterable[str] = ()
) -> Iterator[audit.Write]:
    """A context in which a command makes one write, with its line of the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # which Python raises depends on its version
        user = str(os.getuid())
    with (
        audit_to_stderr(),
        audit.write(what, who=f"command:{user}", account=account, record=record, fields=fields) as write,
    ):
        yield write
