"""Recordings of calls: none are made, and clients that look for them are answered."""

from edgeproxy.accounts.account import Account
from edgeproxy.http.endpoint import Refusal
from edgeproxy.partner.render import Tree
from edgeproxy.partner.resources.fields import CustNr, End, Id, Moment, Paged
from edgeproxy.partner.resources.operation import Operation
from edgeproxy.store.partner import Partner

RECORDING = ("recording_id", "customer_id", "source_id", "cdr_id", "timestamp", "expired", "sounddata")


class RecordingQuery(Paged):
    """Which recordings of calls. This gateway makes none; clients that look for them go on."""

    recording_id: Id | None = None
    customer_id: Id | None = None
    source_id: Id | None = None
    custnr: CustNr | None = None
    cdr_id: Id | None = None
    from_date: Moment | None = None
    to_date: End | None = None


async def _list_recordings(partner: Partner, account: Account, fields: RecordingQuery) -> Tree:
    if fields.recording_id is not None:
        raise Refusal(404, f"recording {fields.recording_id}: not found")
    return fields.listed("recordings", 0, [])


OPERATIONS = (
    Operation(
        "GET", ("recordings", "recordings/{recording_id}"), RecordingQuery, _list_recordings,
        "List recordings of calls: none", ("recordings", RECORDING),
    ),
)  # fmt: skip
