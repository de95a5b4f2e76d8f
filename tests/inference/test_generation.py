"""Generation: what Hugging Face's greedy search writes; kept keys and values change nothing; draws repeat."""

from pathlib import Path

import pytest
import torch

from fairlead.errors import ConfigError, IntegrityError, NotFound
from fairlead.inference.config import GenerationConfig
from fairlead.inference.generation import Window, Writer
from tests.inference.writing import CONTEXT, END, byte_tokenizer, make_language_version, make_writer, random_model

GREEDY = GenerationConfig(temperature=0, max_new_tokens=12)
PROMPTS = ["so", "once upon a", "x"]


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return make_writer(tmp_path)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_greedy_is_what_transformers_generates_alone_and_in_a_batch(kind: str, tmp_path: Path) -> None:
    model, tokenizer = random_model(kind), byte_tokenizer()
    writer = make_writer(tmp_path, model)
    together = writer.write(PROMPTS, GREEDY)
    for prompt, found in zip(PROMPTS, together, strict=True):
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        text = tokenizer.decode(expected[0, ids.shape[1] :].tolist()).rstrip("\N{REPLACEMENT CHARACTER}")
        assert found.text.startswith(text[: len(found.text)]) and len(text) - len(found.text) <= 3
        assert found.num_tokens == int((expected[0, ids.shape[1] :] != END).sum()) + (found.ended == "end")
        assert writer.write([prompt], GREEDY) == [found]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_logits_with_kept_keys_are_those_without(kind: str) -> None:
    model = random_model(kind)
    rows = [[1, 2, 3, 4, 5], [7, 8]]
    window = Window(model, [list(row) for row in rows], CONTEXT)
    logits_BV = window.read()
    for step in range(8):
        for index, row in enumerate(rows):
            with torch.inference_mode():
                alone_V = model(input_ids=torch.tensor([row])).logits[0, -1]
            assert torch.allclose(logits_BV[index], alone_V, atol=1e-4)
            row.append((step * 31 + index) % 256)
        logits_BV = window.advance([row[-1] for row in rows])


def test_a_full_window_goes_on_from_its_last_half() -> None:
    model = random_model()
    row = list(range(CONTEXT))
    window = Window(model, [list(row), [5, 6]], CONTEXT)
    window.read()
    logits_BV = window.advance([99, 100])
    with torch.inference_mode():
        half_V = model(input_ids=torch.tensor([[*row, 99][-CONTEXT // 2 :]])).logits[0, -1]
        short_V = model(input_ids=torch.tensor([[5, 6, 100]])).logits[0, -1]
    assert torch.allclose(logits_BV[0], half_V, atol=1e-4)
    assert torch.allclose(logits_BV[1], short_V, atol=1e-4)


def test_a_text_may_be_longer_than_the_context(writer: Writer) -> None:
    config = GenerationConfig(max_new_tokens=5 * CONTEXT, temperature=0.5)
    model = writer.model
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    long = Writer(writer.manifest, model, writer.tokenizer).write(["long " * CONTEXT], config)[0]
    assert long.num_tokens == 5 * CONTEXT and long.ended == "length"
    assert long.num_prompt_tokens == 5 * CONTEXT


def test_draws_repeat_by_seed_and_never_depend_on_the_batch(writer: Writer) -> None:
    drawn = GenerationConfig(max_new_tokens=20, temperature=1.5, seed=3)
    first, second = writer.write(["ab", "ab"], drawn)
    assert first.text != second.text
    assert writer.write(["ab", "ab"], drawn) == [first, second]
    assert writer.write(["ab", "a longer one"], drawn)[0] == first
    assert writer.write(["ab"], drawn.model_copy(update={"seed": 4}))[0].text != first.text


def test_pieces_joined_are_the_text(writer: Writer) -> None:
    for stop in ([], ["é"], ["a", "bc"]):
        config = GenerationConfig(max_new_tokens=60, temperature=2.0, stop=stop, seed=1)
        pieces = list(writer.stream("ab", config))
        assert "".join(pieces) == writer.write(["ab"], config)[0].text
        assert not any(word in "".join(pieces) for word in stop)


def test_the_end_of_a_document_ends_it(tmp_path: Path) -> None:
    model = random_model()
    with torch.no_grad():
        best = model(input_ids=torch.tensor([[byte_tokenizer().encode("a").ids[0]]])).logits[0, -1].argmax()
        model.lm_head.weight[END] = 100 * model.lm_head.weight[best]
    found = make_writer(tmp_path, model).write(["a"], GREEDY)[0]
    assert (found.text, found.num_tokens, found.ended) == ("", 1, "end")


def test_tokens_that_the_tokenizer_lacks_are_never_drawn(tmp_path: Path) -> None:
    model = random_model(vocabulary=END + 64)
    with torch.no_grad():
        model.lm_head.weight[END + 1 :] *= 50
    found = make_writer(tmp_path, model).write(["a"], GenerationConfig(max_new_tokens=30, temperature=3))[0]
    assert found.text.strip("\N{REPLACEMENT CHARACTER}")


def test_an_empty_prompt_is_refused(writer: Writer) -> None:
    with pytest.raises(ConfigError, match="prompt: it is empty"):
        writer.write(["a", ""], GREEDY)
    assert writer.write([], GREEDY) == []


def test_a_damaged_or_missing_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Writer.load(tmp_path)
    folder = make_language_version(tmp_path / "version")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"tokenizer\.json"):
        Writer.load(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": 0},
        {"max_new_tokens": 0},
        {"stop": [""]},
        {"stop": ["a"] * 17},
        {"seed": -1},
    ],
)
def test_a_setting_out_of_range_is_named(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        GenerationConfig.parse(values, where="predict")
