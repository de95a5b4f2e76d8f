"""`fairlead replay`: compute a logged prediction again and say whether it is the same.

exit 0   the same labels, and numbers within --tolerance
exit 3   the same labels, and a number further off
exit 4   another label
exit 5   it cannot be computed again: the version is gone or changed
exit 6   the log kept no text, and none was given
"""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from fairlead.cli.output import JsonOption, heading, print_json, print_pairs, print_table
from fairlead.cli.trace import PredictionArgument, UrlOption, events_of

# Equal to reproduction.replay.TOLERANCE, which is not imported for `--help`.
TOLERANCE = 1e-3
EXIT_CODES = {"same": 0, "close": 3, "different": 4, "broken": 5, "no text": 6}
SENTENCES = {
    "same": "the same answer",
    "close": "the same labels, a number beyond the tolerance",
    "different": "another answer",
    "broken": "it cannot be computed again",
    "no text": "its text was not kept",
}


def replay(
    prediction_id: PredictionArgument,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="The text, where the log has only its hash or nothing. Repeatable."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, max=1, help="Difference of a number that counts as the same.")
    ] = TOLERANCE,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute a prediction again from its logged text, by the version and variant that gave it, and compare.

    Exits with 0 when the answer is the same, 3 when only a number is off, 4 when it is another, 5 when the
    version is gone or changed, and 6 when the text was not kept.
    """
    answer = _answer(prediction_id, text or [], tolerance, url)
    print_json(answer) if as_json else _print(answer)
    raise typer.Exit(EXIT_CODES[answer["verdict"]])


def _answer(prediction_id: str, texts: list[str], tolerance: float, url: str | None) -> dict[str, Any]:
    """What came of it; a broken link and a missing text are answers, too."""
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.errors import BrokenLink
    from fairlead.registry import open_registry
    from fairlead.reproduction.replay import TextNotKept, logged_texts
    from fairlead.reproduction.replay import replay as compute_again
    from fairlead.reproduction.trace import answering_version

    with open_registry() as registry:
        events = events_of(registry, prediction_id, url)
        known = {"prediction_id": prediction_id, "version": events[0]["data"]["version"]}
        try:
            version = answering_version(registry, events)
            texts = logged_texts(events, texts)
            with Display([], sys.stderr) as display, relayed(display.on_event):
                return asdict(compute_again(version, events, texts, tolerance))
        except BrokenLink as error:
            return known | {"verdict": "broken", "link": error.link, "reason": str(error)}
        except TextNotKept as error:
            return known | {"verdict": "no text", "reason": str(error)}


def _print(answer: dict[str, Any]) -> None:
    heading(f"{answer['prediction_id']}: {SENTENCES[answer['verdict']]}")
    if "reason" in answer:
        print_pairs({answer["version"]: answer["reason"]})
        return
    pairs = enumerate(zip(answer["recorded"], answer["here"], strict=True))
    print_table([{"text": index} | _beside(*pair) for index, pair in pairs], "")
    print_pairs({"version": f"{answer['version']}, {answer['variant']}", "largest difference": answer["distance"]})


def _beside(recorded: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    from fairlead.cli.answers import said

    sides = {"logged": said(recorded), "here": said(here)}
    return {f"{name}, {side}": value for side, columns in sides.items() for name, value in columns.items()}
