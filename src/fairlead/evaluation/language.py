"""Evaluates a language model: what a token, a character and a byte of each data set cost, and texts that it writes.

A data set is read once, in blocks as long as those of training; a block begins with the last token of the one before,
and its other tokens are predicted. What is read before a block is forgotten, as in training's validation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fairlead.errors import DataError
from fairlead.evaluation.inputs import Inputs
from fairlead.events import Progress
from fairlead.formats import dataset, tokens
from fairlead.formats.dataset import TEST
from fairlead.formats.evaluation import Evaluation
from fairlead.formats.tokens import TOKENIZER, TokenArrays, TokenSplit
from fairlead.training.batching.batches import collate
from fairlead.training.batching.blocks import all_blocks
from fairlead.training.models.language_models import num_positions
from fairlead.training.objective.language_task import language_scores, token_losses_BT

# Padding included. The logits of more tokens than that take longer to write to memory than to compute.
TOKENS_PER_BATCH = 4096
NUM_SAMPLES = 3
PROMPT_TOKENS = 16
SAMPLE_TOKENS = 200
SAMPLE_TEMPERATURE, SAMPLE_TOP_K = 0.8, 50


@dataclass(frozen=True)
class Sample:
    """A text of the test split, and how the model goes on from its beginning."""

    prompt: str
    written: str
    true: str


def evaluate_language(model: nn.Module, inputs: Inputs) -> list[Evaluation]:
    """The scores of every data set, the test split first. Raises DataError when a loss is not a number."""
    manifest = inputs.tokens_manifest
    found = []
    for name in inputs.datasets:
        arrays = tokens.open_split(inputs.tokens, manifest, name)
        metrics = score_language(model, arrays, manifest.splits[name], manifest.max_length, name)
        split = inputs.data_manifest.splits[name]
        found.append(
            Evaluation(
                dataset=name,
                dataset_digest=split.digest,
                num_rows=split.num_rows,
                metrics=metrics,
                per_class={},
                confusion=[],
                labels=[],
            )
        )
    return found


@torch.inference_mode()
def score_language(
    model: nn.Module, arrays: TokenArrays, summary: TokenSplit, size: int, what: str
) -> dict[str, float]:
    """loss, perplexity, nats_per_character and bits_per_byte of a split, in float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).float().eval()
    blocks = all_blocks(arrays, summary, size)
    progress = Progress("evaluate", f"scoring {what}", blocks.num_rows, "blocks")
    nats = []
    step = max(1, TOKENS_PER_BATCH // size)
    for start in range(0, blocks.num_rows, step):
        rows = np.arange(start, min(start + step, blocks.num_rows))
        batch = collate(blocks, rows, 0).to(device)
        logits_BTV = model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT).logits
        nats.append(token_losses_BT(logits_BTV, batch).sum(dim=1).cpu().numpy())
        progress.advance(len(rows))
    nats_N = np.concatenate(nats).astype(np.float64)
    if not np.isfinite(nats_N).all():
        raise DataError(f"evaluate: the model's loss on {what} is not a number; train with a lower learning rate")
    return language_scores(nats_N, int((blocks.lengths - 1).sum()), summary)


@torch.inference_mode()
def write_samples(model: Any, inputs: Inputs) -> list[Sample]:
    """Continuations of a few places of the test split, at equal distances; the same each time."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(inputs.tokens / TOKENIZER / "tokenizer.json"))
    ids = tokens.open_split(inputs.tokens, inputs.tokens_manifest, TEST).tokens
    room = (num_positions(model) or inputs.tokens_manifest.max_length) - 1
    num_prompt = min(PROMPT_TOKENS, max(1, room // 4), len(ids) - 1)
    samples = []
    for index in range(NUM_SAMPLES):
        start = 1 + (len(ids) - 1 - num_prompt) * index // NUM_SAMPLES
        prompt = ids[start : start + num_prompt].astype(np.int64)
        torch.manual_seed(index)
        prompt_1T = torch.from_numpy(prompt)[None].to(next(model.parameters()).device)
        written_1T = model.generate(
            input_ids=prompt_1T,
            attention_mask=torch.ones_like(prompt_1T),
            do_sample=True,
            temperature=SAMPLE_TEMPERATURE,
            top_k=SAMPLE_TOP_K,
            max_new_tokens=min(SAMPLE_TOKENS, room - num_prompt),
            pad_token_id=inputs.tokens_manifest.pad_token_id,
        )
        written = written_1T[0, num_prompt:].tolist()
        true = ids[start + num_prompt : start + num_prompt + len(written)].tolist()
        samples.append(Sample(*(tokenizer.decode(part) for part in (prompt.tolist(), written, true))))
    return samples


def score_version(folder: Path, max_length: int, data: Path, work: Path, what: str) -> dict[str, float]:
    """The scores of another version, in `folder`, on the test split of `data`, by its own tokenizer.

    Only `loss` and `perplexity` depend on the tokenizer; what a character costs is the same measure.
    """
    from tokenizers import Tokenizer

    from fairlead.data.token_stream import StreamWriter
    from fairlead.training.models.language_models import load_language_model

    model = load_language_model(folder)
    config: Any = model.config
    end = config.eos_token_id if config.eos_token_id is not None else config.bos_token_id
    end_id = int(end[0] if isinstance(end, list) else end)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = dataset.read_manifest(data).splits[TEST].num_rows
    progress = Progress("evaluate", f"tokenizing for {what}", rows, "parts")
    writer = StreamWriter(tokenizer, end_id, None, np.dtype("uint32"))
    summary = writer.write_split(data, work, TEST, progress)
    files = tokens.split_files(work, TEST)
    ids, offsets = np.fromfile(files["tokens"], "<u4"), np.fromfile(files["offsets"], "<i8")
    arrays = TokenArrays(ids, offsets, np.zeros((len(offsets) - 1, 0), np.int32))
    return score_language(model, arrays, summary, max_length, what)
