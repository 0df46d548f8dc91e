"""Secrets sealed in the store: what stands there, who can read it, and how keys change while gateways serve."""

import asyncio
import itertools
import re
from collections.abc import Iterator
from typing import Any

import click.testing
import orjson
import pytest
import redis
import redis.asyncio
from pydantic import SecretStr

from edgeproxy.accounts import file as account_file
from edgeproxy.commands import demo_records as demo
from edgeproxy.commands import main
from edgeproxy.dynamic import signature
from edgeproxy.errors import Fault, SealError
from edgeproxy.partner import digest
from edgeproxy.store import Store, inventory, keys, rotation, sealing
from edgeproxy.store.calls import Calls
from edgeproxy.store.sealing import Seal
from edgeproxy.store.users import User, Users
from tests.conftest import DEMO, far, serving, web_request
from tests.servers import client_of

OLD, NEW = sealing.new_key(), sealing.new_key()
SECRETS = ("freespee", "tiny-key", "shared-key", "recycle-key")
CALLER = "+493012345678"
HA1 = {"SHA-256": "aa" * 32, "MD5": "bb" * 16}


def opened(url: str, *store_keys: str) -> Store:
    return Store(url, seal=Seal([SecretStr(key) for key in store_keys]))


def run(url: str, *arguments: str, store_keys: str = "") -> click.testing.Result:
    settings = {"EDGEPROXY_STORE_URL": url, "EDGEPROXY_STORE_KEYS": store_keys}
    return click.testing.CliRunner().invoke(main, arguments, env=settings, input="a-password\n")


async def load(store: Store, text: str = "") -> list[inventory.Change]:
    file = account_file.parse((text or DEMO.read_text()).encode())
    changes = await inventory.compare(store, file)
    await inventory.apply(store, changes)
    return changes


async def fill(store: Store) -> None:
    """Everything that there is of secrets: accounts', a user's, the nonces' key, a salt."""
    await load(store)
    await Users(store).save("u", User("demo", HA1))
    await Users(store).nonce_key()
    await Calls(store, None).caller(await account(store), CALLER)


async def account(store: Store, name: str = "demo") -> Any:
    return await store.account(name, far())


def everything(url: str) -> Iterator[tuple[bytes, bytes]]:
    """Every key and all that stands under it."""
    with client_of(url, decoded=False) as client:
        for key in client.scan_iter(count=1000):
            kind = client.type(key)
            if kind == b"string":
                found: Any = client.get(key)
            elif kind == b"hash":
                found = client.hgetall(key)
            elif kind == b"set":
                found = client.smembers(key)
            elif kind == b"zset":
                found = client.zrange(key, 0, -1)
            else:
                found = client.xrange(key)
            yield key, key + b" " + (found if isinstance(found, bytes) else repr(found).encode())


def holds(text: bytes, secret: str) -> bool:
    """Whether a word of the text is the secret; `freespee_caller_id` is a field's name."""
    return re.search(rb"(?<![A-Za-z0-9_-])" + re.escape(secret.encode()) + rb"(?![A-Za-z0-9_-])", text) is not None


# What stands in the store ---------------------------------------------------------------------------------------------


async def test_no_secret_stands_in_the_store_in_clear(store_url: str) -> None:
    async with serving(store_url, store_keys=[NEW], allow_plain_http=True) as edge, opened(store_url, NEW) as store:
        await demo.fill(store)
        await Users(store).save("u", User("demo", HA1))
        status, answer, _ = await edge.post(web_request(trackingId="me"))
        assert status == 200
        number = answer["numbers"][0]["replace_with"]["e164"]
        for event in ("started", "ended"):
            body = {"call_id": "c", "event": event, "number": number, "caller": CALLER}
            async with edge.client.post(
                f"{edge.manage}/calls", data=orjson.dumps(body), headers={"Access-Token": "demo-token"}
            ) as response:
                assert response.status == 200
        nonce_key = (await Users(store).nonce_key()).hex()
        salt_kept = await store.client(keys.account("demo")).hget(keys.account("demo"), "salt")
        salt = store.seal.open_text(str(salt_kept), sealing.callers_salt("demo"))
        calls = [key for key, _ in everything(store_url) if b":cdr:" in key]
    demo_hashes = [digest.ha1(algorithm, demo.USER, digest.REALM, demo.PASSWORD) for algorithm in digest.OFFERED]
    secrets = [*SECRETS, *demo_hashes, *HA1.values(), nonce_key, salt, demo.PASSWORD, "demo-token", NEW]
    raw = [bytes.fromhex(text) for text in (*demo_hashes, nonce_key, salt)]
    assert len(salt) == 32
    assert len(calls) > 1
    seen = set()
    for key, text in everything(store_url):
        seen.add(key)
        assert not [secret for secret in secrets if holds(text, secret)], key
        assert not [secret for secret in raw if secret in text], key
    named = {keys.account("demo"), keys.USERS, keys.NONCE_KEY, keys.account("recycle"), keys.calls("demo")}
    assert {name.encode() for name in named} <= seen


