"""Call records (CDRs), which the calls API makes of calls that have ended."""

from collections.abc import Iterable

from edgeproxy.accounts.account import Account
from edgeproxy.http.endpoint import Refusal
from edgeproxy.partner.render import Tree
from edgeproxy.partner.resources.fields import CustNr, End, Flag, Id, Moment, Paged
from edgeproxy.partner.resources.operation import Operation
from edgeproxy.partner.resources.records import show
from edgeproxy.store import visits
from edgeproxy.store.partner import Partner, Record

CDR = ("cdr_id", "start", "duration", "duration_adjusted", "anum", "anum_md5", "bnum", "cnum", "customer_id",
       "source_id", "custnr", "answered", "quarantined", "anum_ndc_name")  # fmt: skip
# What public clients read and nobody here knows is always null.
CDR_EXTENDED = ("customer_name", "source_name", "source_media", "source_class", "session_id", "tracking_id", "class",
                "expire", "campaign_id", "publisher_id", "partner_publisher_id", "partner_campaign_id",
                "pricing_model_id", "commission", "cli_id", "order_id", "recording_id",
                *visits.FIELDS)  # fmt: skip


class CdrQuery(Paged):
    """Which call records; every filter that is sent must hold. A `to_date` without a time takes the whole day in."""

    cdr_id: Id | None = None
    from_date: Moment | None = None
    to_date: End | None = None
    customer_id: Id | None = None
    source_id: Id | None = None
    custnr: CustNr | None = None
    newest_first: Flag = "0"
    extended: Flag = "0"


def _show_cdr(record: Record, fields: Iterable[str]) -> Tree:
    return show(record | {"class": record.get("source_class")}, fields)


async def _list_cdrs(partner: Partner, account: Account, fields: CdrQuery) -> Tree:
    shown = (*CDR, *CDR_EXTENDED) if fields.extended == "1" else CDR
    filters = {
        name: value for name in ("customer_id", "source_id", "custnr") if (value := getattr(fields, name)) is not None
    }
    if fields.cdr_id is not None:
        record = await partner.cdr(account, fields.cdr_id)
        if record is None or any(record.get(name) != value for name, value in filters.items()):
            raise Refusal(404, f"cdr {fields.cdr_id}: not found")
        return {"cdrs": [_show_cdr(record, shown)]}
    skip, most = fields.place()
    found = await partner.cdrs(
        account,
        filters,
        from_ms=None if fields.from_date is None else int(fields.from_date),
        to_ms=None if fields.to_date is None else int(fields.to_date),
        skip=skip,
        most=most,
        newest_first=fields.newest_first == "1",
    )
    return fields.listed("cdrs", found.total, [_show_cdr(record, shown) for record in found.records])


OPERATIONS = (
    Operation(
        "GET", ("statistics/cdrs", "statistics/cdrs/{cdr_id}"), CdrQuery, _list_cdrs,
        "List call records, or read one", ("cdrs", (*CDR, *CDR_EXTENDED)),
    ),
)  # fmt: skip
