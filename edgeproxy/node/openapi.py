"""The OpenAPI 3.1 document of what the gateway answers over HTTP: a module an API."""

import functools

from edgeproxy import __version__
from edgeproxy.calls import openapi as calls
from edgeproxy.dynamic import openapi as dynamic
from edgeproxy.http.openapi.tree import Tree
from edgeproxy.node import service_openapi as service
from edgeproxy.numbers import openapi as static
from edgeproxy.partner import openapi as partner

_ABOUT = """\
A page shows a phone number; each visitor is shown a tracking number instead, and a call on it leads back to the visit.
The gateway gives out these numbers, and answers who was shown one.

`POST /api` is on the edge port, which visitors' requests reach. All else is on the manage port, for partners and those
who run the gateway. Health is on both.

To try it, run `edgeproxy demo` and paste. Each example below works against it as it stands: the account, its secret,
its token, its user and its numbers are the demo's. Where an example has several commands, the first make what the last
needs.
"""


@functools.cache
def document(version: str) -> Tree:
    """The document of a gateway whose partner API has that `version` in its paths; not to be changed."""
    tags = {**dynamic.TAGS, **partner.TAGS, **static.TAGS, **calls.TAGS, **service.TAGS}
    groups = (
        ("Dynamic numbers", dynamic.TAGS, ""),
        ("Partner REST API", partner.TAGS, partner.ABOUT),
        ("Static numbers", static.TAGS, static.ABOUT),
        ("Calls", calls.TAGS, calls.ABOUT),
        ("Service", service.TAGS, ""),
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgeproxy",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the manage port"}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "x-tagGroups": [{"name": name, "tags": list(inside), "description": about} for name, inside, about in groups],
        "paths": {**dynamic.paths(), **service.paths(), **partner.paths(version), **static.paths(), **calls.paths()},
        "components": {
            "schemas": {**dynamic.schemas(), **partner.schemas(), **static.schemas(), **calls.schemas()},
            "responses": {**partner.responses(), **static.responses(), **calls.responses()},
            "securitySchemes": {**dynamic.SECURITY, **partner.SECURITY, **static.SECURITY},
        },
    }
