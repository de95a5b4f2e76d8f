"""`fairlead predict`: ask a model version, in this process or on a server."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.output import JsonOption, print_json, print_table
from fairlead.errors import ConfigError, Conflict, NotFound

if TYPE_CHECKING:
    from fairlead.inference.answers import Answer
    from fairlead.names import ModelRef

# Often enough for a bar that moves, and enough texts to sort them into batches of like length.
TEXTS_AT_ONCE = 512


def predict(
    ref: Annotated[str, typer.Argument(metavar="MODEL", help="project, project:3 or project@champion.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="The texts.")] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", help="One text a line; - is standard input.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Ask the server at this address instead.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="What a language model goes on from. Repeatable.")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Tokens written at most. Default: 128.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0: the most probable token. Default: 1.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k most probable tokens. Default: from all.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from tokens of this probability together.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help=r"End before this text; \n is a line's end. Repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the draws. Default: 0.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say the label, the labels or the number of each text, and which version answered; or continue a prompt."""
    from fairlead.cli.answers import said
    from fairlead.cli.prompts import generation_config, write_here
    from fairlead.names import ModelRef

    ModelRef.parse(ref)
    given = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    config = generation_config({**given, "stop": stop, "seed": seed}, prompt or [])
    if prompt:
        if texts or file or url is not None:
            raise ConfigError("--prompt: it takes no texts, --file or --url; leave them or --prompt away")
        write_here(ref, prompt, config, as_json)
        return
    everything = [*(texts or []), *(_lines(file) if file else [])]
    if not everything:
        raise ConfigError("predict: there is no text; give some, or a file of them with --file")
    answers = _predict_here(ref, everything) if url is None else _ask(url, ref, everything)
    if as_json:
        print_json(answers)
        return
    print_table([said(answer) | {"text": answer["text"]} for answer in answers], "")
    print()
    # A server that is being replaced may answer a long file with two versions.
    for version, digest in dict.fromkeys((answer["version"], answer["digest"]) for answer in answers):
        print(f"{version}  {digest}")


def _ask(url: str, ref: str, texts: list[str]) -> list[dict[str, Any]]:
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.cli.served import ask
    from fairlead.names import ModelRef

    parsed = ModelRef.parse(ref)
    # A bare project is whatever the server has; an alias is asked for where it is written.
    wanted = _wanted(url, parsed) if parsed.number is not None or "@" in ref else None
    with Display([], sys.stderr) as display, relayed(display.on_event):
        answers = ask(url, parsed.project, texts)
    for answered in dict.fromkeys(answer["version"] for answer in answers):
        if wanted not in (None, answered):
            raise Conflict(f"{url}: {answered} answered, not {ref}; ask for {parsed.project}, or serve {wanted}")
    return answers


def _wanted(url: str, ref: "ModelRef") -> str:
    """Name of the version that has to answer."""
    from fairlead.names import version_name
    from fairlead.registry import open_registry

    if ref.number is not None:
        return version_name(ref.project, ref.number)
    with open_registry() as registry:
        try:
            return registry.resolve(ref).name
        except NotFound as error:
            reason = str(error).split(";")[0]
            raise ConfigError(
                f"{ref}: which version {url} has to answer with is not known ({reason}); ask for {ref.project}"
            ) from error


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
    from fairlead.events import Progress, emit
    from fairlead.registry.fetching import fetch_version

    predictions: list[Answer] = []
    with Display([], sys.stderr) as display, relayed(display.on_event):
        folder = fetch_version(ref)
        # Until there is something to count the line shows the time: loading a large model takes many seconds.
        emit("progress", "predict")
        from fairlead.inference.engine import Engine

        engine = Engine.load(folder)
        progress = Progress("predict", "predict", len(texts), "texts")
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            predictions += engine.predict(texts[start : start + TEXTS_AT_ONCE])
            progress.advance(len(predictions) - progress.done)
    name, digest = engine.manifest.name, engine.manifest.digest
    return [
        {"text": text, **p.to_dict(), "version": name, "digest": digest}
        for text, p in zip(texts, predictions, strict=True)
    ]
