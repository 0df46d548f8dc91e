import hmac
import time

import pytest

from edgeproxy.dynamic import signature
from edgeproxy.dynamic.signature import Outcome, sent, sign, verify

BODY = b'{"advid":"123","numbers":"321"}'
DOCUMENTED = "bdc98a82e1d0c873ea95c35c2e7decbd3752a2fb"
CURLY = "{“advid”:”123”,”numbers”:”321”}".encode()  # as the public documentation prints it


def test_the_documented_vector() -> None:
    assert sign(BODY, b"freespee") == DOCUMENTED


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 200])
def test_a_secret_of_any_length(length: int) -> None:
    secret = bytes(range(length))
    for body in (b"", BODY, BODY * 100):
        assert sign(body, secret) == hmac.digest(secret, body, "sha1").hex()


@pytest.mark.parametrize(
    ("signatures", "secrets", "outcome"),
    [
        ([DOCUMENTED], [b"freespee"], Outcome.GOOD),
        ([DOCUMENTED.upper()], [b"freespee"], Outcome.GOOD),
        ([DOCUMENTED, DOCUMENTED], [b"freespee"], Outcome.GOOD),
        ([DOCUMENTED.upper(), DOCUMENTED], [b"next", b"freespee"], Outcome.GOOD),
        ([DOCUMENTED], [b"next", b"freespee"], Outcome.GOOD),
        ([DOCUMENTED], [b"freespee", b"previous"], Outcome.GOOD),
        ([], [b"freespee"], Outcome.MISSING),
        ([], [], Outcome.MISSING),
        ([DOCUMENTED], [], Outcome.BAD),
        ([DOCUMENTED], [b"other"], Outcome.BAD),
        ([DOCUMENTED, "0" * 40], [b"freespee"], Outcome.BAD),
        (["0" * 40, DOCUMENTED], [b"freespee"], Outcome.BAD),
        ([""], [b"freespee"], Outcome.BAD),
        ([DOCUMENTED[:-1]], [b"freespee"], Outcome.BAD),
        ([" " + DOCUMENTED], [b"freespee"], Outcome.BAD),
        (["ü" * 40], [b"freespee"], Outcome.BAD),
        (["\udcff" * 40], [b"freespee"], Outcome.BAD),
    ],
)
def test_verify(signatures: list[str], secrets: list[bytes], outcome: Outcome) -> None:
    assert verify(BODY, signatures, secrets) is outcome


def test_curly_quotes_are_another_body() -> None:
    assert verify(CURLY, [DOCUMENTED], [b"freespee"]) is Outcome.BAD


def test_an_account_without_secrets_does_not_take_the_empty_secret() -> None:
    assert verify(BODY, [sign(BODY, b"")], []) is Outcome.BAD


@pytest.mark.parametrize(
    ("in_header", "query", "signatures"),
    [
        ([], "", []),
        (["a"], "", ["a"]),
        ([], "sign=b", ["b"]),
        (["a"], "x=1&sign=b&y", ["a", "b"]),
        ([], "sign", [""]),
        ([], "sign=", [""]),
        ([], "sign=a=b", ["a=b"]),
        ([], "design=a&sign2=b&xsign&=sign", []),
        (["a", "a"], "", [""]),
        (["a", "a"], "sign=a", [""]),
        (["a"], "sign=a&sign=a", [""]),
        ([], "sign&sign", [""]),
    ],
)
def test_at_most_one_signature_of_the_header_and_one_of_the_query_is_looked_at(
    in_header: list[str], query: str, signatures: list[str]
) -> None:
    assert list(sent(in_header, query)) == signatures


def test_what_stands_for_several_signatures_is_never_good() -> None:
    for in_header, query in ((["a", "a"], ""), ([DOCUMENTED] * 2, ""), ([], f"sign={DOCUMENTED}&sign={DOCUMENTED}")):
        assert verify(BODY, sent(in_header, query), [b"freespee", b""]) is Outcome.BAD


def test_a_body_is_signed_once_for_each_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[bytes] = []

    def counted(body: bytes, secret: bytes) -> str:
        done.append(secret)
        return sign(body, secret)

    monkeypatch.setattr(signature, "sign", counted)
    assert verify(BODY, [DOCUMENTED, DOCUMENTED], [b"next", b"freespee"]) is Outcome.GOOD
    assert done == [b"next", b"freespee"]


@pytest.mark.alone
def test_a_query_full_of_signatures_costs_no_more_than_one() -> None:
    body, query = b"x" * 16_384, "&".join(["sign=0"] * 1170)  # as many as a line of a head may hold
    began = time.thread_time()
    for _ in range(10):
        assert verify(body, sent([], query), [b"freespee", b"next"]) is Outcome.BAD
    assert time.thread_time() - began < 0.01
