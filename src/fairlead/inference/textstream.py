"""From tokens to text as they come: no half characters, and nothing of a stop string.

A token may hold a part of a character (bytes of UTF-8) and a stop string may begin in one token and end in
another, so that text is shown only when later tokens can no longer change or stop it.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer

# What a tokenizer's decoder writes for bytes that are no character, or not yet.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# A character has four bytes at most: more tokens than that wait for nothing, they are no text.
TOKENS_HELD = 8


class TextStream:
    """The text of one continuation."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._tokens: list[int] = []
        # Tokens before `_read` are shown; those from `_start` on are decoded with them, since a tokenizer
        # may write a space before a token that is not the first.
        self._start = self._read = 0
        self._held = ""
        self.stopped = False
        """Whether a stop string was met; nothing is added after it."""

    def add(self, token: int) -> str:
        """Take one token; the text that can be shown now, often none."""
        self._tokens.append(token)
        return self._show(self._decode())

    def end(self) -> str:
        """The text that waited for a stop string that did not come; bytes of half a character are left out."""
        held, self._held = self._held, ""
        return "" if self.stopped else held

    def _decode(self) -> str:
        before = self._text(self._tokens[self._start : self._read])
        text = self._text(self._tokens[self._start :])
        if text.endswith(REPLACEMENT) and len(self._tokens) - self._read < TOKENS_HELD:
            return ""
        self._start, self._read = self._read, len(self._tokens)
        return text[len(before) :]

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _show(self, text: str) -> str:
        text = self._held + text
        found = [index for stop in self._stops if (index := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        cut = len(text) - self._unsure(text)
        self._held = text[cut:]
        return text[:cut]

    def _unsure(self, text: str) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
