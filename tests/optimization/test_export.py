"""The files of variants are plain ONNX: other consumers give the same answers, in a process without Fairlead."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from fairlead.formats.model import read_training
from fairlead.optimization.building import FILES, build
from fairlead.optimization.material import Material, Rows
from fairlead.training.models.building import load_classifier
from fairlead.variants.torch_runner import TorchRunner
from tests.tiny import make_trained

TEXTS = [[2, 4, 5, 6, 3], [2, 9, 3], [2, 7, 8, 9, 10, 11, 12, 3], [2, 4, 3]]
# Logits reach 13 here; the second file rounds weights and activations to 8 bits.
BOUNDS = {"fp32": 1e-4, "int8": 0.6, "int8-static": 0.6}
CONSUMER = """
import json, sys
import numpy, onnxruntime
from onnx.reference import ReferenceEvaluator
ids = numpy.array(json.loads(sys.argv[1]), numpy.int64)
feed = {"input_ids": ids, "attention_mask": numpy.ones_like(ids)}
for path in sys.argv[2:]:
    for consumer in (ReferenceEvaluator(path), onnxruntime.InferenceSession(path)):
        print(json.dumps(consumer.run(["logits"], feed)[0].tolist()))
assert not {"fairlead", "torch"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    model = make_trained(folder)
    rows = Rows(TEXTS, np.zeros(len(TEXTS), np.int32))
    names = ["onnxruntime-fp32", "onnxruntime-int8", "onnxruntime-int8-static"]
    built = build(Material(model, read_training(model), 0, TEXTS, rows, rows), names, folder)
    assert not built.refused and built.max_export_difference is not None and built.max_export_difference < 1e-4
    return folder


@pytest.mark.parametrize("precision", list(BOUNDS))
def test_a_file_has_standard_operators_and_passes_the_checker(folder: Path, precision: str) -> None:
    path = folder / FILES[precision]  # type: ignore[index]
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    axes = {i.name: [d.dim_param for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    assert axes == {"input_ids": ["texts", "tokens"], "attention_mask": ["texts", "tokens"]}


def test_other_consumers_answer_like_torch_without_fairlead(folder: Path) -> None:
    batch = [TEXTS[1], TEXTS[3]]
    paths = [str(folder / FILES[precision]) for precision in BOUNDS]  # type: ignore[index]
    command = [sys.executable, "-I", "-c", CONSUMER, json.dumps(batch), *paths]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = TorchRunner(load_classifier(folder), 0).run(batch)
    for index, precision in enumerate(BOUNDS):
        for line in lines[2 * index : 2 * index + 2]:
            assert np.abs(np.array(json.loads(line)) - expected).max() < BOUNDS[precision]
