"""The store's set-up script with what its image has: a shell, cat and mc, here a stand-in that remembers."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "manifests" / "base" / "store" / "set-up.sh"
MC = """\
#!/bin/sh
echo "$*" >>"$STATE/log"
case "$*" in
  "admin policy attach "*)
    [ ! -e "$STATE/$5" ] || { echo "mc: <ERROR> the policy is attached already" >&2; exit 1; }
    : >"$STATE/$5" ;;
  "admin user info store "*) [ ! -e "$STATE/fairlead-$5" ] || echo "PolicyName: fairlead-$5" ;;
  "ilm rule ls "*) [ -e "$STATE/rule" ] || exit 1; echo "Enabled" ;;
  "ilm rule add "*) : >"$STATE/rule" ;;
esac
"""


@pytest.fixture
def run(tmp_path: Path) -> str:
    """The script with its folders in `tmp_path`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "bin" / "mc").write_text(MC)
    (tmp_path / "bin" / "mc").chmod(0o755)
    (tmp_path / "bin" / "cat").symlink_to(str(shutil.which("cat")))
    for user in ("root-user", "users/pipelines", "users/serving", "users/backup"):
        (tmp_path / user).mkdir(parents=True)
        (tmp_path / user / "user").write_text(user.removeprefix("users/"))
        (tmp_path / user / "password").write_text("a-password")
    text = SCRIPT.read_text("utf-8")
    return text.replace('"/users/', f'"{tmp_path}/users/').replace("/root-user/", f"{tmp_path}/root-user/")


def test_the_store_is_set_up_once_and_again_without_other_programs(run: str, tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path / "bin"), "STATE": str(tmp_path / "state"), "STORE_ENDPOINT": "http://minio"}
    for _ in range(2):
        done = subprocess.run(["/bin/sh", "-c", run], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    told = (tmp_path / "state" / "log").read_text().splitlines()
    attached = [line for line in told if line.startswith("admin policy attach")]
    assert attached == [
        f"admin policy attach store fairlead-{name} --user {name}" for name in ("pipelines", "serving", "backup")
    ]
    assert sum(line.startswith("ilm rule add") for line in told) == 1
    assert sum(line.startswith("admin user add") for line in told) == 6, "a rotated password is set again"