async def test_without_keys_the_walk_finds_them(store_url: str) -> None:
    async with opened(store_url) as store:
        await fill(store)
    texts = [text for _, text in everything(store_url)]
    for secret in (*SECRETS, *HA1.values()):
        assert any(holds(text, secret) for text in texts), secret


async def test_a_load_that_changes_nothing_changes_nothing(store_url: str) -> None:
    async with opened(store_url, NEW) as store:
        assert len(await load(store)) == 4
        held = await store.client(keys.account("demo")).hgetall(keys.account("demo"))
        assert await load(store) == []
        (change,) = await load(store, DEMO.read_text().replace("[freespee]", "[freespee, other]"))
        assert change.lines == ("secrets change",)
        assert (await account(store)).secrets == (b"freespee", b"other")
        assert await store.client(keys.account("demo")).hgetall(keys.account("demo")) != held
    async with opened(store_url, NEW, OLD) as store, opened(store_url) as bare:
        assert [change.account for change in await inventory.compare(store, account_file.read(DEMO))] == ["demo"]
        with pytest.raises(SealError, match="account demo"):
            await inventory.compare(bare, account_file.read(DEMO))


async def test_plain_secrets_are_read_when_keys_are_set(store_url: str) -> None:
    async with opened(store_url) as store:
        await fill(store)
        salted = await Calls(store, None).caller(await account(store), CALLER)
        nonces = await Users(store).nonce_key()
    async with opened(store_url, NEW) as store:
        assert (await account(store)).secrets == (b"freespee",)
        assert await Calls(store, None).caller(await account(store), CALLER) == salted
        assert await Users(store).nonce_key() == nonces
        assert await Users(store).get("u") == User("demo", HA1)
        assert await load(store) == []


# Out of place ---------------------------------------------------------------------------------------------------------


async def test_a_secret_copied_to_another_account_does_not_open_there(store_url: str) -> None:
    async with opened(store_url, NEW) as store:
        await fill(store)
        config = orjson.loads(await store.client(keys.account("tiny")).hget(keys.account("tiny"), "config") or b"")
        stolen = orjson.loads(await store.client(keys.account("demo")).hget(keys.account("demo"), "config") or b"")
        config["secrets"] = stolen["secrets"]
        await store.client(keys.account("tiny")).hset(keys.account("tiny"), "config", orjson.dumps(config).decode())
        with pytest.raises(Fault, match="STORE_UNAVAILABLE"):
            await account(store, "tiny")
        assert (await account(store)).secrets == (b"freespee",)
        salt = await store.client(keys.account("demo")).hget(keys.account("demo"), "salt")
        await store.client(keys.account("shared")).hset(keys.account("shared"), "salt", str(salt))
        with pytest.raises(Fault):
            await Calls(store, None).caller(await account(store, "shared"), CALLER)


async def test_a_password_copied_to_another_user_or_account_does_not_open_there(store_url: str) -> None:
    async with opened(store_url, NEW) as store:
        await fill(store)
        users = Users(store)
        kept = str(await store.client(keys.USERS).hget(keys.USERS, "u"))
        await store.client(keys.USERS).hset(keys.USERS, "thief", kept)
        await store.client(keys.USERS).hset(keys.USERS, "mover", kept.replace('"demo"', '"tiny"'))
        for name in ("thief", "mover"):
            with pytest.raises(Fault, match="STORE_UNAVAILABLE"):
                await users.get(name)
        await store.client(keys.USERS).hset(keys.USERS, "u", kept.replace('"demo"', '"tiny"'))
        with pytest.raises(Fault):
            await users.get("u")
        assert await users.all() == {"u": "tiny", "thief": "demo", "mover": "tiny"}


