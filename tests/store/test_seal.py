"""Seals: what opens with which key and where, and that nothing shows a secret or a key."""

import pytest
from pydantic import SecretStr

from edgeproxy.errors import SealError
from edgeproxy.store import sealing
from edgeproxy.store.sealing import Kept, Seal

OLD, NEW = sealing.new_key(), sealing.new_key()
PLACE, OTHER = sealing.account_secret("a"), sealing.account_secret("b")
SECRET = "hunter2-hunter2"


def seal_with(*keys: str) -> Seal:
    return Seal([SecretStr(key) for key in keys])


def test_what_is_sealed_opens_with_any_of_the_keys_and_with_no_other() -> None:
    kept = seal_with(OLD).seal(SECRET, PLACE)
    assert SECRET not in str(kept)
    for fitting in ((OLD,), (OLD, NEW), (NEW, OLD)):
        assert seal_with(*fitting).open(kept, PLACE) == SECRET
    for seal in (seal_with(NEW), seal_with()):
        with pytest.raises(SealError):
            seal.open(kept, PLACE)


def test_the_first_key_seals() -> None:
    kept = seal_with(NEW, OLD).seal(SECRET, PLACE)
    assert seal_with(NEW).open(kept, PLACE) == SECRET


def test_without_keys_a_secret_stays_plain_and_with_keys_a_plain_one_is_read() -> None:
    assert seal_with().seal(SECRET, PLACE) == SECRET
    assert seal_with(NEW).open(SECRET, PLACE) == SECRET
    assert (bool(seal_with()), bool(seal_with(NEW))) == (False, True)


def test_in_another_place_it_does_not_open() -> None:
    seal = seal_with(NEW)
    kept = seal.seal(SECRET, PLACE)
    with pytest.raises(SealError, match="account b"):
        seal.open(kept, OTHER)
    assert seal.standing(kept, OTHER) == "shut"


@pytest.mark.parametrize("secret", ["sealed", '{"sealed": "x"}', "gAAAAAB", "ключ", "a\0b"])
def test_a_secret_of_any_form_is_told_from_a_sealed_one(secret: str) -> None:
    for seal in (seal_with(), seal_with(NEW)):
        assert seal.open(seal.seal(secret, PLACE), PLACE) == secret


def test_sealing_again_takes_the_first_key_and_leaves_what_has_it() -> None:
    old, both, new = seal_with(OLD), seal_with(NEW, OLD), seal_with(NEW)
    kept = old.seal(SECRET, PLACE)
    assert [both.standing(one, PLACE) for one in (SECRET, kept)] == ["plain", "older"]
    again = both.rotate(kept, PLACE)
    assert new.open(again, PLACE) == SECRET
    assert both.standing(again, PLACE) == "first"
    assert both.rotate(again, PLACE) is again
    assert new.open(both.rotate(SECRET, PLACE), PLACE) == SECRET
    with pytest.raises(SealError):
        new.rotate(kept, PLACE)


@pytest.mark.parametrize("kept", [{"sealed": "x"}, {"sealed": ""}, {}, {"sealed": None}])
def test_what_is_no_seal_of_ours_does_not_open(kept: Kept) -> None:
    with pytest.raises(SealError):
        seal_with(NEW).open(kept, PLACE)


def test_a_value_by_itself_is_a_text() -> None:
    for seal in (seal_with(), seal_with(NEW)):
        text = seal.seal_text("00ff", PLACE)
        assert isinstance(text, str)
        assert seal.open_text(text, PLACE) == "00ff"


def test_neither_secret_nor_key_is_shown() -> None:
    seal = seal_with(NEW)
    kept = seal.seal(SECRET, PLACE)
    with pytest.raises(SealError) as caught:
        seal_with(OLD).open(kept, PLACE)
    assert "EDGEPROXY_STORE_KEYS" in str(caught.value)
    assert "account a" in str(caught.value)
    token = kept["sealed"] if isinstance(kept, dict) else ""
    for shown in (repr(seal), str(caught.value), repr(caught.value)):
        assert not [word for word in (SECRET, NEW, OLD, token) if word in shown]


def test_what_cannot_be_opened_is_logged_once_for_each_place(caplog: pytest.LogCaptureFixture) -> None:
    seal = seal_with(NEW)
    for place in (PLACE, OTHER, PLACE):
        seal.tell(SealError(place))
    assert [record.getMessage() for record in caplog.records] == [str(SealError(PLACE)), str(SealError(OTHER))]
