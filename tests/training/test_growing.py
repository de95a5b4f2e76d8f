import json
from pathlib import Path

import torch

from fairlead.formats.model import ModelManifest
from fairlead.formats.tokens import TokensManifest
from fairlead.training.config import ModelConfig
from fairlead.training.models.building import build_model, load_classifier
from tests.tiny import LABELS, MAX_LENGTH, make_version


def tokens(labels: list[str], vocab_size: int) -> TokensManifest:
    digest = "sha256:" + "0" * 64
    return TokensManifest(
        digest=digest,
        data_digest=digest,
        tokenizer_digest=digest,
        vocab_size=vocab_size,
        pad_token_id=0,
        max_length=MAX_LENGTH,
        dtype="uint16",
        labels=labels,
        splits={},
        config={},
    )


def test_a_head_that_grows_keeps_the_rows_of_known_classes(tmp_path: Path) -> None:
    folder = make_version(tmp_path / "version")
    before = load_classifier(folder)
    torch.manual_seed(0)
    after = build_model(ModelConfig(), tokens([*LABELS, "returns", "other"], 17), folder)
    assert after.config.num_labels == 5 and list(after.config.label2id) == [*LABELS, "returns", "other"]
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    assert old.keys() == new.keys()
    for name, parameter in new.items():
        assert torch.equal(parameter[:3] if "classifier" in name else parameter, old[name]), name
    assert new["classifier.weight"][3:].abs().sum() > 0
    ids = torch.tensor([[2, 4, 5, 3]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        logits = [model.eval()(input_ids=ids, attention_mask=mask).logits for model in (before, after)]
    assert torch.allclose(logits[0], logits[1][:, :3])


def test_the_same_classes_keep_the_whole_head(tmp_path: Path) -> None:
    folder = make_version(tmp_path / "version")
    after = build_model(ModelConfig(), tokens(LABELS, 17), folder)
    assert torch.equal(after.classifier.weight, load_classifier(folder).classifier.weight)


def test_a_record_of_before_there_were_parents_keeps_its_digest(tmp_path: Path) -> None:
    manifest = json.loads((make_version(tmp_path / "version") / "fairlead.json").read_text())
    identity = ModelManifest.parse(manifest).training.identity()
    assert "parent_version" not in identity
    del manifest["training"]["parent_version"]
    assert ModelManifest.parse(manifest).training.identity() == identity
