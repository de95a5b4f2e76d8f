"""Malformed REST requests: good ones, broken in one to three places, by a seed."""

import copy
import http.client
import json
import random
import string
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.serving.fuzz import oracle
from tests.serving.fuzz.tally import Tally

V1, V2 = "/v1/models/support-topics:predict", "/v2/models/support-topics/infer"
EMBEDDINGS, COMPLETIONS = "/v1/embeddings", "/v1/completions"
FEEDBACK, PREDICTIONS = "/v2/feedback", "/v2/predictions/"
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 1.5, 1e308, "", "a", "\x00", "日本語 🙂",
    "x" * 5000, [], {}, [[]], [None], {"a": None}, ["a", 1], "text", "BYTES", "INT64", "probability", [1, 1], [2], 1025,
)  # fmt: skip
BROKEN = (
    b"",
    b"null",
    b"[",
    b'"',
    b"{}",
    b"\xff\xfe",
    b'{"a":NaN}',
    b"[" * 500,
    b"\x00" * 10,
    b'{"inputs":[' + b"9" * 400,
)


@dataclass(frozen=True)
class Call:
    """One request."""

    kind: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    method: str = "POST"
    prediction: str = ""
    """The id of an answer that the server gave, to one text."""

    def texts(self) -> int | None:
        """How many texts the oracle finds in it; None where it must be refused."""
        if self.path == V1:
            return oracle.of_event(self.body, self.headers)
        if self.path == FEEDBACK:
            return oracle.of_feedback(self.body, self.prediction)
        if self.prediction:
            return 1 if self.path == PREDICTIONS + self.prediction else None
        if self.path == EMBEDDINGS:
            return oracle.of_embeddings(self.body)
        if self.path == V2:
            return oracle.of_v2(self.body, self.headers.get("inference-header-content-length"))
        return None


def calls(generator: random.Random, prediction: str) -> Iterator[Call]:
    """Calls without end, of every kind in turn; `prediction` is the id of an answer."""
    kinds: list[Callable[[random.Random], Call]] = [
        _changed_v1,
        _changed_v2,
        _changed_tokens,
        _binary,
        _changed_embeddings,
        _changed_completions,
        _event,
        _cut,
        _bytes,
        _path,
        partial(_feedback, prediction),
        partial(_prediction, prediction),
    ]
    while True:
        for kind in kinds:
            yield kind(generator)


def run(base: str, number: int, seed: int, tally: Tally) -> None:
    """So many calls, each answer compared with what the oracle says of its request."""
    client = http.client.HTTPConnection(base.removeprefix("http://"), timeout=120)
    client.request("POST", V1, b'{"instances": ["my card"]}')
    answer = client.getresponse()
    answer.read()
    generated = calls(random.Random(seed), str(answer.getheader("x-fairlead-prediction-id")))
    for _ in range(number):
        call = next(generated)
        client.request(call.method, call.path, call.body, call.headers)
        response = client.getresponse()
        check(call, response.status, response.read(), response.getheader("inference-header-content-length"), tally)
    client.close()


def check(call: Call, status: int, body: bytes, json_length: str | None, tally: Tally) -> None:
    """Count a call, and keep it where its answer is wrong."""
    tally.add(call.kind, str(status))
    texts = call.texts()
    if status >= 500:
        tally.fail(call.kind, f"{status}: {body[:200]!r}", call)
    elif (status == 200) != (texts is not None):
        tally.fail(call.kind, f"{status}, but {texts} valid texts: {body[:200]!r}", call)
    elif status == 200 and _answers(json.loads(body[: int(json_length or len(body))])) != texts:
        tally.fail(call.kind, f"not {texts} answers: {body[:200]!r}", call)
    elif status != 200 and set(json.loads(body)) != {"error"}:
        tally.fail(call.kind, f"no sentence: {body[:200]!r}", call)


def _answers(body: dict[str, Any]) -> int:
    if "prediction_id" in body and not {"predictions", "outputs"} & set(body):
        return len(body.get("events", [body.get("status")]))
    # A CloudEvent's data is the answer, and OpenAI's data the list of embeddings.
    if isinstance(body.get("data"), list):
        return len(body["data"])
    body = body.get("data", body)
    if "predictions" in body:
        return len(body["predictions"])
    (count,) = {output["shape"][0] for output in body["outputs"]}
    return int(count)


def _v1(generator: random.Random) -> dict[str, Any]:
    return {
        "instances": [_words(generator) for _ in range(generator.randint(1, 4))],
        "parameters": {"probabilities": True, "embedding": True, "normalize": False},
    }


def _v2(generator: random.Random) -> dict[str, Any]:
    texts = [_words(generator) for _ in range(generator.randint(1, 4))]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts, "parameters": {}}
    outputs = [{"name": "label"}, {"name": "probability", "parameters": {"binary_data": False}}]
    return {
        "id": "one",
        "inputs": [tensor],
        "outputs": outputs,
        "parameters": {"probabilities": False, "embedding": False},
    }


def _tokens(generator: random.Random) -> dict[str, Any]:
    rows, width = generator.randint(1, 3), generator.randint(1, 16)
    ids = [generator.randrange(oracle.VOCABULARY) for _ in range(rows * width)]
    mask = ([1] + [generator.randint(0, 1)] * (width - 1)) * rows
    tensors = {"input_ids": ids, "attention_mask": mask}
    return {"inputs": [{"name": n, "datatype": "INT64", "shape": [rows, width], "data": d} for n, d in tensors.items()]}


def _changed_v1(generator: random.Random) -> Call:
    return Call("V1, changed values", V1, _dumped(_changed(_v1(generator), generator)))


def _changed_v2(generator: random.Random) -> Call:
    return Call("V2, changed values", V2, _dumped(_changed(_v2(generator), generator)))


def _changed_tokens(generator: random.Random) -> Call:
    return Call("V2, changed token ids", V2, _dumped(_changed(_tokens(generator), generator)))


def _binary(generator: random.Random) -> Call:
    """The binary tensor extension, with lengths that lie."""
    texts = [_words(generator).encode() for _ in range(generator.randint(1, 3))]
    lies = [0, 0, 0, 0, 1, -1, 4, 1000, 2**31]
    raw = b"".join(struct.pack("<I", max(0, len(text) + generator.choice(lies)) % 2**32) + text for text in texts)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)]}
    size: Any = generator.choice([len(raw)] * 4 + [len(raw) - 1, len(raw) + 1, 0, -1, None, "4", 2**40, True])
    head = _dumped({"inputs": [tensor | {"parameters": {"binary_data_size": size}}]})
    length = generator.choice(
        [str(len(head))] * 5 + [str(len(head) - 1), "-1", "x", "", "99999999999", "١", str(len(head) + 1)]
    )
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": length.encode().decode("latin-1"),
    }
    return Call("V2, raw tensors", V2, head + raw, headers)


def _changed_embeddings(generator: random.Random) -> Call:
    texts = [_words(generator) for _ in range(generator.randint(1, 4))]
    given = generator.choice([texts, texts, texts[0], [2, 4, 3], [[2, 4, 3], [2, 3]]])
    body = {"model": oracle.MODEL, "input": given, "encoding_format": generator.choice(["float", "base64"])}
    return Call("embeddings, changed values", EMBEDDINGS, _dumped(_changed(body, generator)))


def _changed_completions(generator: random.Random) -> Call:
    """Of a model that writes no texts: refused, whatever it is."""
    body = {"model": oracle.MODEL, "prompt": [_words(generator)], "n": 2, "stop": ["a"], "stream": True, "seed": 1}
    return Call("completions, changed values", COMPLETIONS, _dumped(_changed(body, generator)))


def _event(generator: random.Random) -> Call:
    """A CloudEvent, binary or structured, with changed attributes."""
    attributes: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "shop", "type": "ticket"}
    if generator.random() < 0.5:
        body = _dumped(_changed(attributes | {"data": _v1(generator)}, generator))
        media = generator.choice(["application/cloudevents+json"] * 4 + ["application/cloudevents-batch+json"])
        return Call("V1 as an event, structured", V1, body, {"content-type": media})
    if generator.random() < 0.5:
        attributes[generator.choice(list(attributes))] = generator.choice(["", "1.0", "0.3", "x" * 50])
    headers = {f"ce-{name}": value for name, value in attributes.items()} | {"content-type": "application/json"}
    return Call("V1 as an event, binary", V1, _dumped(_changed(_v1(generator), generator)), headers)


def _cut(generator: random.Random) -> Call:
    """A good body with bytes cut out, doubled or replaced."""
    path, body = generator.choice([(V1, _dumped(_v1(generator))), (V2, _dumped(_v2(generator)))])
    at = generator.randrange(len(body))
    to = min(len(body), at + generator.randint(1, 8))
    between = generator.choice([b"", body[at:to] * 2, generator.randbytes(to - at), b'"', b"\\", b"\\ud800", b"\x80"])
    return Call("body with changed bytes", path, body[:at] + between + body[to:])


def _bytes(generator: random.Random) -> Call:
    body = generator.choice([*BROKEN, generator.randbytes(generator.randint(1, 200))])
    return Call("bytes that are no JSON", generator.choice([V1, V2]), body)


def _path(generator: random.Random) -> Call:
    """A good body for a path that is none."""
    parts = [
        "v1",
        "v2",
        "models",
        "infer",
        "versions",
        "{}",
        "",
        "POST",
        "GET",
        "%00",
        "..",
        "a:predict",
        ":",
        "support-topics",
    ]
    path = "/" + "/".join(generator.choice(parts) for _ in range(generator.randint(1, 7)))
    return Call("no such path", path, _dumped(_v2(generator) | _v1(generator)))


def _feedback(prediction: str, generator: random.Random) -> Call:
    """The true label of a prediction that is there, with changed values."""
    body = {"prediction_id": prediction, "label": _words(generator), "index": generator.choice([0, None])}
    return Call("feedback, changed values", FEEDBACK, _dumped(_changed(body, generator)), prediction=prediction)


def _prediction(prediction: str, generator: random.Random) -> Call:
    """An answer's record, and ids that are none, or of nothing that was answered."""
    at = generator.randrange(len(prediction))
    changed = prediction[:at] + generator.choice("0f-xG%") + prediction[at + 1 :]
    one = generator.choice([prediction, changed, changed, prediction[:at], "%00", "x" * 300, "..", prediction * 2])
    return Call("records of answers", PREDICTIONS + one, b"", method="GET", prediction=prediction)


def _changed(body: dict[str, Any], generator: random.Random) -> Any:
    """One to three values replaced, removed or doubled, anywhere in it; sometimes none."""
    body = copy.deepcopy(body)
    for _ in range(generator.randint(0, 3)):
        place = generator.choice(list(_places(body)))
        _change(*place, generator)
    return body


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _places(value[key])
    if isinstance(value, dict | list):
        yield value, None


def _change(container: Any, key: Any, generator: random.Random) -> None:
    junk = copy.deepcopy(generator.choice(JUNK))
    if key is None and isinstance(container, dict):
        container["".join(generator.choices(string.ascii_lowercase, k=3))] = junk
    elif key is None:
        container.append(junk)
    elif generator.random() < 0.2:
        del container[key]
    else:
        container[key] = junk


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _words(generator: random.Random) -> str:
    return " ".join(generator.choices(["my", "card", "parcel", "Ünknown", "日本", "🙂"], k=generator.randint(1, 6)))
