"""`edgeproxy numbers` against a running demo: export, change, import, and the API that shows what came of it."""

import json
from pathlib import Path

import pytest

from tests.processes import pasted, run, started

pytestmark = pytest.mark.slow

LIST = "phone-service/v1/api/calltracking/ad-platform/phone/list"


def test_numbers_go_out_and_come_in(tmp_path: Path) -> None:
    with started("demo", "--port", "0", "--manage-port", "0", "--data-dir", str(tmp_path / "data")) as demo:
        store = {"EDGEPROXY_STORE_URL": demo.said["store:"]}
        for name in ("numbers.csv", "numbers.yaml"):
            file = tmp_path / name
            out = run("numbers", "export", "--account", "demo", str(file), **store)
            assert (out.returncode, out.stdout) == (0, "5 numbers\n")
            again = run("numbers", "import", "--account", "demo", str(file), **store)
            assert again.stdout == "0 put to use, 0 changed, 5 as they were, 0 refused\n"
        changed = tmp_path / "numbers.csv"
        changed.write_text(
            changed.read_text().replace("yandex", "bing") + "79990000006,bing\n79990009999,bing\n7,bing\n"
        )
        result = run("numbers", "import", "--account", "demo", str(changed), **store)
        assert (result.returncode, result.stdout) == (1, "1 put to use, 5 changed, 0 as they were, 2 refused\n")
        assert f"{changed}:8: phoneNumber: is none of the account's numbers" in result.stderr
        assert f"{changed}:9: phoneNumber: must be a phone number like 7xxxxxxxxxx" in result.stderr
        body = json.dumps({"phoneNumbers": ["79990000001", "79990000006", "79990000007"]})
        headers = "-H 'Access-Token: demo-token' -H 'SiteId: 1001'"
        shown = json.loads(pasted(f"curl -sS {demo.manage}/{LIST} {headers} -d '{body}'"))
        assert [number["displayOptions"] and number["displayOptions"]["source"] for number in shown] == [
            "bing", "bing", None,
        ]  # fmt: skip
        named = tmp_path / "named.csv"
        named.write_text("phoneNumber,poolName\n79990000001,Пул\n", encoding="utf-8")
        assert run("numbers", "import", "--account", "demo", str(named), **store).returncode == 0
        warned = run("numbers", "export", "--account", "demo", str(named), PYTHONWARNDEFAULTENCODING="1", **store)
        assert "edgeproxy/commands/numbers.py" not in warned.stderr  # whose encoding would be that of the locale
        assert "Пул" in named.read_text(encoding="utf-8")
        missing = run("numbers", "export", "--account", "nobody", str(tmp_path / "x.csv"), **store)
        assert (missing.returncode, missing.stderr) == (1, "there is no account nobody\n")
