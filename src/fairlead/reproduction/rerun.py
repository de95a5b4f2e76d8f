"""The stages of a recorded version, run again in a process and a place of their own.

    python -m fairlead.reproduction.rerun <request.json>

The caller gives the process a fresh FAIRLEAD_HOME, so that neither the user's registry nor store is
written. It leaves `outcome.json` (Outcome) beside the request, or one with the error that stopped it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from fairlead import errors
from fairlead.cluster.processes import die_with_parent
from fairlead.config import Config
from fairlead.data.config import TokenizationConfig
from fairlead.data.tokenization import tokenize
from fairlead.errors import FairleadError
from fairlead.evaluation.config import EvaluationConfig
from fairlead.evaluation.evaluate import evaluate_datasets
from fairlead.evaluation.inputs import Inputs
from fairlead.formats.atomic import write_json
from fairlead.formats.model import TrainingRecord, read_training
from fairlead.stage import defect_sentence, disk_sentence
from fairlead.training.run import train_stage

OUTCOME = "outcome.json"


class Request(Config):
    """What to run again."""

    project: str
    """The project."""
    data: str
    """Folder of the data version."""
    base: str
    """`scratch`, or the folder of the base."""
    world_size: int
    """Processes of the recorded run."""
    num_threads: int
    """Threads of each: they decide how sums are rounded."""
    sections: dict[str, dict[str, Any]]
    """Recorded settings that this code knows, by section: tokenization, model, training, evaluation."""
    folder: str
    """Where everything is made."""


class Outcome(Config):
    """What came of it; either `error` or all else is set."""

    error: str | None = None
    """Why it stopped."""
    kind: str = "FairleadError"
    """The class of the error."""
    tokens_digest: str = ""
    """Of the tokens that were made again."""
    record: TrainingRecord | None = None
    """Of the model that was trained again."""
    test: dict[str, float] = Field(default_factory=dict)
    """Its metrics on the test split."""


def run_again(request: Request) -> Outcome:
    """Tokenize, train and evaluate as the version was."""
    folder, data, sections = Path(request.folder), Path(request.data), request.sections
    tokenization = TokenizationConfig.parse(sections["tokenization"], where="tokenization")
    tokens = tokenize(data, tokenization, request.base, folder / "tokens")
    carried_out = {"processes": _processes(request.world_size), "threads": request.num_threads}
    training = {**sections["training"], **carried_out}
    model = {**sections["model"], "base": request.base}
    trained = folder / "model"
    train_stage.inner(request.project, str(data), str(folder / "tokens"), model, training, str(trained))  # type: ignore[attr-defined]
    settings = EvaluationConfig.parse(sections["evaluation"], where="evaluation")
    scored, _ = evaluate_datasets(Inputs.read(data, folder / "tokens", trained), settings, folder / "evaluation")
    test = scored[0].evaluation.metrics
    return Outcome(tokens_digest=tokens.digest, record=read_training(trained), test=test)


def _processes(world_size: int) -> int:
    """As many as recorded; on GPUs no more than there are."""
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return min(world_size, num_gpus) if num_gpus else world_size


def main(path: str) -> int:
    """Run the request in a file and write its outcome; 0 when it ended well."""
    die_with_parent()
    request = Request.parse(json.loads(Path(path).read_text("utf-8")), where=path)
    try:
        outcome = run_again(request)
    except FairleadError as error:
        outcome = Outcome(error=str(error), kind=type(error).__name__)
    except OSError as error:
        outcome = Outcome(error=disk_sentence("reproduce", error), kind=errors.StorageError.__name__)
    except Exception as error:
        outcome = Outcome(error=defect_sentence("reproduce", error))
    write_json(Path(path).with_name(OUTCOME), outcome.to_dict())
    return 1 if outcome.error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
