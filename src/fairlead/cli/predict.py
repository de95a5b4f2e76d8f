"""`fairlead predict`: ask a model version, in this process or on a server."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.output import JsonOption, print_json, print_table
from fairlead.errors import ConfigError, Conflict

if TYPE_CHECKING:
    from fairlead.names import ModelRef


def predict(
    ref: Annotated[str, typer.Argument(metavar="MODEL", help="project, project:3 or project@champion.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="The texts.")] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", help="One text a line; - is standard input.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Ask the server at this address instead.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say the label of each text, with its probability and the version that answered."""
    from fairlead.names import ModelRef

    parsed = ModelRef.parse(ref)
    everything = [*(texts or []), *(_lines(file) if file else [])]
    if not everything:
        raise ConfigError("predict: there is no text; give some, or a file of them with --file")
    if url is None:
        answers = _predict_here(ref, everything)
    else:
        from fairlead.cli.served import ask

        answers = ask(url, parsed.project, everything)
        _check_version(url, parsed, answers[0]["version"])
    if as_json:
        print_json(answers)
        return
    print_table([{name: answer[name] for name in ("label", "probability", "text")} for answer in answers], "")
    print(f"\n{answers[0]['version']}  {answers[0]['digest']}")


def _check_version(url: str, ref: "ModelRef", answered: str) -> None:
    from fairlead.names import version_name

    if ref.number is not None and answered != version_name(ref.project, ref.number):
        raise Conflict(f"{url}: {answered} answered, not {ref}; ask for {ref.project}, or serve that version")


def _lines(file: str) -> list[str]:
    try:
        content = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"--file {file}: {reason}; name a text file with one text a line") from error
    return [line for line in content.splitlines() if line.strip()]


def _predict_here(ref: str, texts: list[str]) -> list[dict[str, Any]]:
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.inference.engine import Engine
    from fairlead.inference.versions import fetch_version

    with Display([], sys.stderr) as display, relayed(display.on_event):
        folder = fetch_version(ref)
    engine = Engine.load(folder)
    name, digest = engine.manifest.name, engine.manifest.digest
    return [
        {"text": text, "label": p.label, "probability": p.probability, "version": name, "digest": digest}
        for text, p in zip(texts, engine.predict(texts), strict=True)
    ]
