"""Health, metrics, and the description itself."""

from edgeproxy.http.openapi.tree import JSON, Tree, always, plain

TAGS = {"service": "For those who run the gateway."}


def paths() -> Tree:
    """What is asked by machines that watch the gateway, and by readers."""

    def get(name: str, summary: str, description: str, responses: Tree) -> Tree:
        operation = {"operationId": f"get_{name}", "tags": ["service"], "summary": summary, "security": []}
        return {"get": {**operation, "description": description, "responses": responses}}

    return {
        "/": get(
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
        "/healthz": get(
            "healthz", "Tell that the process is alive", "On both ports. Touches nothing.", {"200": plain("It is.")}
        ),
        "/readyz": get(
            "readyz",
            "Tell whether to send traffic here",
            "On both ports. Fails until the store has answered once, and while the gateway drains.",
            {"200": plain("Yes."), "503": plain("Not yet, or no more.")},
        ),
        "/metrics": get(
            "metrics",
            "Read the metrics",
            "On the manage port, in Prometheus' text format, summed over the workers.",
            {"200": plain("The metrics.")},
        ),
        "/openapi.json": get(
            "openapi",
            "Read this document",
            "On the manage port.",
            {"200": {"description": "This document.", "content": {JSON: {"schema": {"type": "object"}}}}},
        ),
        "/docs": get(
            "docs",
            "Read this document as a page",
            "On the manage port.",
            {"200": {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}}},
        ),
    }
