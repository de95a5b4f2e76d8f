"""What is said of a model's size before it is built is what is built."""

from pathlib import Path

import pytest
from torch import nn

from fairlead.errors import IntegrityError
from fairlead.names import LANGUAGE_MODELING, TaskName
from fairlead.training.config import ModelConfig
from fairlead.training.models.building import build_model
from fairlead.training.models.size import model_size
from tests.training.corpus import Corpus


def multiplied(model: nn.Module) -> int:
    """Numbers of all matrices but embeddings, and of an output that shares one."""
    inside = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    return sum(weight.numel() for weight in inside)


@pytest.mark.parametrize("task", ["classification", LANGUAGE_MODELING])
def test_it_is_that_of_the_model(tmp_path: Path, task: TaskName) -> None:
    tokens = Corpus(tmp_path).manifest.model_copy(update={"task": task})
    model = build_model(ModelConfig(depth=2), tokens)
    model.save_pretrained(tmp_path / "base")  # type: ignore[operator]
    scratch = model_size(ModelConfig(depth=2), None, task, tokens.vocab_size)
    base = model_size(ModelConfig(), tmp_path / "base", task, tokens.vocab_size)
    # From scratch the head is not counted, nor what pads matrices to multiples.
    for found, tolerance in ((scratch, 0.1), (base, 0.001)):
        assert found.multiplied == pytest.approx(multiplied(model), rel=tolerance)
        assert found.weights == pytest.approx(sum(p.numel() for p in model.parameters()), rel=tolerance)
    # Three matrices read what one does that has the rows of all.
    assert scratch.activations == pytest.approx(base.activations, rel=0.3)


def test_a_damaged_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\0\0")
    with pytest.raises(IntegrityError, match=r"model.safetensors: its header cannot be read"):
        model_size(ModelConfig(), tmp_path, "classification", 10)