async def test_without_a_fitting_key_everything_is_refused_and_told_once(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(store_url, OLD) as store:
        await fill(store)
        known = await account(store)
    for store_keys in ((NEW,), ()):
        caplog.clear()
        async with opened(store_url, *store_keys) as store:
            for _ in range(3):
                for ask in (
                    account(store),
                    Users(store).get("u"),
                    Users(store).nonce_key(),
                    Calls(store, None).caller(known, CALLER),
                ):
                    with pytest.raises(Fault, match="STORE_UNAVAILABLE"):
                        await ask
            assert all(server.up for server in await store.servers.all())  # the store is not to blame
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 4
        assert all("EDGEPROXY_STORE_KEYS" in line for line in lines)
        assert sum("account demo" in line for line in lines) == 3
        for secret in (*SECRETS, *HA1.values(), OLD, NEW):
            assert not holds("\n".join(lines).encode(), secret)


# Keys that change -----------------------------------------------------------------------------------------------------


async def test_keys_change_while_two_gateways_serve(store_url: str) -> None:
    """At each step one gateway has the settings before it and the other those after it."""
    async with opened(store_url, OLD) as store:
        await fill(store)
        salted = await Calls(store, None).caller(await account(store), CALLER)
        nonces = await Users(store).nonce_key()

    async def serves(*store_keys: str) -> None:
        async with opened(store_url, *store_keys) as gateway:
            demo_account = await account(gateway)
            body = orjson.dumps(web_request())
            signed = signature.sign(body, b"freespee")
            assert signature.verify(body, [signed], demo_account.secrets) is signature.Outcome.GOOD
            assert await Users(gateway).get("u") == User("demo", HA1)
            assert await Users(gateway).nonce_key() == nonces
            assert await Calls(gateway, None).caller(demo_account, CALLER) == salted
            # What one writes meanwhile, the other has to read.
            await Users(gateway).save("fresh", User("demo", HA1))
            await gateway.client(keys.account("tiny")).hdel(keys.account("tiny"), "salt")
            await Calls(gateway, None).caller(await account(gateway, "tiny"), CALLER)

    async def reads(*store_keys: str) -> None:
        async with opened(store_url, *store_keys) as gateway:
            assert await Users(gateway).get("fresh") == User("demo", HA1)
            await Calls(gateway, None).caller(await account(gateway, "tiny"), CALLER)

    steps = [(OLD,), (OLD, NEW), (NEW, OLD)]
    for before, after in itertools.pairwise(steps):
        for one, other in ((before, after), (after, before)):
            await serves(*one)
            await reads(*other)
    async with opened(store_url, NEW, OLD) as store:
        assert (await rotation.rotate(store)).shut == []
    for one, other in (((NEW, OLD), (NEW,)), ((NEW,), (NEW, OLD))):
        await serves(*one)
        await reads(*other)
    async with opened(store_url, OLD) as store:
        with pytest.raises(Fault):
            await account(store)


async def test_rotating_seals_what_is_plain_or_old_and_nothing_twice(store_url: str) -> None:
    async with opened(store_url) as store:
        await fill(store)
    async with opened(store_url, OLD) as store:
        await Users(store).save("v", User("demo", HA1))
    async with opened(store_url, NEW, OLD) as store:
        before = (await rotation.survey(store)).counts
        assert before == {"plain": 8, "older": 2}  # 4 accounts, 2 HA1s of a user, the nonces' key, a salt
        assert (await rotation.rotate(store)).counts == before
        assert (await rotation.survey(store)).counts == {"first": 10}
        held = list(everything(store_url))
        assert (await rotation.rotate(store)).counts == {"first": 10}
        assert list(everything(store_url)) == held


async def test_rotating_leaves_versions_and_goes_unnoticed(store_url: str) -> None:
    async with opened(store_url, OLD) as gateway, opened(store_url, NEW, OLD) as store:
        await fill(gateway)
        known = await account(gateway)
        await rotation.rotate(store)
        assert await store.client(keys.account("demo")).hget(keys.account("demo"), "version") == "1"
        assert gateway.known_account("demo") is known
        assert await account(store) == known  # the same version, and the same secrets


async def test_rotating_overwrites_nothing_that_changes_meanwhile(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes between the reading of each value and its replacement: the rotation reads it again."""
    async with opened(store_url, OLD) as store:
        await fill(store)
    meddled = set()
    read = rotation._read

    async with opened(store_url, NEW, OLD) as store, opened(store_url, OLD) as other:

        async def read_and_meddle(client: Any, value: Any) -> str:
            text = await read(client, value)
            if value.key not in meddled and isinstance(client, redis.asyncio.client.Pipeline):
                meddled.add(value.key)
                if value.key == keys.account("demo"):
                    await load(other, DEMO.read_text().replace("[freespee]", "[changed]"))
                if value.key == keys.USERS:
                    await Users(other).save("u", User("demo", {"MD5": "cc" * 16}))
            return text

        monkeypatch.setattr(rotation, "_read", read_and_meddle)
        await rotation.rotate(store)
        assert {keys.account("demo"), keys.USERS} <= meddled
    async with opened(store_url, NEW) as store:
        assert (await account(store)).secrets == (b"changed",)
        assert (await account(store)).version == 2
        assert await Users(store).get("u") == User("demo", {"MD5": "cc" * 16})


async def test_a_rotation_that_was_interrupted_is_run_again(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(store_url, OLD) as store:
        await fill(store)
    async with opened(store_url, NEW, OLD) as store:
        read, turns = rotation._read, iter(range(100))

        async def dies(client: Any, value: Any) -> str:
            if next(turns) == 4:
                raise ConnectionError("died")
            return await read(client, value)

        with monkeypatch.context() as context:
            context.setattr(rotation, "_read", dies)
            with pytest.raises(ConnectionError):
                await rotation.rotate(store)
        half = (await rotation.survey(store)).counts
        assert half["first"]
        assert half["older"]
        assert await rotation.rotate(store)
        assert set((await rotation.survey(store)).counts) == {"first"}


# Commands -------------------------------------------------------------------------------------------------------------


def test_commands_seal_and_tell(store_url: str) -> None:
    first = run(store_url, "keys", "new").stdout.strip()
    assert first != run(store_url, "keys", "new").stdout.strip()
    assert run(store_url, "load", str(DEMO)).exit_code == 0
    assert "secrets: 0 sealed with the first key, 0 with an older one, 4 plain" in run(store_url, "check").stdout
    assert run(store_url, "user", "add", "u", "--account", "demo", store_keys=first).exit_code == 0
    check = run(store_url, "check", store_keys=first)
    assert check.exit_code == 0
    assert "secrets: 2 sealed with the first key, 0 with an older one, 4 plain, 0 that cannot be opened" in check.stdout
    rotated = run(store_url, "keys", "rotate", store_keys=first)
    assert rotated.exit_code == 0
    assert rotated.stdout == "4 that were plain and 0 under an older key are sealed with the first key, 2 were\n"
    assert "secrets: 6 sealed with the first key" in run(store_url, "check", store_keys=first).stdout
    assert "6 with an older one" in run(store_url, "check", store_keys=f"{NEW},{first}").stdout
    assert run(store_url, "load", str(DEMO), store_keys=first).stdout == "0 of 4 accounts changed\n"


def test_commands_without_a_fitting_key_say_which_setting(store_url: str, tmp_path: Any) -> None:
    assert run(store_url, "load", str(DEMO), store_keys=OLD).exit_code == 0
    rows = tmp_path / "rows.csv"
    rows.write_text("phoneNumber,poolName\n79990000001,x\n")
    for arguments in (
        ("load", str(DEMO)),
        ("keys", "rotate"),
        ("check",),
        ("user", "add", "u", "--account", "demo"),
        ("numbers", "import", "--account", "demo", str(rows)),
        ("erase", "--account", "demo", "--caller", CALLER),
    ):
        result = run(store_url, *arguments, store_keys=NEW)
        assert result.exit_code == 1, arguments
        assert not [secret for secret in (*SECRETS, OLD, NEW) if holds(result.output.encode(), secret)]
    assert "account demo cannot be opened" in run(store_url, "check", store_keys=NEW).stdout
    assert "account demo cannot be opened" in run(store_url, "keys", "rotate", store_keys=NEW).stderr
    assert "account demo cannot be opened" in run(store_url, "load", str(DEMO), store_keys=NEW).stderr
    assert "EDGEPROXY_STORE_KEYS" in run(store_url, "load", str(DEMO)).stderr
    assert "EDGEPROXY_STORE_KEYS is not set" in run(store_url, "keys", "rotate").stderr
    # With the key they work.
    assert run(store_url, "erase", "--account", "demo", "--caller", CALLER, store_keys=OLD).exit_code == 0
    exported = run(store_url, "export", "--account", "demo", "--from", "1h", "-", store_keys=OLD)
    assert exported.exit_code == 0


# Nothing secret is shown ----------------------------------------------------------------------------------------------


async def test_a_gateway_without_the_key_is_unavailable_for_the_account_and_shows_nothing(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    shown = []
    async with serving(store_url, store_keys=[OLD], allow_plain_http=True) as edge, opened(store_url, OLD) as store:
        await demo.fill(store)
        assert (await edge.post(web_request()))[0] == 200
        shown += [repr(await account(store)), repr(edge.gateway._settings), repr(store.seal)]
        shown.append(repr(User("demo", HA1)))
        text = DEMO.read_text().replace("[tiny-key]", "[tiny-key, tiny-other]")
        changes = await inventory.compare(store, account_file.parse(text.encode()))
        shown += [repr(changes), *(line for change in changes for line in change.lines)]
        assert "tiny" in repr(changes)
        await Users(store).nonce_key()
        config = await store.client(keys.account("demo")).hget(keys.account("demo"), "config")
        token = orjson.loads(config or "")["secrets"][0]["sealed"]
    caplog.clear()
    async with serving(store_url, store_keys=[OLD], allow_plain_http=True) as edge:
        edge.gateway._store.seal = edge.gateway._store._accounts._seal = Seal([SecretStr(NEW)])
        for _ in range(20):
            status, answer, _ = await edge.post(web_request())
            assert (status, answer["error"]) == (500, "Store unavailable")
            status, answer, _ = await edge.post(web_request(), "wrong")
            assert (status, answer["error"]) == (500, "Store unavailable")
        assert (await edge.post(web_request(advId="nobody")))[1]["error"] == "Invalid signature"
        headers = {"Access-Token": "demo-token", "SiteId": "1001"}
        path = "/phone-service/v1/api/calltracking/ad-platform/phone/list"
        async with edge.client.post(edge.manage + path, data=b"{}", headers=headers) as response:
            assert response.status == 500
            shown.append(await response.text())
        async with edge.client.get(f"{edge.manage}/calls/lookup?number=1", headers=headers) as response:
            assert response.status == 503
            shown.append(await response.text())
        async with edge.client.get(f"{edge.manage}/2.4.9/customers") as response:
            assert response.status == 503  # without the key of nonces there is no challenge
            shown.append(await response.text())
        async with edge.client.get(f"{edge.manage}/metrics") as response:
            shown.append(await response.text())
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert sum("account demo" in line for line in told) == 1
    assert len(told) == 2  # and the key of nonces
    shown += [record.getMessage() for record in caplog.records]
    for store_keys, text in ((NEW, "account demo cannot be opened"), (OLD, " 0 that cannot be opened\n")):
        checked = await asyncio.to_thread(run, store_url, "check", store_keys=store_keys)
        assert text in checked.stdout
        shown.append(checked.output)
    hashes = [digest.ha1(algorithm, demo.USER, digest.REALM, demo.PASSWORD) for algorithm in digest.OFFERED]
    secrets = [*SECRETS, *hashes, *HA1.values(), "tiny-other", demo.PASSWORD, "demo-token", OLD, NEW, token]
    for text in shown:
        assert not [secret for secret in secrets if holds(text.encode(), secret)], text
