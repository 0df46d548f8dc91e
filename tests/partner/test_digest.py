"""HTTP Digest: the RFC's vectors, what counts as an answer to a challenge, and nonces."""

import pytest

from edgeproxy.partner import digest
from edgeproxy.partner.digest import Credentials, Nonces

# RFC 7616 §3.9.1: one user and request, answered with both algorithms.
PASSWORD = "Circle of Life"
REALM = "http-auth@example.org"


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_vectors_of_the_rfc(algorithm: str, response: str) -> None:
    credentials = Credentials(
        username="Mufasa",
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        uri="/dir/index.html",
        response=response,
        algorithm=algorithm,
        count="00000001",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    password_hash = digest.ha1(algorithm, "Mufasa", REALM, PASSWORD)
    assert digest.proves(credentials, password_hash, "GET")
    assert not digest.proves(credentials, password_hash, "POST")
    assert not digest.proves(credentials, digest.ha1(algorithm, "Mufasa", REALM, "circle of life"), "GET")


GOOD = {
    "username": '"demo"',
    "realm": '"edgeproxy"',
    "nonce": '"abc"',
    "uri": '"/2.4.9/customers?name=a,b"',
    "response": '"00"',
    "algorithm": "SHA-256",
    "qop": "auth",
    "nc": "00000001",
    "cnonce": '"x"',
}


def header(**changes: str | None) -> str:
    said = {**GOOD, **changes}
    return "Digest " + ", ".join(f"{name}={value}" for name, value in said.items() if value is not None)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algorithm": None},  # then it is MD5
        {"algorithm": "md5"},
        {"algorithm": '"SHA-256"', "qop": '"auth"', "nc": '"00000001"'},  # some clients quote what they should not
        {"opaque": '""', "charset": "UTF-8"},
    ],
)
def test_an_answer_to_a_challenge(changes: dict[str, str | None]) -> None:
    credentials = digest.read(header(**changes))
    assert credentials is not None
    assert (credentials.username, credentials.uri) == ("demo", "/2.4.9/customers?name=a,b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Digest",
        "Digest ,,,",
        "Basic ZGVtbzpkZW1vLXBhc3N3b3Jk",
        *(header(**{name: None}) for name in GOOD if name != "algorithm"),
        header(realm='"another"'),
        header(qop="auth-int"),
        header(algorithm="SHA-512-256"),
        header(algorithm="SHA-256-sess"),
        header(nc="1"),
        header(nc="0000000g"),
        *(
            header(nc=f'"{count}"')
            for count in ("0x000001", "+0000001", "0000_001", " 0000001", "00000001 ", "٠٠٠٠٠٠٠١")
        ),
        header(nc="00000000"),
        header(username='"\udcff"'),
    ],
)
def test_what_is_no_answer_to_a_challenge(text: str) -> None:
    assert digest.read(text) is None


def test_a_nonce_is_good_for_five_minutes() -> None:
    nonces = Nonces(b"key")
    nonce = nonces.make(1000.0)
    assert nonces.is_good(nonce, 1000.0)
    assert nonces.is_good(nonce, 1299.9)
    assert not nonces.is_good(nonce, 1300.1)
    assert nonces.is_good(nonce, 950.0)  # made by a node whose clock is ahead
    assert not nonces.is_good(nonce, 900.0)
    assert nonce != nonces.make(1000.0)


@pytest.mark.parametrize(
    "change", [lambda nonce: nonce[:-4] + "AAAA", lambda nonce: "B" + nonce[1:], lambda _: "", lambda _: "é"]
)
def test_a_nonce_that_is_not_ours(change: object) -> None:
    nonces = Nonces(b"key")
    assert callable(change)
    forged = change(nonces.make(1000.0))
    assert not nonces.knows(forged)
    assert not nonces.is_good(forged, 1000.0)
    assert not Nonces(b"another").is_good(nonces.make(1000.0), 1000.0)


def test_both_algorithms_are_offered_the_better_one_first() -> None:
    first, second = digest.challenges("abc", stale=False)
    assert "algorithm=SHA-256" in first
    assert "algorithm=MD5" in second
    assert all('qop="auth"' in line and "stale" not in line for line in (first, second))
    assert all("stale=true" in line for line in digest.challenges("abc", stale=True))
