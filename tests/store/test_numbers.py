"""Static numbers in the store: a file of them brought in, whole rows only, and again after an interruption."""

from pathlib import Path

import pytest

from edgeproxy.numbers import file as numbers_file
from edgeproxy.numbers.file import Report, Row
from edgeproxy.store import keys
from edgeproxy.store.functions import Functions
from edgeproxy.store.numbers import StaticNumbers
from tests.conftest import Desk
from tests.servers import calls, on_primaries, tells_what_is_on_disk

ACCOUNT = """
accounts:
  x:
    secrets: [s]
    region: RU
    points: {daily: 0}
    numbers: [+79990000001..+79990001000]
    pools: {p: {replaces: all, numbers: [+74950000001]}}
"""


def rows(tmp_path: Path, *lines: str) -> list[Row]:
    path = tmp_path / "numbers.csv"
    path.write_text("\n".join(["phoneNumber,source,redirectNumber,reserveNumber,reserveTimeOut,poolName", *lines]))
    return numbers_file.read(path)


async def bring_in(desk: Desk, some: list[Row]) -> Report:
    return await numbers_file.bring_in(desk.store, await desk.account("x"), some, lambda _: None)


async def test_rows_are_taken_whole_or_refused_whole(desk: Desk, tmp_path: Path) -> None:
    await desk.load(ACCOUNT)
    file = rows(
        tmp_path,
        "79990000001,google,,,,",
        "79990000002,google,74951234567,74957654321,5,Office",  # the timeout is wrong: nothing of the row is taken
        "79991234567,google,,,,",
        "74950000001,google,,,,",
        "79990000001,,74951234567,,,",  # which row would count?
        "79990000003,google,,,,",
    )
    report = await bring_in(desk, file)
    assert dict(report.counts) == {"create": 2}
    assert report.refused == [
        (3, "redirectOptions.reserveRedirect.reserveTimeOut: must be from 10 to 120 seconds"),
        (4, "phoneNumber: is none of the account's numbers"),
        (5, "phoneNumber: is neither free nor in use as a static number"),
        (6, "phoneNumber: stands in line 2 already"),
    ]
    in_use = await StaticNumbers(desk.store).in_use(await desk.account("x"))
    assert list(in_use) == ["+79990000001", "+79990000003"]
    assert set(in_use["+79990000001"]) == {"displayOptions"}
    report = await bring_in(desk, rows(tmp_path, "79990000001,,74951234567,,,"))
    assert dict(report.counts) == {"update": 1}
    in_use = await StaticNumbers(desk.store).in_use(await desk.account("x"))
    assert set(in_use["+79990000001"]) == {"displayOptions", "redirectOptions"}


async def test_a_file_that_is_brought_in_again_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    await desk.load(ACCOUNT)
    file = rows(tmp_path, *(f"7999{n:07},google,74951234567,,,Office" for n in range(1, 601)))
    done: list[int] = []
    report = await numbers_file.bring_in(desk.store, await desk.account("x"), file, done.append)
    assert (dict(report.counts), done) == ({"create": 600}, [500, 100])
    with desk.servers() as client:
        on_primaries(client, "CONFIG RESETSTAT")
        assert dict((await bring_in(desk, file)).counts) == {"unchanged": 600}
        assert calls(client, "fcall") == 0


async def test_an_import_that_was_interrupted_goes_on(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.load(ACCOUNT)
    file = rows(tmp_path, *(f"7999{n:07},google,,,," for n in range(1, 11)))
    change = StaticNumbers.change

    async def stops(
        self: StaticNumbers, account: object, what: object, number: str, *rest: object, **more: object
    ) -> object:
        if number == "+79990000006":
            raise KeyboardInterrupt
        return await change(self, account, what, number, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(StaticNumbers, "change", stops)
    with pytest.raises(KeyboardInterrupt):
        await bring_in(desk, file)
    monkeypatch.undo()
    assert dict((await bring_in(desk, file)).counts) == {"unchanged": 5, "create": 5}


async def test_waiting_for_the_last_write_is_waiting_for_all(desk: Desk) -> None:
    with desk.servers() as client:
        if not tells_what_is_on_disk(client):
            pytest.skip("this server cannot tell what is on disk")
        on_primaries(client, "CONFIG RESETSTAT")
        await Functions(desk.store, 0).flush(keys.USERS)
        assert calls(client, "waitaof") == 1
        assert await desk.redis.ttl(keys.flushed(keys.USERS)) in (0, 1)
        await Functions(desk.store, 0).flush(keys.account("x"), keys.points("x"))  # of one server
        assert calls(client, "waitaof") == 2
        await Functions(desk.store, None).flush(keys.USERS)
        assert calls(client, "waitaof") == 2


async def test_points_and_a_free_number_stay_as_they_are_when_a_change_is_refused(desk: Desk) -> None:
    await desk.load(ACCOUNT)  # its budget is 0
    account = await desk.account("x")
    static = StaticNumbers(desk.store, None)
    with pytest.raises(Exception, match="points"):
        await static.change(account, "create", "+79990000001", {"poolName": "p"})
    assert await desk.redis.hget(keys.numbers("x"), "+79990000001") == "free"
    assert await desk.redis.exists(keys.points("x"), keys.statics("x")) == 0
    await static.change(account, "create", "+79990000001", {"poolName": "p"}, free_of_charge=True)
    assert await desk.redis.exists(keys.points("x")) == 0
