"""`fairlead feedback`: the true labels of predictions, and how often the model was right."""

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.output import JsonOption, print_json, print_table, when
from fairlead.errors import NotFound

if TYPE_CHECKING:
    from fairlead.registry import FeedbackRecord, Registry

app = typer.Typer(help="True labels of predictions, sent to a server's /v2/feedback.", no_args_is_help=True)

RefArgument = Annotated[str, typer.Argument(metavar="MODEL", help="project, for all its versions; or project:3.")]


@app.command("list")
def list_(ref: RefArgument, as_json: JsonOption = False) -> None:
    """List the true labels beside what was predicted."""
    rows = [
        {
            "prediction": one.prediction_id,
            "index": one.index,
            "version": f"v{one.number}",
            "predicted": predicted(one.answer or {}),
            "true label": one.label,
            "received": when(one.received),
            "revisions": one.revisions,
        }
        for one in _feedback(ref)
    ]
    print_json(rows) if as_json else print_table(rows, "no true label has come yet")


@app.command()
def summary(ref: RefArgument, as_json: JsonOption = False) -> None:
    """Show by version how many true labels came, and how often the model was right."""
    by_version: dict[int, list[FeedbackRecord]] = defaultdict(list)
    for one in _feedback(ref):
        by_version[one.number or 0].append(one)
    rows = [{"version": f"v{number}", **_measured(known)} for number, known in sorted(by_version.items())]
    print_json(rows) if as_json else print_table(rows, "no true label has come yet")


def predicted(answer: dict[str, Any]) -> Any:
    """What an answer says, in the form of a true label: a class, a list of classes or a number."""
    return next((answer[name] for name in ("label", "labels", "value") if name in answer), None)


def _feedback(ref: str) -> list["FeedbackRecord"]:
    from fairlead.names import ModelRef
    from fairlead.registry import open_registry

    parsed = ModelRef.parse(ref)
    with open_registry() as registry:
        # A bare project is all of its versions here.
        number = registry.resolve(parsed).number if parsed.number is not None or "@" in ref else None
        _match(registry)
        return registry.list_feedback(parsed.project, number)


def _match(registry: "Registry") -> None:
    """Find the predictions of labels that came before their record was written."""
    from fairlead.names import ModelRef
    from fairlead.registry import Feedback
    from fairlead.reproduction.trace import find_events

    for one in registry.list_feedback(None):
        try:
            events = find_events(registry, one.prediction_id)
        except NotFound:
            continue
        if one.index < len(events):
            data = events[one.index]["data"]
            number = ModelRef.parse(data["version"]).number
            given = Feedback(one.prediction_id, one.index, one.label, data["project"], number, data["answer"])
            registry.record_feedback([given])


def _measured(known: list["FeedbackRecord"]) -> dict[str, Any]:
    """Of classes the share that was right, of numbers the mean distance."""
    pairs = [(predicted(one.answer or {}), one.label) for one in known]
    # SQLite reads 3.0 back as 3.
    numbers = [abs(said - true) for said, true in pairs if isinstance(said, float) and isinstance(true, int | float)]
    named = [_same(said, true) for said, true in pairs if not isinstance(said, float)]
    return {
        "true labels": len(known),
        "right": sum(named) if named else None,
        "accuracy": sum(named) / len(named) if named else None,
        "mean absolute error": sum(numbers) / len(numbers) if numbers else None,
    }


def _same(said: Any, true: Any) -> bool:
    """Sets of labels are compared whole, in any order."""
    return set(said) == set(true) if isinstance(said, list) and isinstance(true, list) else bool(said == true)
