"""`fairlead predict --prompt` on a registered language model: repeatable, with errors that name the option."""

from pathlib import Path

import pytest

from fairlead import places
from fairlead.formats.dataset import DataManifest, SplitSummary
from fairlead.formats.digests import of_bytes
from fairlead.formats.model import ModelManifest, read_manifest
from fairlead.names import CHAMPION, MODEL_MANIFEST, version_prefix
from fairlead.registry import open_registry
from fairlead.storage import open_store
from fairlead.storage.folders import publish
from tests.inference.writing import CONTEXT, make_language_version


@pytest.fixture
def language(tmp_path: Path) -> ModelManifest:
    """A registered language model, champion of `nonsense`."""
    with open_registry() as registry:
        reservation = registry.reserve_version("nonsense", "closure")
        folder = make_language_version(tmp_path / "made", number=reservation.number)
        manifest = read_manifest(folder)
        training = manifest.training
        summary = SplitSummary(num_rows=1, digest=of_bytes(b"rows"), label_counts={}, num_characters=9)
        data = DataManifest(
            digest=training.data_digest,
            task="language_modeling",
            labels=[],
            splits=dict.fromkeys(("train", "validation", "test"), summary),
            sources={"train": "a.txt"},
            source_digests={"a.txt": of_bytes(b"a")},
            config={},
            findings={},
        )
        registry.record_data_version(data, "data/x/")
        ids = (training.run_id, training.project, training.data_digest, training.tokens_digest)
        registry.start_run(*ids, training.config, 0, training.environment, training.code)
        prefix = version_prefix("nonsense", reservation.number)
        publish(open_store(places.store_url()), folder, prefix, last=MODEL_MANIFEST)
        registry.commit_version(manifest, prefix)
        registry.set_alias("nonsense", CHAMPION, reservation.number)
    return manifest


def test_a_prompt_is_continued_the_same_each_time(fairlead, language):
    options = ("--max-new-tokens", 30, "--temperature", 0.8, "--top-k", 50, "--top-p", 0.95, "--seed", 1)
    shown = fairlead("predict", "nonsense", "--prompt", "ROMEO:", *options)
    found = fairlead("predict", "nonsense:1", "--prompt", "ROMEO:", *options, "--json").json
    assert shown.code == 0 and len(found) == 1
    answer = found[0]
    assert shown.out == f"ROMEO:{answer['text']}\n\nnonsense_v1  {language.digest}\n"
    assert answer["prompt"] == "ROMEO:" and answer["tokens"] <= 30 and answer["ended"] in ("length", "end")
    assert (answer["version"], answer["digest"]) == ("nonsense_v1", language.digest)
    other = fairlead("predict", "nonsense", "--prompt", "ROMEO:", *options[:-1], 2, "--json").json
    assert other[0]["text"] != answer["text"]


def test_stop_strings_know_escapes_and_several_prompts_are_answered_in_order(fairlead, language):
    plain = fairlead("predict", "nonsense", "--prompt", "a", "--prompt", "bb", "--temperature", 0, "--json").json
    assert [answer["prompt"] for answer in plain] == ["a", "bb"]
    character = plain[0]["text"][3]
    stopped = fairlead("predict", "nonsense", "--prompt", "a", "--temperature", 0, "--stop", character, "--json").json
    assert stopped[0]["ended"] == "stop" and stopped[0]["text"] == plain[0]["text"].split(character)[0]
    from fairlead.cli.prompts import generation_config

    assert generation_config({"stop": [r"\n\n", r"\\n", "n"]}, ["a"]).stop == ["\n\n", r"\n", "n"]


def test_a_long_prompt_is_read_from_its_end_and_that_is_said(fairlead, language):
    found = fairlead("predict", "nonsense", "--prompt", "x" * 100, "--max-new-tokens", 2)
    assert found.code == 0 and f"has 100 tokens and nonsense_v1 reads {CONTEXT} at once" in found.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prompt", ""], "--prompt: it is empty"),
        (["--prompt", "a", "--temperature", "-1"], "temperature = -1.0 is refused"),
        (["--prompt", "a", "--top-p", "1.5"], "top_p = 1.5 is refused"),
        (["--prompt", "a", "--top-k", "0"], "top_k = 0 is refused"),
        (["--prompt", "a", "--stop", ""], "stop"),
        (["--prompt", "a", "--max-new-tokens", "0"], "max_new_tokens = 0 is refused"),
        (["a text", "--prompt", "a"], "--prompt: it takes no texts"),
        (["--prompt", "a", "--url", "http://127.0.0.1:1"], "--prompt: it takes no texts, --file or --url"),
        (["a text", "--seed", "3"], "--seed: it says how a prompt is continued"),
        (["a text"], "nonsense_v1: it is a language model, which labels no texts"),
    ],
)
def test_what_is_wrong_is_named(fairlead, language, arguments, sentence):
    found = fairlead("predict", "nonsense", *arguments)
    assert found.code == 2 and sentence in found.err and found.err.count("\n") == 1


def test_a_classifier_writes_nothing(fairlead, register):
    register(0)
    found = fairlead("predict", "support_topics", "--prompt", "a")
    assert found.code == 2 and "support_topics_v1: it labels texts and continues none" in found.err
