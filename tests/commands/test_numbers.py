"""`edgeproxy numbers`: a file is written whole or not at all, and refused rows are told."""

from pathlib import Path
from typing import Any

import pytest

from tests.commands.running import run


@pytest.mark.parametrize("name", ["numbers.csv", "numbers.yaml"])
def test_an_export_replaces_a_file_whole_and_keeps_its_mode(
    client: Any, store_url: str, tmp_path: Path, name: str
) -> None:
    imported = tmp_path / "import.csv"
    imported.write_text("phoneNumber,source,poolName\n79990000001,,Пул\n79990000002,s,\n", encoding="utf-8")
    assert run(store_url, "numbers", "import", "--account", "demo", str(imported)).exit_code == 0
    file, link = tmp_path / name, tmp_path / f"link-{name}"
    file.write_text("before")
    file.chmod(0o600)
    link.symlink_to(file)
    held = file.open()
    assert run(store_url, "numbers", "export", "--account", "demo", str(link)).exit_code == 0
    with held:
        assert held.read() == "before"  # who has the old file open never sees half of the new one
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Пул" in file.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["import.csv", link.name, name])
    again = run(store_url, "numbers", "import", "--account", "demo", str(file))
    assert again.stdout == "0 put to use, 0 changed, 2 as they were, 0 refused\n"


def test_an_export_that_fails_leaves_the_file_as_it_was(
    client: Any, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    file = tmp_path / "numbers.csv"
    file.write_text("before")
    with monkeypatch.context() as context:
        context.setattr("edgeproxy.whole_file.os.fsync", full)  # where a full disk is told at the latest
        result = run(store_url, "numbers", "export", "--account", "demo", str(file))
    assert (result.exit_code, result.stderr) == (1, f"{file}: No space left on device\n")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_an_export_may_go_to_what_is_no_file(client: Any, store_url: str) -> None:
    assert run(store_url, "numbers", "export", "--account", "demo", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_of_many_rows_that_an_import_refuses_ten_are_told(client: Any, store_url: str, tmp_path: Path) -> None:
    file = tmp_path / "numbers.csv"
    file.write_text("phoneNumber,poolName\n" + "7,x\n" * 500 + "79990000001,x\n")
    result = run(store_url, "numbers", "import", "--account", "demo", str(file))
    told = [line for line in result.stderr.splitlines() if str(file) in line or line.startswith("and ")]
    assert len(told) == 11
    assert told[-1] == "and 490 more faults"
    assert result.stdout == "1 put to use, 0 changed, 0 as they were, 500 refused\n"
