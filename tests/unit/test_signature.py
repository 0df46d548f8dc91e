import hmac

import pytest

from edgeproxy.resolve.signature import Outcome, sign, verify

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
