import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from edgeproxy.settings import Settings, SettingsError, load
from edgeproxy.store.sealing import new_key

PAGE = Path(__file__).parents[1] / "deploy" / "SETTINGS.md"


def test_defaults_are_usable() -> None:
    settings = load()
    assert (settings.port, settings.workers, settings.budget_ms, settings.access_log) == (8080, 1, 50, False)


def test_environment_over_file_and_command_line_over_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "edgeproxy.toml"
    file.write_text('port = 1\nmanage_port = 1\nworkers = 3\ntrusted_proxies = ["10.0.0.0/8"]\n')
    monkeypatch.setenv("EDGEPROXY_CONFIG", str(file))
    monkeypatch.setenv("EDGEPROXY_MANAGE_PORT", "2")
    monkeypatch.setenv("EDGEPROXY_WORKERS", "2")
    settings = load(workers=4, port=None)
    assert (settings.port, settings.manage_port, settings.workers) == (1, 2, 4)
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8"]


def test_networks_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPROXY_TRUSTED_PROXIES", "10.0.0.0/8, ::1/128,192.0.2.1")
    assert [str(network) for network in load().trusted_proxies] == ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]


def test_every_fault_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPROXY_PORT", "70000")
    monkeypatch.setenv("EDGEPROXY_WORKERS", "many")
    monkeypatch.setenv("EDGEPROXY_TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.1/8")
    monkeypatch.setenv("EDGEPROXY_STORE_URL", "http://user:hunter2@example.com")
    monkeypatch.setenv("EDGEPROXY_PROT", "8080")
    with pytest.raises(SettingsError) as caught:
        load()
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "EDGEPROXY_PROT",
        "EDGEPROXY_STORE_URL",
        "EDGEPROXY_PORT",
        "EDGEPROXY_WORKERS",
        "EDGEPROXY_TRUSTED_PROXIES[1]",
    ]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", ["port = ", "prot = 8080", 'port = "x"'])
def test_a_bad_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str) -> None:
    file = tmp_path / "edgeproxy.toml"
    file.write_text(content)
    monkeypatch.setenv("EDGEPROXY_CONFIG", str(file))
    with pytest.raises(SettingsError, match=f"^{re.escape(str(file))}:1: "):
        load()


def test_a_missing_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPROXY_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match="EDGEPROXY_CONFIG"):
        load()


