"""A request for completions, read and checked."""

import secrets
from dataclasses import dataclass
from typing import Any

from fairlead.errors import ConfigError
from fairlead.inference.config import GenerationConfig
from serving.failures import InvalidRequest
from serving.openai.form import check_fields, read_model
from serving.questions import MAX_PROMPTS, MAX_TEXT_BYTES, kind

EXAMPLE = '{"model": "name", "prompt": "Once upon"}'
# OpenAI's default.
MAX_TOKENS = 16
# Its name for each of ours.
SETTINGS = {"max_tokens": "max_new_tokens"} | {name: name for name in ("temperature", "top_p", "top_k", "seed", "stop")}
KNOWN = ("model", "prompt", *SETTINGS, "n", "best_of", "echo", "stream", "stream_options", "user")
# What changes nothing at these values.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logprobs": (None,),
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0, 0.0),
    "suffix": (None, ""),
    "logit_bias": (None, {}),
}


@dataclass(frozen=True)
class Wish:
    """One valid request."""

    model: str
    """Name on the endpoint."""
    prompts: list[str]
    """What to go on from, each `count` times."""
    count: int
    """Continuations of each prompt."""
    config: GenerationConfig
    """How to go on; with a seed, drawn where the caller gave none."""
    echo: bool
    """Whether each text begins with its prompt."""
    stream: bool
    """Whether texts come while they are written."""
    usage: bool
    """Whether a stream ends with the counts of tokens."""


def read(body: dict[str, Any]) -> Wish:
    """Read a request. Raises InvalidRequest, which names the field."""
    check_fields(body, KNOWN, NEUTRAL)
    model = read_model(body, EXAMPLE)
    stream, prompts, count = _truth(body, "stream"), _prompts(body.get("prompt")), _count(body.get("n"))
    if body.get("best_of") not in (None, count):
        raise InvalidRequest(f"best_of: {body['best_of']!r:.40} is not done here; leave it away, or send n")
    if count * len(prompts) > MAX_PROMPTS:
        raise InvalidRequest(f"n: {count} of {len(prompts)} prompts are more than {MAX_PROMPTS} texts; ask for fewer")
    repeated = [prompt for prompt in prompts for _ in range(count)]
    usage = _usage(body.get("stream_options"), stream)
    return Wish(model, repeated, count, _config(body), _truth(body, "echo"), stream, usage)


def _truth(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise InvalidRequest(f"{name}: true or false is expected, not {kind(value)}; correct it")
    return bool(value)


def _count(value: object) -> int:
    if value is None:
        return 1
    if type(value) is not int or not 1 <= value <= MAX_PROMPTS:
        raise InvalidRequest(f"n: a number from 1 to {MAX_PROMPTS} is expected, not {value!r:.40}; correct it")
    return value


def _usage(options: object, stream: bool) -> bool:
    if options is None:
        return False
    if not stream or not isinstance(options, dict) or set(options) - {"include_usage"}:
        raise InvalidRequest('stream_options: {"include_usage": true} with "stream": true is all that it takes')
    return _truth(options, "include_usage")


def _prompts(value: object) -> list[str]:
    prompts = value if isinstance(value, list) else [value]
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise InvalidRequest(f"prompt: {len(prompts)} prompts; send 1 to {MAX_PROMPTS}")
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt or len(prompt.encode()) > MAX_TEXT_BYTES:
            raise InvalidRequest(
                f"prompt: a text of 1 to {MAX_TEXT_BYTES:,} bytes is expected, not {kind(prompt)}; "
                "token ids are not taken"
            )
    return prompts


def _config(body: dict[str, Any]) -> GenerationConfig:
    given = {ours: body[theirs] for theirs, ours in SETTINGS.items() if body.get(theirs) is not None}
    if isinstance(given.get("stop"), str):
        given["stop"] = [given["stop"]]
    # Who gives no seed expects another text each time; the drawn one is kept, so that it can be written again.
    usual = {"max_new_tokens": MAX_TOKENS, "seed": secrets.randbelow(2**32)}
    try:
        return GenerationConfig.parse(usual | given, where="body")
    except ConfigError as error:
        sentence = str(error).removeprefix("body: ").replace("max_new_tokens", "max_tokens")
        raise InvalidRequest(sentence.replace(" = ", ": ", 1)) from error
