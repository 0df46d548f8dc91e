"""The gateway's own part of the document: health, metrics, and the description itself."""

from edgeproxy.http.openapi.tree import JSON, MANAGE, Tree, always, plain, sample

GROUP = "Service"
ABOUT = ""
TAGS = {"service": "For those who run the gateway."}
SECURITY: Tree = {}


def paths(_: str) -> Tree:
    """What is asked by machines that watch the gateway, and by readers."""

    def get(path: str, name: str, summary: str, description: str, responses: Tree) -> Tree:
        operation = {
            "operationId": f"get_{name}",
            "tags": ["service"],
            "summary": summary,
            "description": description,
            "x-codeSamples": [sample(f"curl -sSL {MANAGE}{path}")],
            "security": [],
            "responses": responses,
        }
        return {path: {"get": operation}}

    return {
        **get(
            "/",
            "root",
            "Lead to this page",
            "On the manage port.",
            {
                "302": {
                    "description": "`docs` is the page.",
                    "headers": always({"Location": {"description": "the page", "schema": {"const": "docs"}}}),
                }
            },
        ),
        **get(
            "/healthz",
            "healthz",
            "Tell that the process is alive",
            "On both ports. Touches nothing.",
            {"200": plain("It is.")},
        ),
        **get(
            "/readyz",
            "readyz",
            "Tell whether to send traffic here",
            "On both ports. Fails until the store has answered once, and while the gateway drains.",
            {"200": plain("Yes."), "503": plain("Not yet, or no more.")},
        ),
        **get(
            "/metrics",
            "metrics",
            "Read the metrics",
            "On the manage port, in Prometheus' text format, summed over the workers.",
            {"200": plain("The metrics.")},
        ),
        **get(
            "/openapi.json",
            "openapi",
            "Read this document",
            "On the manage port.",
            {"200": {"description": "This document.", "content": {JSON: {"schema": {"type": "object"}}}}},
        ),
        **get(
            "/docs",
            "docs",
            "Read this document as a page",
            "On the manage port.",
            {"200": {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}}},
        ),
    }


def schemas() -> Tree:
    """None: it describes each where it is."""
    return {}


def responses() -> Tree:
    """None: it describes each where it is."""
    return {}
