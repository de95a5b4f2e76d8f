"""`fairlead reproduce`: run a registered version again and say whether it is the same.

exit 0   the weights have the recorded digest
exit 3   they do not; every metric of validation and test is within --tolerance
exit 4   they do not, and a metric is not
exit 5   it cannot be run again: what it came from (data, base, parent) is gone or changed
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.output import JsonOption, heading, print_json, print_pairs, print_table, show

if TYPE_CHECKING:
    from fairlead.registry import VersionRecord

# Half a point; equal to reproduction.reproduce.TOLERANCE, which is not imported for `--help`.
TOLERANCE = 0.005
EXIT_CODES = {"same": 0, "close": 3, "different": 4, "broken": 5}
SENTENCES = {
    "same": "the weights are the same",
    "close": "other weights, metrics within the tolerance",
    "different": "other weights, metrics beyond the tolerance",
    "broken": "it cannot be run again",
}
STAGES = ("tokenize", "train", "evaluate")


def reproduce(
    ref: Annotated[str, typer.Argument(help="project, project:3 or project@champion.")],
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, max=1, help="Difference of a metric that still counts as close.")
    ] = TOLERANCE,
    chain: Annotated[
        bool, typer.Option("--chain", help="Reproduce the versions that it continues too, the oldest first.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Leave what is made in this new folder. Default: it is removed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a version again from its recorded data, settings, seed and base, and compare the weights.

    Exits with 0 when they are the same, 3 when only the metrics are close, 4 when they are not, and 5
    when what the version came from is gone or changed. Nothing that is registered or stored is touched.
    """
    from fairlead.names import ModelRef
    from fairlead.registry import open_registry

    with open_registry() as registry:
        version = registry.resolve(ModelRef.parse(ref))
    answers = [_answer(one, tolerance, keep, chain) for one in _wanted(version, chain)]
    if as_json:
        print_json({"versions": answers, "verdict": _worst(answers)} if chain else answers[0])
    else:
        for answer in answers:
            _print(answer)
    raise typer.Exit(EXIT_CODES[_worst(answers)])


def _wanted(version: "VersionRecord", chain: bool) -> list["VersionRecord"]:
    from fairlead.reproduction.links import ancestors

    return [*reversed(ancestors(version)), version] if chain else [version]


def _answer(version: "VersionRecord", tolerance: float, keep: Path | None, chain: bool) -> dict[str, Any]:
    """What came of one version; a broken link is an answer, too."""
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.errors import BrokenLink
    from fairlead.reproduction.reproduce import reproduce as run_again

    folder = keep / version.name if keep and chain else keep
    try:
        with Display(STAGES, sys.stderr) as display, relayed(display.on_event):
            return asdict(run_again(version, tolerance, folder))
    except BrokenLink as error:
        return {"version": version.name, "verdict": "broken", "link": error.link, "reason": str(error)}


def _worst(answers: list[dict[str, Any]]) -> str:
    return str(max((answer["verdict"] for answer in answers), key=EXIT_CODES.__getitem__))


def _print(answer: dict[str, Any]) -> None:
    from fairlead.cli.output import cell

    heading(f"{answer['version']}: {SENTENCES[answer['verdict']]}")
    if answer["verdict"] == "broken":
        show(answer["reason"])
        return
    pairs: dict[str, Any] = {name: " / ".join(dict.fromkeys(answer[name])) for name in ("weights", "tokens")}
    pairs |= {"largest difference of a metric": answer["distance"], "seconds": answer["seconds"]}
    print_pairs(pairs | ({"continues": answer["parent"]} if answer["parent"] else {}))
    rows = [
        {"differs": f"{kind} {name}", "recorded": cell(before), "here": cell(now)}
        for kind, found in answer["differences"].items()
        for name, (before, now) in found.items()
    ]
    heading("what differs")
    print_table(rows, _nothing(answer["verdict"]))
    heading("metrics")
    metrics = [(f"{split} {name}", pair) for split in ("validation", "test") for name, pair in answer[split].items()]
    print_table([{"metric": name, "recorded": before, "here": now} for name, (before, now) in metrics], "none")


def _nothing(verdict: str) -> str:
    return "nothing" if verdict == "same" else "nothing that is recorded: something else decides the weights here"
