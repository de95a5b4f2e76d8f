"""What can be known of the image without building it: the Dockerfile's promises."""

import re

import pytest

from serving.options import build_parser, wanted_models
from serving.server import main
from tests.serving.conftest import ROOT

LINES = re.sub(r"\\\n\s*", " ", (ROOT / "serving" / "Dockerfile").read_text("utf-8")).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def test_every_base_is_the_build_argument_that_stands_before_it() -> None:
    bases = instructions("FROM")
    stages = {base.split(" AS ")[1] for base in bases if " AS " in base}
    assert bases[-1] == "${PYTHON_IMAGE}", "what runs comes from the base and one copied folder"
    assert all(base.split()[0] in {"${PYTHON_IMAGE}", *stages} for base in bases)
    first = next(i for i, line in enumerate(LINES) if line.startswith("FROM "))
    assert any(line.startswith("ARG PYTHON_IMAGE=") for line in LINES[:first])


def test_everything_copied_from_here_is_here() -> None:
    copied = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    assert copied
    missing = [path for paths in copied for path in paths if not (ROOT / path).exists()]
    # The readme is the package's own affair: the build of the wheel asks for it.
    assert missing in ([], ["README.md"])


def test_it_runs_as_nobody_special_and_starts_the_server() -> None:
    (user,) = instructions("USER")
    assert all(int(number) > 0 for number in user.split(":"))
    assert instructions("ENTRYPOINT") == ['["python", "-m", "serving"]']
    assert instructions("EXPOSE") == ["8080 8081"]


def test_in_the_image_it_listens_everywhere_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (variables,) = (line for line in instructions("ENV") if "FAIRLEAD_HOST" in line)
    monkeypatch.delenv("FAIRLEAD_HOST", raising=False)
    assert build_parser().parse_args([]).host == "127.0.0.1"
    monkeypatch.setenv("FAIRLEAD_HOST", re.search(r"FAIRLEAD_HOST=(\S+)", variables)[1])
    options = build_parser().parse_args(["--model_name=support-topics", "--http_port=8080", "--grpc_port=8081"])
    (wanted,) = wanted_models(options)
    assert (options.host, str(wanted.source), wanted.name) == ("0.0.0.0", "/mnt/models", "support-topics")


def test_help_says_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--model", "--model_name", "--host", "--http_port", "--grpc_port", "--free-port", "--workers"):
        assert flag in shown
