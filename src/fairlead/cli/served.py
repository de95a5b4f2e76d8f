"""A model server as a child process, and how it is asked."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from fairlead.errors import ConfigError, FairleadError, NotFound
from fairlead.events import Progress
from fairlead.names import kubernetes_name

if TYPE_CHECKING:
    import httpx

# Loading torch and a model takes 5 s on two cores; a large base over a slow disk takes minutes.
SECONDS_TO_READY = 300.0
# Outputs of a multi-label model, whose elements are lists.
LIST_OUTPUTS = ("labels", "label_probabilities")
SECONDS_TO_STOP = 20.0
# One text takes milliseconds; the first of a large file may wait for its whole batch.
SECONDS_TO_ANSWER = 120.0
# A server refuses a request over 1,024 texts or 32 MB; JSON may write a text several times its size.
TEXTS_IN_A_REQUEST = 512
BYTES_IN_A_REQUEST = 8_000_000


def server_command(
    refs: Sequence[str], http_port: int, grpc_port: int, host: str, options: Sequence[str] = ()
) -> list[str]:
    """The command line of a server for `refs`; port 0 is a free one, `options` are the server's own."""
    # -P: a folder `serving` where the user stands is not the server.
    ports = ["--http_port", str(http_port), "--grpc_port", str(grpc_port)]
    models = [argument for ref in refs for argument in ("--model", ref)]
    return [sys.executable, "-P", "-m", "serving", *models, *ports, "--host", host, *options]


@contextmanager
def served(ref: str) -> Iterator[str]:
    """Run a server for `ref` on free local ports within the block, and give its base URL.

    Raises FairleadError with the server's own last line when it ends before it is ready.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            server_command([ref], 0, 0, "127.0.0.1", ["--die-with-parent", "--linger", "0"]),
            # Never written: its end tells the server that this process is gone, even by SIGKILL.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            yield str(_wait_until_ready(process, log)["http"])
        finally:
            _stop(process)


def ask(url: str, project: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Ask a running server over the Open Inference Protocol (V2 REST), in parts; one answer a text.

    Raises NotFound when there is no such server or model, ConfigError when it refuses a request.
    """
    import httpx

    base = url.rstrip("/")
    answers: list[dict[str, Any]] = []
    progress = Progress("predict", "ask the server", len(texts), "texts")
    try:
        with httpx.Client(timeout=SECONDS_TO_ANSWER) as client:
            for part in requests(texts):
                answers += _ask_once(client, base, project, part)
                progress.advance(len(part))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotFound(f"{base}: no server answers ({error}); start one with fairlead serve") from error
    return answers


def requests(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in parts that a server accepts; one text over the limit is a part of its own."""
    part: list[str] = []
    size = 0
    for text in texts:
        length = len(text.encode("utf-8", "surrogatepass"))
        if part and (len(part) == TEXTS_IN_A_REQUEST or size + length > BYTES_IN_A_REQUEST):
            yield part
            part, size = [], 0
        part.append(text)
        size += length
    if part:
        yield part


def _ask_once(client: "httpx.Client", base: str, project: str, texts: list[str]) -> list[dict[str, Any]]:
    request = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}
    # On a cluster KServe calls the model as its InferenceService is called.
    for name in dict.fromkeys((project, kubernetes_name(project))):
        response = client.post(f"{base}/v2/models/{name}/infer", json=request)
        if response.status_code != 404:
            break
    if response.status_code == 200:
        return _answers(response.json(), texts)
    reason = f"{base}: it answers {response.status_code}: {_reason(response.text)}"
    if response.status_code >= 500:
        raise FairleadError(f"{reason}; see the server's log")
    raise ConfigError(f"{reason}; correct the request")


def _wait_until_ready(process: subprocess.Popen[str], log: IO[str]) -> dict[str, Any]:
    """The server's ready line: one JSON object with its addresses."""
    overdue = threading.Timer(SECONDS_TO_READY, process.kill)
    overdue.start()
    try:
        for line in process.stdout or ():
            if ready := _ready(line):
                return ready
    finally:
        overdue.cancel()
    log.seek(0)
    lines = [text.strip() for text in log.read().splitlines() if text.strip()]
    last = (lines or ["it said nothing"])[-1].removeprefix("error: ")
    raise FairleadError(f"serve: the server ended before it was ready; {last}")


def _ready(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "http" in value else None


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def _reason(body: str) -> str:
    """The `error` of a V2 answer, or the beginning of whatever it is."""
    try:
        value = json.loads(body)
    except ValueError:
        return body[:200]
    return str(value.get("error", body[:200])) if isinstance(value, dict) else body[:200]


def _answers(response: dict[str, Any], texts: Sequence[str]) -> list[dict[str, Any]]:
    columns = {output["name"]: output["data"] for output in response["outputs"]}
    parameters = response.get("parameters") or {}
    return [
        {
            "text": text,
            **{name: _value(name, data[index]) for name, data in columns.items()},
            "version": response.get("model_version") or parameters.get("model_version"),
            "digest": parameters.get("digest"),
            "prediction_id": parameters.get("prediction_id"),
        }
        for index, text in enumerate(texts)
    ]


def _value(name: str, element: Any) -> Any:
    """An element of an output; a list of labels or of their probabilities comes as JSON."""
    return json.loads(element) if name in LIST_OUTPUTS else element
