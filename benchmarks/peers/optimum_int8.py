"""A classifier exported and quantized by Optimum, as its documentation teaches, and timed in turns.

    python optimum_int8.py MODEL_FOLDER BATCHES.json OUTPUT_FOLDER

It is `optimum-cli export onnx` and `optimum-cli onnxruntime quantize --avx512_vnni` by their functions, then
ORTModelForSequenceClassification with one thread. BATCHES holds lists of lists of token ids. It prints a line of JSON
about the model, with the logits of every batch; then every line on its input is a turn over every `STEP`th batch, which
it answers with seconds. It needs optimum-onnx, and nothing of Fairlead.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from onnxruntime import SessionOptions
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig

FILE = "model_quantized.onnx"


def quantize(model: str, output: str) -> None:
    """Write the 8-bit file with its configuration to `output`."""
    ORTModelForSequenceClassification.from_pretrained(model, export=True).save_pretrained(output)
    ORTQuantizer.from_pretrained(output).quantize(
        save_dir=output, quantization_config=AutoQuantizationConfig.avx512_vnni(is_static=False)
    )


def load(output: str) -> Any:
    """The 8-bit model with one thread."""
    options = SessionOptions()
    options.intra_op_num_threads = 1
    return ORTModelForSequenceClassification.from_pretrained(output, file_name=FILE, session_options=options)


def answer(model: Any, batch: list[list[int]], pad: int) -> torch.Tensor:
    """Logits of one batch."""
    length = max(map(len, batch))
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in batch])
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids)).logits
    return logits


def main(folder: str, batches_file: str, output: str) -> None:
    """Make it, say what it is, and take turns."""
    batches = json.loads(Path(batches_file).read_text("utf-8"))
    if not Path(output, FILE).exists():
        quantize(folder, output)
    started = time.perf_counter()
    model = load(output)
    pad = model.config.pad_token_id
    answer(model, batches[-1][:8], pad)
    found = {"load_seconds": time.perf_counter() - started, "memory_bytes": psutil.Process().memory_info().rss}
    logits = [answer(model, batch, pad).tolist() for batch in batches]
    size = Path(output, FILE).stat().st_size
    print(json.dumps(found | {"size_bytes": size, "logits": logits}), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for batch in batches[:: int(line)]:
            answer(model, batch, pad)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
