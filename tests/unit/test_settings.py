import re
from pathlib import Path

import pytest

from edgeproxy.settings import Settings, SettingsError, load
from edgeproxy.store.sealing import new_key

README = Path(__file__).parents[2] / "README.md"


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
    with pytest.raises(SettingsError, match="EDGEPROXY_"):
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


def test_the_readme_describes_every_setting_and_no_other() -> None:
    rows = re.findall(r"^\| `EDGEPROXY_([A-Z_]+)` \| (.+?) \| (.+) \|$", README.read_text(), re.MULTILINE)
    told = {name.lower(): (default, text) for name, default, text in rows}
    assert told.pop("config", None), "the README does not tell of EDGEPROXY_CONFIG"
    expected = {}
    for name, field in Settings.model_fields.items():
        if name == "data_dir":
            default = "`~/.local/share/edgeproxy`"
        elif field.default in (None, [], ""):
            default = "–"
        else:
            default = f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
        expected[name] = (default, field.description)
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
