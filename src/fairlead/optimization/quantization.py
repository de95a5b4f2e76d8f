"""8-bit variants of an ONNX file: weights in int8, activations in uint8.

    dynamic    the scale of activations is found for each batch (weights of products, and the embedding)
    static     it is found beforehand, on calibration texts (weights of products); in QDQ form, which OpenVINO reads too

One scale a column of weights: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference". Weights of 7 bits (-64 to 64) are for processors on which sums of 8-bit products
overflow; see `safe_weight_bits`.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader

from fairlead.variants.batch import padded

PRODUCTS = ["MatMul", "Gemm"]
# Products of two activations (attention's) stay in float32: their ranges vary too much from text to text.
OPTIONS = {"MatMulConstBOnly": True}
TokenIds = Sequence[Sequence[int]]


def quantize_dynamically(source: Path, path: Path, weight_bits: int = 8) -> None:
    """Write the variant whose scales are found at run time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _Quiet():
        quantize_dynamic(
            onnx.load(source),
            path,
            op_types_to_quantize=[*PRODUCTS, "Gather"],
            # On banking77 a scale a column halves the answers that change (0.5 % in place of 0.9 %).
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=weight_bits < 8,
            extra_options=OPTIONS,
        )


def quantize_statically(
    source: Path, path: Path, batches: Sequence[TokenIds], pad_token_id: int, weight_bits: int = 8
) -> None:
    """Write the variant whose scales are those of `batches`, texts of the training split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _Quiet():
        quantize_static(
            onnx.load(source),
            path,
            _Batches(batches, pad_token_id),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=PRODUCTS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=weight_bits < 8,
            extra_options=OPTIONS,
        )


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Calibration batches in the form that the library asks for them."""

    def __init__(self, batches: Sequence[TokenIds], pad_token_id: int) -> None:
        self._feeds = self._all(batches, pad_token_id)

    @staticmethod
    def _all(batches: Sequence[TokenIds], pad_token_id: int) -> Iterator[dict[str, Any]]:
        for batch in batches:
            ids_BL, mask_BL = padded(batch, pad_token_id)
            yield {"input_ids": ids_BL, "attention_mask": mask_BL}

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, None after the last."""
        return next(self._feeds, None)


class _Quiet:
    """Without the library's advice to preprocess, which the exporter has done."""

    def __enter__(self) -> None:
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *reason: object) -> None:
        logging.disable(self._level)
