"""What answers show of a record: its fields as texts, lists and moments."""

from collections.abc import Iterable

from edgeproxy.accounts import moments
from edgeproxy.partner.render import Tree
from edgeproxy.store.partner import Record

LISTS = ("alt_numbers", "used_by")  # the fields that are lists of texts
NUMBERS = ("phonenr", "destnr", "smsnumber", "alt_numbers")  # the fields that hold phone numbers
_MOMENTS = ("timestamp", "expire", "created", "modified", "start", "first_at", "last_at")
READ_MOST = 1000  # records that an answer is put together from, beside those that it shows


def moment_text(moment: str | None) -> str | None:
    """Epoch ms as `YYYY-MM-DD HH:MM:SS`, UTC."""
    return moments.text_of_seconds(int(moment)) if moment else None


def show(record: Record, fields: Iterable[str]) -> Tree:
    """The record with these fields, in their order; null where it has none."""
    tree: Tree = {}
    for name in fields:
        value = record.get(name)
        if name in _MOMENTS:
            tree[name] = moment_text(value)
        elif name in LISTS:
            tree[name] = value.split(",") if value else []
        else:
            tree[name] = value
    return tree
