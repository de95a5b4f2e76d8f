"""`fairlead trace`: from a prediction back to the version, run, code, data and settings."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.output import JsonOption, heading, print_json, print_pairs, print_table, when
from fairlead.errors import FairleadError, NotFound

if TYPE_CHECKING:
    from fairlead.reproduction.trace import Trace

PredictionArgument = Annotated[str, typer.Argument(metavar="PREDICTION", help="The prediction_id of an answer.")]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Ask the server at this address, which knows what it did not write yet.")
]
SECONDS_TO_ANSWER = 30.0


def trace(prediction_id: PredictionArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Show what a prediction came from: version, run, code, data and settings, and its true label where it is known."""
    from fairlead.registry import open_registry
    from fairlead.reproduction.trace import trace as walk

    with open_registry() as registry:
        found = walk(registry, events_of(registry, prediction_id, url))
    print_json(found.to_dict()) if as_json else _print(found)


def events_of(registry: Any, prediction_id: str, url: str | None) -> list[dict[str, Any]]:
    """What is logged of a prediction, by the store or by a server. Raises NotFound."""
    from fairlead.predictions.ids import PredictionId
    from fairlead.reproduction.trace import find_events

    parsed = PredictionId.parse(prediction_id)
    return find_events(registry, parsed.text) if url is None else _ask(url.rstrip("/"), parsed.text)


def _ask(base: str, prediction_id: str) -> list[dict[str, Any]]:
    import httpx

    try:
        response = httpx.get(f"{base}/v2/predictions/{prediction_id}", timeout=SECONDS_TO_ANSWER)
        body = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise NotFound(f"{base}: no model server answers ({error}); check the address") from error
    if response.status_code == 200:
        events: list[dict[str, Any]] = body["events"]
        return events
    reason = str(body.get("error", body))[:500] if isinstance(body, dict) else "no JSON object"
    raise (NotFound if response.status_code == 404 else FairleadError)(f"{base}: it answers {reason}")


def _print(found: "Trace") -> None:
    training, data = found.version.manifest.training, found.data
    first = found.events[0]["data"]
    heading(f"prediction {first['prediction_id']}")
    true = {one["index"]: one["label"] for one in found.feedback}
    print_table([_row(event["data"], true) for event in found.events], "")
    print_pairs(
        {
            "answered": f"{when(found.events[0]['time'])} UTC in {first['seconds']:.4f} s, as {first['model']}",
            "version": f"{found.version.name}, {first['variant']}",
            "digest": found.version.digest,
            "continues": found.parents,
            "run": f"{found.run.run_id}, {found.run.status}, started {when(found.run.started)}, seed {found.run.seed}",
            "code": f"{training.code.package}, commit {training.code.commit or 'unknown'}"
            + (", with local changes" if training.code.diff_digest else ""),
            "source": training.code.source_digest,
            "trained on": f"{training.environment.hardware}, torch {training.environment.torch}",
            "data": f"{data.digest}, {data.num_rows:,} rows, {data.prefix}",
            "read from": data.manifest.get("sources", {}),
        }
    )
    heading("settings")
    print_pairs(_leaves(training.config))


def _row(data: dict[str, Any], true: dict[int, Any]) -> dict[str, Any]:
    from fairlead.cli.answers import said

    known = {"true label": true[data["index"]]} if data["index"] in true else {"true label": None}
    return {"text": data["index"], **said(data["answer"]), **known, "kept text": data.get("text")}


def _leaves(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves
