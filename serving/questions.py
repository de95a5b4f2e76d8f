"""What a caller asks, whatever the protocol: texts or token ids, and the outputs wanted.

Everything here is the caller's: whatever is wrong is InvalidRequest, which names the field, before the model is
touched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.formats.variants import REFERENCE
from fairlead.inference.config import GenerationConfig
from serving.failures import InvalidRequest
from serving.interface import EMBEDDING, NORMALIZE, PROBABILITIES, TEXT, Interface

# One request may not keep the model from all others for longer than a few seconds.
MAX_TEXTS = 1024
# The same limit as ingest has for a row.
MAX_TEXT_BYTES = 1_000_000
# Request parameters: two add the output of their name, `normalize` is of embeddings, the last is the binary tensor
# extension's.
BINARY_OUTPUT = "binary_data_output"
PARAMETERS = (PROBABILITIES, EMBEDDING, NORMALIZE, BINARY_OUTPUT)

# Of a language model: all are written in the same steps, which others wait for.
MAX_PROMPTS = 32

TokenIds = list[int]


@dataclass(frozen=True, slots=True)
class Question:
    """One valid request."""

    items: list[str] | list[TokenIds]
    """What to answer, 1 to MAX_TEXTS: texts, or the token ids of each."""
    outputs: tuple[str, ...]
    """Names of the outputs wanted, in order."""
    id: str = ""
    """The caller's own name of the request."""
    binary: frozenset[str] = frozenset()
    """Outputs that go out as raw bytes."""
    generation: GenerationConfig | None = None
    """How a language model goes on; None of other models."""
    normalize: bool = False
    """Whether embeddings are of length 1."""


def read_items(elements: Sequence[Any], field: str, interface: Interface) -> list[str] | list[TokenIds]:
    """Texts, or a list of token ids for each text."""
    check_count(len(elements), field)
    if isinstance(elements[0], list):
        return [read_token_ids(ids, f"{field}[{index}]", interface) for index, ids in enumerate(elements)]
    return read_texts(elements, field)


def read_texts(elements: Sequence[Any], field: str) -> list[str]:
    """Texts as strings, or as bytes of UTF-8."""
    check_count(len(elements), field)
    return [_read_text(element, field, index) for index, element in enumerate(elements)]


def check_count(count: int, field: str) -> None:
    """Refuse no texts, and more than MAX_TEXTS."""
    if not count:
        raise InvalidRequest(f"{field}: it is empty; send at least one text")
    if count > MAX_TEXTS:
        raise InvalidRequest(
            f"{field}: {count:,} texts are over the limit of {MAX_TEXTS:,} a request; send several requests"
        )


def _read_text(element: object, field: str, index: int) -> str:
    if not isinstance(element, str | bytes):
        raise InvalidRequest(f"{field}[{index}]: a text is expected, not {kind(element)}; send a string")
    try:
        text = element if isinstance(element, str) else element.decode()
        # A character has 4 bytes at most.
        size = len(text) if len(text) * 4 <= MAX_TEXT_BYTES else len(text.encode())
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{field}[{index}]: it is not UTF-8 ({error.reason}); encode it as UTF-8") from error
    if size > MAX_TEXT_BYTES:
        raise InvalidRequest(
            f"{field}[{index}]: it has {size:,} bytes, over the limit of {MAX_TEXT_BYTES:,}; shorten it"
        )
    return text


def read_token_ids(ids: object, field: str, interface: Interface) -> TokenIds:
    """Token ids of one text, as the model's own tokenizer gives them, special tokens included."""
    most, known = interface.manifest.training.max_length, interface.num_token_ids
    if not known:
        raise InvalidRequest(f"{field}: this model takes texts, no token ids; send strings")
    if not isinstance(ids, list):
        raise InvalidRequest(f"{field}: a list of token ids is expected, not {kind(ids)}; send all texts in one form")
    if not ids:
        raise InvalidRequest(f"{field}: it is empty; send at least one token id")
    if len(ids) > most:
        raise InvalidRequest(f"{field}: {len(ids):,} tokens are over the model's {most:,}; shorten it")
    for index, token in enumerate(ids):
        if type(token) is not int:
            raise InvalidRequest(f"{field}[{index}]: a token id is expected, not {kind(token)}; send an integer")
        if not 0 <= token < known:
            raise InvalidRequest(f"{field}[{index}]: {token} is no token id; they go from 0 to {known - 1:,}")
    return ids


def read_parameters(parameters: object, interface: Interface) -> Mapping[str, bool]:
    """The request's parameters by name."""
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise InvalidRequest(f"parameters: an object is expected, not {kind(parameters)}; send {{}}")
    if PROBABILITIES in parameters and PROBABILITIES not in interface.on_request:
        raise InvalidRequest(f"parameters.{PROBABILITIES}: this model gives numbers, which have none; leave it away")
    for name, value in parameters.items():
        if interface.generates and name in GenerationConfig.model_fields:
            continue
        if name not in PARAMETERS:
            raise InvalidRequest(f"parameters.{name}: there is no such parameter; known are {', '.join(PARAMETERS)}")
        if not isinstance(value, bool):
            raise InvalidRequest(f"parameters.{name}: true or false is expected, not {value!r}; send a boolean")
    if parameters.get(EMBEDDING):
        check_embedding(f"parameters.{EMBEDDING}", interface)
    return parameters


def check_embedding(field: str, interface: Interface) -> None:
    """Refuse what would need an embedding where there is none, naming what has one."""
    if interface.generates:
        raise InvalidRequest(f"{field}: this model writes texts and gives no {EMBEDDING}; ask a classifier")
    if not interface.embedding_size:
        raise InvalidRequest(
            f"{field}: variant {interface.variant} was made without the {EMBEDDING}; have {REFERENCE} served, "
            "or the version optimized again"
        )


def read_generation(
    parameters: Mapping[str, Any], prompts: Sequence[object], interface: Interface
) -> GenerationConfig | None:
    """How a language model goes on, from a request's parameters. Raises ConfigError, which names the parameter."""
    if not interface.generates:
        return None
    if len(prompts) > MAX_PROMPTS:
        raise InvalidRequest(
            f"{TEXT}: {len(prompts):,} prompts are over the limit of {MAX_PROMPTS} a request; send several requests"
        )
    given = {name: value for name, value in parameters.items() if name in GenerationConfig.model_fields}
    return GenerationConfig.parse(given, where="parameters")


def wanted_outputs(named: Sequence[object], parameters: Mapping[str, bool], interface: Interface) -> tuple[str, ...]:
    """The outputs that a request names, or the usual ones, and what its parameters add."""
    known, outputs = interface.known_outputs, interface.outputs
    if EMBEDDING in named:
        check_embedding(f"outputs[{named.index(EMBEDDING)}].name", interface)
    for index, name in enumerate(named):
        if name not in known or named.count(name) > 1:
            raise InvalidRequest(
                f"outputs[{index}].name: {name!r} is unknown or repeated; ask once each for {', '.join(known)}"
            )
    if named:
        outputs = tuple(str(name) for name in named)
    outputs += tuple(name for name in (PROBABILITIES, EMBEDDING) if parameters.get(name) and name not in outputs)
    if parameters.get(NORMALIZE) and EMBEDDING not in outputs:
        raise InvalidRequest(f"parameters.{NORMALIZE}: it is for the output {EMBEDDING}; ask for that, too")
    return outputs


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
