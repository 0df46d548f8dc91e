"""Store URLs: what is read, and what is refused, without a word of what could be secret."""

import re
from pathlib import Path

import pytest

from edgeproxy.store.url import StoreURL

GOOD = {
    "redis://store": StoreURL("single", (("store", 6379),)),
    "redis://store:7000/2": StoreURL("single", (("store", 7000),), database=2),
    "redis://:p%40ss@store": StoreURL("single", (("store", 6379),), password="p@ss"),
    "redis://user:p%2F%3A@[2001:db8::1]:7000": StoreURL(
        "single", (("2001:db8::1", 7000),), username="user", password="p/:"
    ),
    "rediss://store": StoreURL("single", (("store", 6379),), tls=True),
    "unix:///run/store.sock": StoreURL("single", path="/run/store.sock"),
    "unix:///run/store.sock?db=3": StoreURL("single", path="/run/store.sock", database=3),
    "unix://user:p@/run/store.sock": StoreURL("single", path="/run/store.sock", username="user", password="p"),
    "redis+cluster://a:7000,b,[::1]:7001": StoreURL("cluster", (("a", 7000), ("b", 6379), ("::1", 7001))),
    "rediss+cluster://user:p@a": StoreURL("cluster", (("a", 6379),), username="user", password="p", tls=True),
    "redis+sentinel://a,b:7000/main": StoreURL("sentinel", (("a", 26379), ("b", 7000)), service="main"),
    "redis+sentinel://:p@a/main/4?sentinel_password=q": StoreURL(
        "sentinel", (("a", 26379),), password="p", service="main", database=4, sentinel_password="q"
    ),
}
BAD = {
    "http://store": "expected one of redis://, ",
    "store:6379": "expected one of redis://, ",
    "redis://": "a host is missing",
    "redis://a,b": "several hosts: only of",
    "redis://store:port": "expected HOST:PORT",
    "redis://store:70000": "expected HOST:PORT",
    "redis://store/x": "the database is no number",
    "redis://store/0/1": "its path has too many parts",
    "redis://store?timeout=5": "there is a parameter that is none of a store's",
    "redis://store?db=1&db=2": "a parameter stands twice",
    "redis://store?sentinel_password=q": "sentinel_password: only of",
    "redis://store?ssl_ca_certs=/x": "ssl_ca_certs: only of rediss://",
    "rediss://store?ssl_ca_certs=/no/such/file": "ssl_ca_certs: /no/such/file is no file",
    "unix://": "expected unix:///PATH",
    "unix://host/path": "expected unix:///PATH",
    "redis+cluster://a/1": "a cluster has no numbered databases",
    "redis+cluster://a,,b": "a host is missing",
    "redis+sentinel://a": "the name of the sentinels' service is missing",
}


@pytest.mark.parametrize(("text", "expected"), GOOD.items(), ids=GOOD)
def test_what_is_read(text: str, expected: StoreURL) -> None:
    assert StoreURL.parse(text) == expected


@pytest.mark.parametrize(("text", "why"), BAD.items(), ids=BAD)
def test_what_is_refused_and_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(why)):
        StoreURL.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *(url.replace("://", "://user:secret-word@") for url in BAD if "://" in url),
        "redis://:pa?secret-word@h",
        "redis://:secret-word℀@h",
        "redis://:pa/secret-word@h",
        "redis://:pa#secret-word@h",
    ],
)
def test_no_refusal_and_no_repr_tells_a_password(text: str) -> None:
    try:
        shown = repr(StoreURL.parse(text))
    except ValueError as refused:
        shown = str(refused)
    assert "secret-word" not in shown


def test_tls_takes_files(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    url = StoreURL.parse(f"rediss+cluster://a?ssl_ca_certs={file}&ssl_certfile={file}&ssl_keyfile={file}")
    assert dict(url.tls_files) == dict.fromkeys(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), str(file))
