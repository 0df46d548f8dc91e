"""An operation of the API: one method of one resource, what it takes, and what it does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from edgeproxy.accounts.account import Account
from edgeproxy.partner.render import Tree
from edgeproxy.partner.resources.fields import Fields
from edgeproxy.partner.resources.records import LISTS
from edgeproxy.store.partner import Partner

BODY_MOST = 4 * 1024 * 1024  # a greeting of 1 MiB is 1.4 MB in base64, and may be three times that where it is escaped
SMALL_BODY_MOST = 96 * 1024  # of a request without a sound: all custom fields full, and every character escaped
_WRITES = {"POST": "create", "PUT": "update", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one resource.

    In a path, `{name}` stands for the field of that name; a path without it takes that field as a parameter.
    """

    method: str
    paths: tuple[str, ...]
    fields: type[Fields]
    run: Callable[[Partner, Account, Any], Awaitable[Tree]]
    summary: str
    gives: tuple[str, tuple[str, ...]] | None  # the list in the answer, and the fields of its records

    @property
    def writes(self) -> str:
        """What it does, as the audit calls it, such as `sources.extend`; empty if it changes nothing."""
        if self.gives is None or self.method == "GET":
            return ""
        resource, word = self.gives[0], self.paths[-1].rpartition("/")[2]
        return f"{resource}.{_WRITES[self.method] if word == resource else word}"

    @property
    def body_most(self) -> int:
        """Bytes that its body may have."""
        return BODY_MOST if "sounddata" in self.fields.model_fields else SMALL_BODY_MOST

    @property
    def lists(self) -> frozenset[str]:
        """The fields that are lists of texts."""
        return frozenset(name for name in LISTS if name in self.fields.model_fields)

    @property
    def id_field(self) -> str:
        """The field that names a record of the answer's list."""
        return self.gives[1][0] if self.gives else ""
