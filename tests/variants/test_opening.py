import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from fairlead.errors import ConfigError, IntegrityError
from fairlead.formats.model import read_manifest, verify
from fairlead.formats.variants import REFERENCE, VariantRecord
from fairlead.inference.engine import Engine
from fairlead.variants.availability import unavailable
from fairlead.variants.contract import Runner
from fairlead.variants.opening import open_runner, variant_to_serve
from tests.variants.conftest import NAMES, TEXTS

# Logits of the tiny model reach 13; bf16 has 8 bits of mantissa, int8 fewer.
BOUNDS = {"fp32": 1e-4, "bf16": 0.3, "int8": 0.6, "int8-static": 0.6}


def opened(version: Path, name: str) -> Runner:
    runtime, _, precision = name.partition("-")
    if reason := unavailable(runtime, precision):  # type: ignore[arg-type]
        pytest.skip(f"{name}: {reason}")
    return open_runner(version, verify(version), name, 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_gives_the_logits_of_the_weights(version: Path, name: str) -> None:
    expected = open_runner(version, verify(version), REFERENCE, 0).run(TEXTS)
    runner = opened(version, name)
    # Two batches one after the other: a runtime that lends its own memory would overwrite the first.
    alone, found = runner.run(TEXTS[3:]), runner.run(TEXTS)
    assert found.dtype == np.float32 and found.shape == expected.shape
    bound = BOUNDS[name.partition("-")[2]]
    assert np.abs(found - expected).max() < bound
    assert np.abs(alone[0] - expected[3]).max() < bound


@pytest.mark.parametrize("name", ["onnxruntime-fp32", "openvino-fp32"])
def test_a_changed_number_of_threads_changes_no_answer(version: Path, name: str) -> None:
    runner = opened(version, name)
    runner.set_threads(1)
    one = runner.run(TEXTS)
    runner.set_threads(2)
    assert np.abs(runner.run(TEXTS) - one).max() < 1e-5


@pytest.mark.parametrize("name", ["torch-fp32", "onnxruntime-int8", "openvino-fp32"])
def test_calls_at_the_same_time_answer_what_they_were_asked(version: Path, name: str) -> None:
    runner = opened(version, name)
    runner.set_threads(1, calls=2)
    asked = [TEXTS[: 1 + i % 4] for i in range(40)]
    alone = [runner.run(batch) for batch in asked[:4]]
    with ThreadPoolExecutor(3) as pool:
        for index, found in enumerate(pool.map(runner.run, asked)):
            assert np.abs(found - alone[index % 4]).max() < 1e-5


def test_padding_beyond_the_longest_text_changes_no_answer_and_stays_within_the_positions(version: Path) -> None:
    config = json.loads((version / "config.json").read_text("utf-8"))
    positions = config["max_position_embeddings"]
    runner, expected = opened(version, "openvino-fp32"), open_runner(version, verify(version), REFERENCE, 0)
    for length in (1, 5, 9, positions - 3, positions - 1, positions):
        texts = [[2] * length, [3] * max(1, length - 3)]
        assert np.abs(runner.run(texts) - expected.run(texts)).max() < BOUNDS["fp32"]


def test_an_engine_answers_with_a_variant(version: Path) -> None:
    engine = Engine.load(version, "onnxruntime-fp32")
    said, expected = (e.predict(["my card was charged twice"])[0] for e in (engine, Engine.load(version)))
    assert engine.variant == "onnxruntime-fp32"
    assert said.label == expected.label  # type: ignore[union-attr]


def test_a_choice_that_this_machine_cannot_run_gives_way_to_the_weights(version: Path) -> None:
    manifest = read_manifest(version)
    assert manifest.optimization is not None
    half = VariantRecord(name="onnxruntime-fp16", runtime="onnxruntime", precision="fp16")
    variants = [*manifest.optimization.variants, half]
    for name, served in (("onnxruntime-int8", "onnxruntime-int8"), (half.name, REFERENCE)):
        record = manifest.optimization.model_copy(update={"chosen": name, "variants": variants})
        assert variant_to_serve(manifest.model_copy(update={"optimization": record})) == served


def test_an_unknown_variant_is_refused_with_what_there_is(version: Path) -> None:
    with pytest.raises(ConfigError, match="has no 'torch-int4'; it has torch-fp32, torch-bf16"):
        open_runner(version, read_manifest(version), "torch-int4", 0)


@pytest.mark.parametrize("name", ["onnxruntime-fp32", "openvino-fp32"])
def test_a_file_that_is_no_onnx_is_named(version: Path, tmp_path: Path, name: str) -> None:
    opened(version, name)
    path = tmp_path / "variants" / "onnx-fp32" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no model")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        open_runner(tmp_path, read_manifest(version), name, 0)


def test_the_exported_file_has_named_axes_of_any_size(version: Path) -> None:
    model = onnx.load(version / "variants/onnx-fp32/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    axes = {i.name: [d.dim_param for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    assert axes == {"input_ids": ["texts", "tokens"], "attention_mask": ["texts", "tokens"]}
    assert [output.name for output in model.graph.output] == ["logits", "sentence_embedding"]
