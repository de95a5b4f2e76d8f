"""The stage on a real model, with real runtimes: what it leaves, and what is served afterwards."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fairlead.formats.model import read_training
from fairlead.formats.tokens import TokenSplit, read_manifest, split_files, write_manifest
from fairlead.formats.variants import REFERENCE, read_optimization
from fairlead.optimization.config import OptimizationConfig
from fairlead.optimization.material import Material, Rows
from fairlead.optimization.optimize import too_few_rows
from fairlead.optimization.stage import optimize_stage
from fairlead.training.models.building import load_classifier
from fairlead.variants.opening import open_variant
from fairlead.variants.torch_runner import TorchRunner
from tests.tiny import LABELS, _tokens, make_trained

ROWS = {"train": 64, "validation": 400, "test": 200}


def write_tokens(folder: Path, model: Path) -> Path:
    """Random words, labelled by the model itself, so that its accuracy is known: 1."""
    chosen, runner = random.Random(0), TorchRunner(load_classifier(model), 0)
    folder.mkdir()
    splits = {}
    for name, rows in ROWS.items():
        texts = [[2, *chosen.choices(range(4, 17), k=chosen.randint(1, 12)), 3] for _ in range(rows)]
        arrays = {
            "tokens": np.concatenate(texts).astype("<u2"),
            "offsets": np.cumsum([0, *map(len, texts)]).astype("<i8"),
            "labels": runner.run(texts).argmax(axis=1).astype("<i4"),
        }
        files = split_files(folder, name)
        for kind, path in files.items():
            path.write_bytes(arrays[kind].tobytes())
        splits[name] = _split(files, rows)
    write_manifest(folder, _tokens(17, 0).model_copy(update={"splits": splits}))
    return folder


def _split(files: dict[str, Path], rows: int) -> TokenSplit:
    from fairlead.formats.digests import of_file

    digests = {kind: of_file(path) for kind, path in files.items()}
    values = {"num_tokens": 0, "length_quantiles": {}, "truncated_share": 0, "unknown_token_share": 0}
    return TokenSplit.parse({"num_rows": rows, "digests": digests, **values})


def run(folder: Path, model: Path, **config: Any) -> Path:
    tokens = folder / "tokens"
    if not tokens.exists():
        write_tokens(tokens, model)
    output = folder / "output"
    optimize_stage.inner("topics", str(tokens), str(model), config, str(output), str(folder / "page.html"))  # type: ignore[attr-defined]
    return output


def test_the_stage_measures_what_was_built_and_keeps_what_serves(tmp_path: Path) -> None:
    model = make_trained(tmp_path / "model")
    output = run(tmp_path, model, candidates=["onnxruntime-fp32", "onnxruntime-int8"], rounds=1, target="cpu")
    record = read_optimization(output)
    assert record is not None and record.num_rows == 400 and record.metric == "accuracy"
    assert [variant.name for variant in record.variants] == [REFERENCE, "onnxruntime-fp32", "onnxruntime-int8"]
    reference, fp32, int8 = record.variants
    assert reference.metrics["accuracy"] == fp32.metrics["accuracy"] == 1.0
    assert fp32.qualifies and fp32.changed_share == 0 and fp32.worst_drop == pytest.approx(0.00672, abs=1e-4)
    assert fp32.max_difference is not None and fp32.max_difference < 1e-4
    assert int8.metrics["accuracy"] == pytest.approx(1 - (int8.changed_share or 0)) == 1 - (int8.drop or 0)
    for variant in record.variants:
        assert variant.size_bytes and variant.load_seconds and variant.memory_bytes and variant.texts_per_second
        assert {(speed.batch, speed.calls > 0) for speed in variant.speeds} == {(1, True), (16, True)}
    assert record.max_export_difference is not None and record.max_export_difference < 1e-4
    chosen = record.variant(record.chosen)
    assert chosen is not None and chosen.kept
    assert sorted(str(p.relative_to(output)) for p in output.rglob("*.onnx")) == sorted(chosen.files)
    if chosen.files:
        onnx.checker.check_model(output / chosen.files[0])
        assert open_variant(output, chosen, 0).run([[2, 4, 3]]).shape == (1, len(LABELS))
    page = (tmp_path / "page.html").read_text("utf-8")
    assert record.chosen in page and "Precision" in page and record.reason in page
    assert record.calibration is not None and record.calibration.split == "test"
    assert record.rejection is not None and record.rejection.kept_share > 0.9


@pytest.mark.parametrize(("rows", "few"), [(267, True), (268, False)])
def test_rows_that_cannot_show_anything_are_known_beforehand(tmp_path: Path, rows: int, few: bool) -> None:
    model = make_trained(tmp_path / "model")
    texts = Rows([[2, 3]] * rows, np.zeros(rows, np.int32))
    material = Material(model, read_training(model), 0, [], texts, texts)
    reason = too_few_rows(material, OptimizationConfig())
    assert bool(reason) is few
    assert not few or ("267 rows" in reason and "accuracy" in reason and "268 can" in reason)
    # A bootstrap of equal answers has no width, on however few rows.
    numbers = dataclasses.replace(material, record=material.record.model_copy(update={"task": "regression"}))
    assert ("r2" in too_few_rows(numbers, OptimizationConfig())) is few


def test_what_is_not_to_be_optimized_is_skipped_with_the_reason(tmp_path: Path) -> None:
    model = make_trained(tmp_path / "model")
    output = run(tmp_path, model, enabled=False)
    assert read_optimization(output) is None
    assert json.loads((output / "optimization.json").read_text()) == {"skipped": "optimization.enabled is false"}
    assert "optimization.enabled is false" in (tmp_path / "page.html").read_text("utf-8")
    assert read_training(model).task == "classification" and read_manifest(tmp_path / "tokens").labels == LABELS
