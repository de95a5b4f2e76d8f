"""`fairlead predict --prompt`: a language model goes on from prompts, shown as they are written."""

import re
import sys
from typing import TYPE_CHECKING, Any

from fairlead.cli.output import print_json
from fairlead.errors import ConfigError

if TYPE_CHECKING:
    from fairlead.inference.config import GenerationConfig
    from fairlead.inference.generation import Writer

ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


def generation_config(given: dict[str, Any], prompts: list[str]) -> "GenerationConfig":
    """The settings from the options that were given; `stop` may hold \\n, \\t and \\\\.

    Raises ConfigError, which names the setting, for one that is out of range or comes without a prompt.
    """
    from fairlead.inference.config import GenerationConfig

    set_ = {name: value for name, value in given.items() if value not in (None, [])}
    if set_ and not prompts:
        option = next(iter(set_)).replace("_", "-")
        raise ConfigError(f"--{option}: it says how a prompt is continued, and there is none; give --prompt")
    if "" in prompts:
        raise ConfigError("--prompt: it is empty; give at least one character to go on from")
    if "stop" in set_:
        set_["stop"] = [_unescaped(stop) for stop in set_["stop"]]
    return GenerationConfig.parse(set_, where="predict")


def write_here(ref: str, prompts: list[str], config: "GenerationConfig", as_json: bool) -> None:
    """Continue the prompts in this process; a single one is shown piece by piece as it is written."""
    writer = _load(ref)
    for prompt in prompts:
        _warn_of_length(writer, prompt)
    if as_json:
        print_json(_answers(writer, prompts, config))
        return
    if len(prompts) == 1:
        print(prompts[0], end="", flush=True)
        for piece in writer.stream(prompts[0], config):
            print(piece, end="", flush=True)
        print()
    else:
        for index, found in enumerate(writer.write(prompts, config)):
            print(("\n" if index else "") + found.prompt + found.text)
    print(f"\n{writer.manifest.name}  {writer.manifest.digest}")


def _load(ref: str) -> "Writer":
    from fairlead.cli.display import Display
    from fairlead.cli.relay import relayed
    from fairlead.events import emit
    from fairlead.registry.fetching import fetch_version

    with Display([], sys.stderr) as display, relayed(display.on_event):
        folder = fetch_version(ref)
        emit("progress", "predict")
        from fairlead.inference.generation import Writer

        return Writer.load(folder)


def _answers(writer: "Writer", prompts: list[str], config: "GenerationConfig") -> list[dict[str, Any]]:
    version = {"version": writer.manifest.name, "digest": writer.manifest.digest}
    return [
        {"prompt": found.prompt, "text": found.text, "tokens": found.num_tokens, "ended": found.ended, **version}
        for found in writer.write(prompts, config)
    ]


def _warn_of_length(writer: "Writer", prompt: str) -> None:
    num_tokens = writer.num_tokens(prompt)
    if num_tokens > writer.context:
        print(
            f"warning: a prompt has {num_tokens} tokens and {writer.manifest.name} reads {writer.context} at once: "
            f"only its last {writer.context} are read",
            file=sys.stderr,
        )


def _unescaped(text: str) -> str:
    return re.sub(r"\\([nt\\])", lambda match: ESCAPES[match[1]], text)
