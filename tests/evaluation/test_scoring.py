import numpy as np
import pytest
import torch
from torch import nn

from fairlead.errors import DataError
from fairlead.evaluation.scoring import batches, pad, score
from fairlead.formats import tokens
from fairlead.formats.tokens import TokenArrays
from fairlead.training.models.building import load_classifier


def arrays_of(rows: list[list[int]]) -> TokenArrays:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    flat = np.array([token for row in rows for token in row], np.uint16)
    return TokenArrays(flat, offsets, np.zeros(len(rows), np.int32))


def test_results_stand_in_the_rows_own_order_whatever_the_batches(three_topics) -> None:
    model = load_classifier(three_topics.model)
    manifest = tokens.read_manifest(three_topics.tokens)
    arrays = tokens.open_split(three_topics.tokens, manifest, "train")
    with torch.inference_mode():
        alone = [
            model(input_ids=torch.from_numpy(arrays.row(i).astype(np.int64))[None]).logits[0].numpy()
            for i in range(arrays.num_rows)
        ]
    for tokens_per_batch in (1, 64, 100_000):
        logits = score(model, arrays, manifest.pad_token_id, "train", tokens_per_batch)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, np.stack(alone), atol=1e-5)


def test_batches_keep_to_the_budget_and_hold_every_row_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    parts = list(batches(lengths, 128))
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    assert all(len(part) * lengths[part].max() <= 128 for part in parts)
    padding = 1 - lengths.sum() / sum(len(part) * lengths[part].max() for part in parts)
    assert padding < 0.05


def test_a_row_above_the_budget_is_a_batch_of_its_own() -> None:
    assert [part.tolist() for part in batches(np.array([5, 500, 5]), 16)] == [[1], [0, 2]]


def test_padding_is_masked() -> None:
    ids, mask = pad(arrays_of([[4, 5, 6], [7]]), np.array([0, 1]), pad_token_id=9)
    assert ids.tolist() == [[4, 5, 6], [7, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_row_without_tokens_attends_to_one_pad() -> None:
    ids, mask = pad(arrays_of([[], [7, 8]]), np.array([0, 1]), pad_token_id=9)
    assert ids.tolist()[0] == [9, 9] and mask.tolist()[0] == [1, 0]


class Broken(nn.Module):
    """Answers NaN."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        self.logits = torch.full((len(input_ids), 2), float("nan"))
        return self


def test_output_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(DataError, match="output on test is not a number"):
        score(Broken(), arrays_of([[1]]), 0, "test")
