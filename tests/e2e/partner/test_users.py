"""Users of the partner API: they come, change their password and go, and no secret is shown."""

import hashlib
import json
import subprocess

import pytest

from tests.e2e.partner.clients import PASSWORD, REALM, USER, Demo, curl
from tests.processes import run

pytestmark = pytest.mark.slow


def user(demo: Demo, *arguments: str, password: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `edgeproxy user ARGUMENTS` beside the demo; the password comes by a pipe."""
    body = None if password is None else password + "\n"
    return run("user", *arguments, body=body, EDGEPROXY_STORE_URL=demo.store)


def logs_in(demo: Demo, name: str, password: str) -> bool:
    status = curl(demo.base + "/miscellaneous/ping", login=f"{name}:{password}").status
    assert status in (200, 401)
    return status == 200


def test_a_user_comes_changes_the_password_and_goes_at_once(demo: Demo) -> None:
    added = user(demo, "add", "ann", "--account", "demo", password="first-password")
    assert (added.returncode, added.stdout) == (0, "ann may ask for demo\n")
    assert [json.loads(line)["audit"] for line in added.stderr.splitlines()] == ["users.add"]
    assert logs_in(demo, "ann", "first-password")

    assert user(demo, "add", "ann", "--account", "demo", password="second: passwörd").returncode == 0
    assert not logs_in(demo, "ann", "first-password")
    assert logs_in(demo, "ann", "second: passwörd")
    assert user(demo, "add", "ann", "--account", "demo", password="short").returncode == 1
    assert logs_in(demo, "ann", "second: passwörd")

    removed = user(demo, "remove", "ann")
    assert (removed.returncode, removed.stdout) == (0, "ann is removed\n")
    assert not logs_in(demo, "ann", "second: passwörd")
    again = user(demo, "remove", "ann")
    assert (again.returncode, again.stderr.splitlines()[-1]) == (1, "there is no user ann")


def test_an_unknown_account_and_a_short_password_make_no_user(demo: Demo) -> None:
    strange = user(demo, "add", "bob", "--account", "nowhere", password="long-enough")
    assert (strange.returncode, strange.stderr.splitlines()[-1]) == (1, "there is no account nowhere")
    short = user(demo, "add", "bob", "--account", "demo", password="1234567")
    assert (short.returncode, short.stderr) == (1, "the password has less than 8 characters\n")
    listed = user(demo, "list").stdout.splitlines()
    assert "demo demo" in listed
    assert "bob demo" not in listed
    assert not logs_in(demo, "bob", "1234567")


def test_no_password_and_no_hash_of_one_is_ever_shown(demo: Demo) -> None:
    password = "a-secret-of-dora"
    said = [user(demo, "add", "dora", "--account", "demo", password=password)]
    assert logs_in(demo, "dora", password)
    assert not logs_in(demo, "dora", password + "-almost")
    said.append(user(demo, "list"))
    assert {"demo demo", "dora demo"} <= set(said[-1].stdout.splitlines())
    said += [user(demo, "remove", "dora"), user(demo, "list")]
    assert "dora demo" not in said[-1].stdout.splitlines()
    shown = demo.log.read_text() + "".join(ran.stdout + ran.stderr for ran in said)
    for name, secret in (("dora", password), (USER, PASSWORD)):
        assert secret not in shown
        for algorithm in ("md5", "sha256"):  # the algorithms of Digest that are offered
            ha1 = hashlib.new(algorithm, f"{name}:{REALM}:{secret}".encode(), usedforsecurity=False).hexdigest()
            assert ha1 not in shown.lower()


def test_a_user_s_name_may_be_an_e_mail_address(demo: Demo) -> None:
    name = "ann+ads@example.com"
    assert user(demo, "add", name, "--account", "demo", password="first-password").returncode == 0
    assert logs_in(demo, name, "first-password")
    for strange in ("ann@", "@example.com", "ann example@example.com", 'a"b@example.com', "a:b@example.com"):
        assert user(demo, "add", strange, "--account", "demo", password="first-password").returncode == 1
    assert user(demo, "remove", name).returncode == 0
