"""From the registered weights to an ONNX file that any consumer of ONNX loads.

    inputs   input_ids, attention_mask    int64 (texts, tokens), both of any size
    outputs  logits                       float32 (texts, outputs)
             sentence_embedding           float32 (texts, width), what the head reads: see variants/embedding.py

Written by torch's exporter (torch.export and the ONNX operators of its own registry), checked by onnx.checker, and
held against torch on real texts: a difference above `MAX_DIFFERENCE` refuses the file.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from transformers import PreTrainedModel

from fairlead.errors import ConfigError
from fairlead.variants.batch import padded
from fairlead.variants.contract import EMBEDDING, LOGITS, Runner
from fairlead.variants.embedding import WithEmbedding

# The oldest that has all operators of the exporter's present registry; newer ones need newer runtimes.
OPSET = 20
# Of logits around 1 to 10; float32 sums in another order differ by 1e-6 to 1e-5.
MAX_DIFFERENCE = 1e-3
TokenIds = Sequence[Sequence[int]]


def export_onnx(model: nn.Module, token_ids: TokenIds, pad_token_id: int, path: Path) -> None:
    """Write `model`, in float32 on the CPU, to `path`; `token_ids` are a few real texts of different lengths.

    Raises ConfigError when the architecture cannot be exported.
    """
    example = tuple(torch.from_numpy(array) for array in padded(token_ids, pad_token_id))
    axes = {0: "texts", 1: "tokens"}
    try:
        with _quiet(), _plain_attention(model), torch.no_grad():
            program: Any = torch.onnx.export(
                WithEmbedding(model.eval()),
                example,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(axes, axes),
                input_names=["input_ids", "attention_mask"],
                output_names=[LOGITS, EMBEDDING],
                external_data=False,
                verbose=False,
            )
    # Whatever an architecture does that the exporter cannot trace surfaces as an exception of its own.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"optimization: {type(model).__name__} cannot be exported to ONNX ({reason}); "
            "leave onnxruntime and openvino out of optimization.candidates"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    proto = program.model_proto
    # Shapes in between were noted before the exporter's own rewriting and contradict it in places.
    del proto.graph.value_info[:]
    onnx.save(proto, path)
    onnx.checker.check_model(path, full_check=True)


def greatest_difference(runner: Runner, reference: Runner, batches: Sequence[TokenIds]) -> float:
    """Of the logits of two runners on the same batches."""
    pairs = [(runner.run(batch), reference.run(batch)) for batch in batches]
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


def check_export(runner: Runner, reference: Runner, batches: Sequence[TokenIds]) -> float:
    """The greatest difference on real texts. Raises ConfigError when it is above MAX_DIFFERENCE or no number."""
    difference = greatest_difference(runner, reference, batches)
    if not difference <= MAX_DIFFERENCE:
        raise ConfigError(
            f"optimization: logits of the ONNX file differ from torch's by {difference:.2g} on real texts, more than "
            f"{MAX_DIFFERENCE}; leave onnxruntime and openvino out of optimization.candidates"
        )
    return difference


@contextlib.contextmanager
def _plain_attention(model: nn.Module) -> Iterator[None]:
    """With attention written out as products and a softmax.

    What the exporter makes of torch's fused form guards against texts without a token, which there are none of. With it
    a MiniLM in 8 bits took 6 % longer for a text of 20 tokens, 10 % for 45 and 20 % for 200.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the exporter's notes on packages that are not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
