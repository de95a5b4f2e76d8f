"""A logged prediction, computed again by the version and the variant that gave it, and compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fairlead.errors import BrokenLink, ConfigError, UserError
from fairlead.formats.digests import of_bytes
from fairlead.registry import VersionRecord
from fairlead.registry.fetching import fetch_version

# Other texts of the same batch change how sums are rounded: by less than this in fp32.
TOLERANCE = 1e-3

Verdict = Literal["same", "close", "different"]


@dataclass(frozen=True)
class Replay:
    """How an answer came out when it was computed again."""

    prediction_id: str
    """The prediction."""
    version: str
    """The version that answered, then and now."""
    variant: str
    """Its variant."""
    verdict: Verdict
    """`same`: the same labels, and numbers within the tolerance; `close`: the same labels; `different`: others."""
    recorded: list[dict[str, Any]]
    """The answers in the log, one a text."""
    here: list[dict[str, Any]]
    """The answers now."""
    distance: float
    """The largest difference of a number."""
    tolerance: float
    """The largest one that is `same`."""


class TextNotKept(UserError):
    """The log has the answer and not the text."""

    exit_code = 6


def logged_texts(events: Sequence[dict[str, Any]], given: Sequence[str] = ()) -> list[str]:
    """The texts of a prediction, from the log or as they are given.

    Raises TextNotKept when there are none, ConfigError when a given one is not what was answered.
    """
    rows = [event["data"] for event in events]
    if given and len(given) != len(rows):
        raise ConfigError(f"--text: {len(given)} texts are given and {len(rows)} were answered; give all, in order")
    if not given and any("text" not in row for row in rows):
        kept = "its SHA-256" if "text_sha256" in rows[0] else "nothing"
        raise TextNotKept(
            f"prediction {rows[0]['prediction_id']}: of its text the log kept {kept}; give the text with --text, "
            "or serve with --log-text full to keep texts from now on"
        )
    texts = list(given) or [row["text"] for row in rows]
    for index, (text, row) in enumerate(zip(texts, rows, strict=True)):
        if row.get("text", text) != text or row.get("text_sha256", of_bytes(text.encode())) != of_bytes(text.encode()):
            raise ConfigError(f"--text: text {index} is not the one that was answered; give the text as it was sent")
    return texts


def replay(
    version: VersionRecord, events: Sequence[dict[str, Any]], texts: Sequence[str], tolerance: float = TOLERANCE
) -> Replay:
    """Answer the texts again. Raises BrokenLink when the version's files are gone or changed."""
    first = events[0]["data"]
    try:
        folder = fetch_version(f"{version.project}:{version.number}")
    except UserError as error:
        raise BrokenLink(f"{version.name}: the link 'files' is broken: {error}", "files") from error
    recorded = [event["data"]["answer"] for event in events]
    if version.manifest.training.writes_text:
        here = _continue(folder, texts, first.get("parameters", {}), recorded)
    else:
        from fairlead.inference.engine import Engine

        here = [answer.to_dict() for answer in Engine.load(folder, first["variant"]).predict(texts)]
    apart = max(distance(before, now) for before, now in zip(recorded, here, strict=True))
    verdict: Verdict = "different" if math.isinf(apart) else "same" if apart <= tolerance else "close"
    return Replay(first["prediction_id"], version.name, first["variant"], verdict, recorded, here, apart, tolerance)


def _continue(
    folder: Any, prompts: Sequence[str], parameters: dict[str, Any], recorded: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What of each continuation was recorded: its text, or the text's digest, or only its length and end."""
    from fairlead.inference.config import GenerationConfig
    from fairlead.inference.generation import Writer

    config = GenerationConfig.parse(parameters, where="parameters")
    written = [one.to_record() for one in Writer.load(folder).write(prompts, config)]
    return [{name: one[name] for name in before} for one, before in zip(written, recorded, strict=True)]


def distance(recorded: Any, here: Any) -> float:
    """The largest difference of a number in two answers; infinite when anything else differs."""
    if isinstance(recorded, dict) and isinstance(here, dict) and recorded.keys() == here.keys():
        return max((distance(recorded[name], here[name]) for name in recorded), default=0.0)
    if isinstance(recorded, list) and isinstance(here, list) and len(recorded) == len(here):
        return max((distance(*pair) for pair in zip(recorded, here, strict=True)), default=0.0)
    if isinstance(recorded, int | float) and isinstance(here, int | float):
        # Of a regression the numbers are of any size.
        return abs(recorded - here) / max(1.0, abs(recorded), abs(here))
    return 0.0 if recorded == here else math.inf
