"""What a request's target names: the same resource, however clients and proxies write it (RFC 9112 §3.2)."""

import re

_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_SLASHES = re.compile(r"/{2,}")
_QUERY = re.compile(r"[?&#]")  # the public documents have one that begins with an &: `partner/README.md`, *Requests*


def resource(target: str, prefix: str = "") -> str:
    """The path and query of a target.

    A proxy's absolute form (`http://host/path`) loses its host; slashes that follow one another are one, for a base URL
    that ends in one is put before paths that begin with one; `prefix` is taken off where it stands, for a proxy may
    have left it there. What names no path, such as `*`, stays as it is.
    """
    if not target.startswith("/"):
        authority = _AUTHORITY.match(target)
        if authority is None:
            return target
        target = target[authority.end() :]
        if not target.startswith("/"):
            target = "/" + target
    query = _QUERY.search(target)
    path, rest = (target[: query.start()], target[query.start() :]) if query else (target, "")
    if "//" in path:
        path = _SLASHES.sub("/", path)
    if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
        path = path[len(prefix) :] or "/"
    return path + rest
