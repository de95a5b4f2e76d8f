"""Text as it comes: whole characters only, and no part of a stop string."""

import random

import pytest

from fairlead.inference.textstream import TextStream
from tests.inference.writing import byte_tokenizer

TOKENIZER = byte_tokenizer(" the", "ab", "bc", "\n\n")


def pieces(text: str, *stops: str) -> tuple[list[str], TextStream]:
    """The pieces that the tokens of `text` give, one a token, and what comes at the end."""
    stream = TextStream(TOKENIZER, stops)
    found = []
    for token in TOKENIZER.encode(text).ids:
        if stream.stopped:
            break
        found.append(stream.add(token))
    return [*found, stream.end()], stream


@pytest.mark.parametrize("text", ["naïve café", "日本語のテキスト", "🙂🙃 ok 👩‍👩‍👧", "the end of the\n\nthing"])
def test_no_character_is_cut(text: str) -> None:
    found, _ = pieces(text)
    assert "".join(found) == text and "\N{REPLACEMENT CHARACTER}" not in "".join(found)
    assert len(found) == len(TOKENIZER.encode(text).ids) + 1


def test_half_a_character_at_the_end_is_left_out() -> None:
    stream = TextStream(TOKENIZER, [])
    tokens = TOKENIZER.encode("a日").ids
    assert "".join([*map(stream.add, tokens[:-1]), stream.end()]) == "a"


def test_bytes_that_are_no_character_do_not_hold_the_text_for_ever() -> None:
    stream, wrong = TextStream(TOKENIZER, []), TOKENIZER.encode("é").ids[1]
    text = "".join(map(stream.add, [wrong] * 30 + TOKENIZER.encode("go on").ids))
    assert text.endswith("go on") and text.count("\N{REPLACEMENT CHARACTER}") == 30


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("one\n\ntwo", ["\n\n"], "one"),
        ("xabcy", ["bc"], "xa"),  # begins in the token "ab", ends in "c"
        ("xabcy", ["cy", "abc"], "x"),  # the earlier of two
        ("abab the end", [" then", "enda", "end"], "abab the "),
        ("日本語", ["本"], "日"),
        ("nothing here", ["zzz", "here and there"], "nothing here"),
    ],
)
def test_text_ends_before_the_first_stop_string(text: str, stops: list[str], left: str) -> None:
    found, stream = pieces(text, *stops)
    assert "".join(found) == left
    assert stream.stopped == (left != text)


def test_nothing_is_shown_that_a_stop_string_takes_back() -> None:
    chosen = random.Random(0)
    for _ in range(300):
        text = "".join(chosen.choices("abcé\n the", k=chosen.randint(1, 30)))
        stops = ["".join(chosen.choices("abcé\n ", k=chosen.randint(1, 4))) for _ in range(chosen.randint(0, 3))]
        found, _ = pieces(text, *stops)
        ends = [text.find(stop) for stop in stops if stop in text]
        assert "".join(found) == text[: min(ends, default=len(text))]