@pytest.mark.parametrize("url", ["redis://h", "redis://u:p@h:1/2", "rediss://h:6380/0", "unix:///run/s.sock"])
def test_store_urls(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("EDGEPROXY_STORE_URL", url)
    settings = load()
    assert settings.store_url is not None
    assert settings.store_url.get_secret_value() == url
    assert url not in repr(settings)


def bounds(field: FieldInfo) -> str:
    """What a setting may be, as the page of settings tells it."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    if field.annotation is bool:
        return "`true`, `false`"
    found = {word: getattr(part, word) for part in field.metadata for word in ("ge", "le", "gt") if hasattr(part, word)}
    if "le" in found:
        return f"{found['ge']:,} to {found['le']:,}"
    if "ge" in found:
        return f"at least {found['ge']:,}"
    return f"more than {found['gt']:,}" if "gt" in found else "–"


def test_the_page_of_settings_has_every_setting_and_no_other() -> None:
    rows = re.findall(r"^\| `EDGEPROXY_([A-Z_]+)` \| (.+?) \| (.+?) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    told = {name.lower(): (default, bound, text) for name, default, bound, text in rows}
    assert told.pop("config", None), "deploy/SETTINGS.md does not tell of EDGEPROXY_CONFIG"
    assert len(told) == len(rows) - 1
    expected = {}
    for name, field in Settings.model_fields.items():
        if name == "data_dir":
            default = "`~/.local/share/edgeproxy`"
        elif field.default in (None, [], ""):
            default = "–"
        else:
            default = f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
        expected[name] = (default, bounds(field), field.description)
    assert told == expected


def test_store_keys_are_checked_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = new_key(), new_key()
    monkeypatch.setenv("EDGEPROXY_STORE_KEYS", f"{first}, {second}")
    settings = load()
    assert [key.get_secret_value() for key in settings.store_keys] == [first, second]
    assert not [key for key in (first, second) if key in repr(settings) or key in str(settings.model_dump())]
    for bad in ("hunter2", first[:-4] + "====", first[:-5], first + "\u00e9", first.replace(first[3], "*")):
        monkeypatch.setenv("EDGEPROXY_STORE_KEYS", f"{second},{bad}")
        with pytest.raises(SettingsError) as caught:
            load()
        assert str(caught.value).startswith("EDGEPROXY_STORE_KEYS[1]: ")
        assert "edgeproxy keys new" in str(caught.value)
        assert bad not in str(caught.value)


# What settings are called --------------------------------------------------------------------------------------------


def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toml: str | bytes, **overrides: object) -> list[str]:
    file = tmp_path / "e.toml"
    file.write_bytes(toml.encode() if isinstance(toml, str) else toml)
    monkeypatch.setenv("EDGEPROXY_CONFIG", str(file))
    with pytest.raises(SettingsError) as caught:
        load(**overrides)
    return str(caught.value).replace(str(file), "FILE").splitlines()


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("host = 'a'\n\nport = 'x'", "FILE:3: port: must be a whole number"),
        ("workers = 0", "FILE:1: workers: must be at least 1"),
        ("manage_port = 70000", "FILE:1: manage_port: must be at most 65535"),
        ("budget_ms = 1.5", "FILE:1: budget_ms: must be a whole number"),
        ("access_log = 'perhaps'", "FILE:1: access_log: must be true or false"),
        ("client_ip_header = 'x-forwarded-fr'",
         "FILE:1: client_ip_header: must be x-forwarded-for or forwarded; did you mean x-forwarded-for?"),
        ("trusted_proxies = ['10.0.0.0/8', '10.0.0.1/8']",
         "FILE:1: trusted_proxies[1]: must be a network such as 192.0.2.0/24, or an address; did you mean 10.0.0.0/8?"),
        ("store_url = 'http://u:hunter2@h'", "FILE:1: store_url: expected one of redis://, rediss://, unix://, "
         "redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://"),
        ("prot = 1", "FILE:1: prot: there is no such setting; did you mean port?"),
        ("EDGEPROXY_PORT = 1", "FILE:1: EDGEPROXY_PORT: there is no such setting; did you mean port?"),
        ("[serve]\nport = 1", "FILE:1: serve: there is no such setting"),
        ("manage_tls_key = 'x'", "FILE:1: manage_tls_key: a certificate and a key go together"),
        ("port = \n", "FILE:1: is no value: a text stands in quotes (column 8)"),
        ("host = localhost\n", "FILE:1: is no value: a text stands in quotes (column 8)"),
        ("host = 'a'\n\nport = ", "FILE:3: a value is missing, or a bracket is not closed"),
        ("host = 'a\n", "FILE:1: a quote is not closed"),
        ('host = "a\n', "FILE:1: a quote is not closed, or holds a character that cannot stand there (column 10)"),
        ("= 1\n", "FILE:1: expected `name = value` (column 1)"),
        ("trusted_proxies = [", "FILE:1: a value is missing, or a bracket is not closed"),
        ("[x\n", "FILE:1: a bracket is not closed (column 3)"),
        (r'tls = "\q"', "FILE:1: a backslash cannot stand there: write it twice, or put the text in single quotes "
         "(column 10)"),
        ("port 8080\n", "FILE:1: expected `name = value` (column 6)"),
        ("port = 1\nport = 2\n", "FILE:2: the name stands twice (column 9)"),
        ("x = " + "[" * 5000, "EDGEPROXY_CONFIG: FILE: is not TOML"),
        ("port = " + "9" * 5000, "EDGEPROXY_CONFIG: FILE: is not TOML"),
        (b"x = '\xff'", "EDGEPROXY_CONFIG: FILE: is not UTF-8"),
        ("#" * (1024**2 + 1), "EDGEPROXY_CONFIG: FILE: is larger than 1048576 bytes"),
    ],
)  # fmt: skip
def test_a_setting_of_a_file_is_called_as_it_stands_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toml: str | bytes, line: str
) -> None:
    assert told(monkeypatch, tmp_path, toml) == [line]


def test_a_setting_is_called_as_where_it_was_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPROXY_MANAGE_PORT", "x")
    monkeypatch.setenv("EDGEPROXY_PROT", "1")
    assert told(monkeypatch, tmp_path, "port = 1\nmanage_port = 1\nbudget_ms = 1", port=-1) == [
        "EDGEPROXY_PROT: there is no such setting; did you mean EDGEPROXY_PORT?",
        "--port: must be at least 0",
        "EDGEPROXY_MANAGE_PORT: must be a whole number",
        "FILE:3: budget_ms: must be at least 5",
    ]
    monkeypatch.delenv("EDGEPROXY_PROT")
    monkeypatch.setenv("EDGEPROXY_MANAGE_PORT", "2")
    (tmp_path / "e.toml").write_text("port = 1\nmanage_port = 1\nbudget_ms = 70")
    settings = load(port=3)
    assert [settings.told_as(name) for name in ("port", "manage_port", "budget_ms", "host")] == [
        "--port", "EDGEPROXY_MANAGE_PORT", f"budget_ms in {tmp_path / 'e.toml'}", "EDGEPROXY_HOST",
    ]  # fmt: skip


def test_a_certificate_that_cannot_be_used_is_told_in_our_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("certificate", "key"):
        (tmp_path / name).write_text("no PEM")
        monkeypatch.setenv(f"EDGEPROXY_MANAGE_TLS_{name.upper()}", str(tmp_path / name))
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == (
        "EDGEPROXY_MANAGE_TLS_CERTIFICATE: the certificate and its key cannot be used: one of them is no PEM file"
    )
    (tmp_path / "certificate").unlink()
    with pytest.raises(SettingsError, match="cannot be used: No such file or directory"):
        load()
