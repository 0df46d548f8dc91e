"""A gateway as a process before a store of a deployment, and what it shows."""

import urllib.request
from typing import Any

import orjson

from edgeproxy.dynamic import signature
from tests import processes
from tests.conftest import web_request


def gateway(url: str) -> Any:
    settings = {
        "EDGEPROXY_STORE_URL": url,
        "EDGEPROXY_HOST": "127.0.0.1",
        "EDGEPROXY_TRUSTED_PROXIES": "127.0.0.0/8",
        "EDGEPROXY_DRAIN_S": "0",
        "EDGEPROXY_BUDGET_MS": "2000",
    }
    return processes.started("serve", "--port", "0", "--manage-port", "0", settings=settings)


def tell(running: processes.Running, ip: str, session: str = "") -> tuple[str, str]:
    """The session and the number that the gateway shows it."""
    body = orjson.dumps(web_request(sessionId=session))
    headers = {"X-SIGN": signature.sign(body, b"freespee"), "X-Forwarded-For": ip}
    with urllib.request.urlopen(urllib.request.Request(f"{running.edge}/api", body, headers), timeout=10) as response:
        answer = orjson.loads(response.read())
    assert answer["success"], answer
    return answer["sessionId"], answer["numbers"][0]["replace_with"]["e164"]
