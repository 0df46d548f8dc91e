"""The one catalogue of faults: what a client reads, with which status, and how it is counted."""

import enum
from typing import Any


class Kind(enum.Enum):
    """Why a request was not answered with success (`dynamic/README.md`, *Errors*).

    Each kind has its HTTP status and the text of the wire (with a `{}` where the detail goes).
    The member's name in lower case is its label in metrics and in the access log.
    """

    MALFORMED_JSON = (400, "Malformed JSON")
    BODY_TOO_LARGE = (400, "Body too large")
    MISSING_PARAMETER = (400, "Missing parameter: {}")
    INVALID_PARAMETER = (400, "Invalid parameter: {}")
    MISSING_SIGNATURE = (403, "Missing signature")
    INVALID_SIGNATURE = (403, "Invalid signature")
    BLOCKED_IP = (403, "Blocked IP: more than {} requests per second")
    BUDGET_EXHAUSTED = (403, "Daily point budget exhausted")
    STORE_UNAVAILABLE = (500, "Store unavailable")
    INTERNAL_ERROR = (500, "Internal error")
    NO_POOL = (501, "No number pool is configured")

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        self.label = self.name.lower()


class Fault(Exception):
    """A request that ends without success.

    `detail` fills the kind's text: the field, or the field and why; it never holds a secret. `retry_after` is the
    seconds (whole, rounded up) after which trying again can help.
    """

    def __init__(self, kind: Kind, detail: object = "", *, retry_after: int | None = None) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.retry_after = retry_after
        self.text = kind.text.format(detail)


class StoreError(Exception):
    """The store cannot be used as it is, and what to do about it."""


class PartlyDoneError(StoreError):
    """Some accounts were changed, and then one could not be."""


class RefusedError(Exception):
    """A function refused: for which reason (its Lua file lists them), and what belongs to that."""

    def __init__(self, why: str, detail: dict[str, Any] | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.detail = detail or {}


class NotDurableError(Exception):
    """A change was made, but it is not known to have reached the disk, or as many replicas as are wanted."""


class UncertainError(Exception):
    """A change was sent to the store, and its reply did not come: it is not known whether it was made."""


class SealError(Exception):
    """A secret cannot be opened. The text says whose it is, and never what it is."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} cannot be opened: it is sealed with a key that EDGEPROXY_STORE_KEYS does not have, or for another"
            " place"
        )
        self.place = place
