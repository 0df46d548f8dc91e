"""The resources of the partner REST API: what each operation takes, and what it does.

`OPERATIONS` is the whole API: the handler goes by it, and so does the OpenAPI document. An operation's fields are
checked by its pydantic model; those of the path are among them.
"""

from edgeproxy.accounts.account import Account
from edgeproxy.partner.render import Tree
from edgeproxy.partner.resources import cdrs, customers, greetings, recordings, sources
from edgeproxy.partner.resources.fields import Fields
from edgeproxy.partner.resources.operation import Operation
from edgeproxy.store.partner import Partner


async def _ping(partner: Partner, account: Account, fields: Fields) -> Tree:
    return {"ping": "ok"}


OPERATIONS = (
    Operation("GET", ("miscellaneous/ping",), Fields, _ping, "Tell that the API answers", None),
    *customers.OPERATIONS,
    *greetings.OPERATIONS,
    *sources.OPERATIONS,
    *cdrs.OPERATIONS,
    *recordings.OPERATIONS,
)
