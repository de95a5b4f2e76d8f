"""What a server says and keeps of its requests: metrics, log lines, records, true labels, traces."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from fairlead import places
from fairlead.cli.main import main
from fairlead.errors import NotFound
from fairlead.formats.digests import of_bytes
from fairlead.names import HOME_ENV
from fairlead.predictions.finding import find
from fairlead.predictions.ids import IdSource, PredictionId
from fairlead.registry import open_registry
from fairlead.storage import ObjectStore, open_store
from serving.protobuf import SERVICE, pb
from tests.inference.conftest import register_version
from tests.serving.conftest import ROOT, environment
from tests.serving.otlp import Collector, collecting

SECRET = "my card was charged twice"
TEXTS = [SECRET, "where is the parcel"]
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
V1 = "/v1/models/support_topics:predict"


@dataclass
class Journaled:
    """A server whose log is a file."""

    process: subprocess.Popen[str]
    http: httpx.Client
    grpc: str
    log: Path
    version: str
    digest: str
    collector: Collector | None = None

    def lines(self) -> list[dict[str, Any]]:
        """The log's lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def predict(self, texts: list[str] = TEXTS, **arguments: Any) -> httpx.Response:
        return self.http.post(V1, json={"instances": texts}, **arguments)

    def metrics(self) -> dict[str, Any]:
        """Samples by name and labels."""
        text = self.http.get("/metrics", headers=OPENMETRICS).text
        families = list(text_string_to_metric_families(text))
        return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


@contextmanager
def journaled(home: Path, *arguments: str, **variables: str) -> Iterator[Journaled]:
    command = [sys.executable, "-m", "serving", "--model", "support_topics:1", "--free-port", *arguments]
    log = home.parent / f"log-{len(list(home.parent.iterdir()))}"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=environment(home) | variables
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        ready = json.loads(line)
        with httpx.Client(base_url=ready["http"], timeout=60, trust_env=False) as client:
            yield Journaled(process, client, ready["grpc"], log, ready["version"], ready["digest"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("journal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_ENV, str(folder / "home"))
        register_version(folder, 0)
        yield folder / "home"


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Journaled]:
    with collecting() as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with journaled(home, "--log-text", "full", "--log-flush-seconds", "0.2", **variables) as server:
            server.collector = collector
            yield server


def wait_for(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := true()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def found(store: ObjectStore, parsed: PredictionId) -> list[dict[str, Any]]:
    """What the store has of a prediction by now."""
    try:
        return find(store, ["support_topics"], parsed)
    except NotFound:
        return []


def id_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["prediction_id"])


def infer(server: Journaled, metadata: list[tuple[str, str]] = [], model: str = "support_topics") -> Any:  # noqa: B006
    texts = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    texts.contents.bytes_contents.append(SECRET.encode())
    request = pb.ModelInferRequest(model_name=model, inputs=[texts])
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        return call(request, metadata=metadata, timeout=60)


def test_a_request_is_one_line_of_json_without_its_texts(server: Journaled) -> None:
    id = id_of(server.predict())
    refused = server.http.post(V1, json={"instances": [SECRET, None]})
    assert refused.status_code == 400
    (line,) = wait_for(lambda: [line for line in server.lines() if line.get("prediction_id") == id])
    assert (line["event"], line["level"], line["protocol"], line["status"]) == ("request", "info", "v1", 200)
    assert (line["model"], line["version"], line["digest"]) == ("support_topics", server.version, server.digest)
    assert (line["variant"], line["texts"]) == ("torch-fp32", 2)
    assert line["seconds"] > 0
    (error,) = wait_for(lambda: [line for line in server.lines() if line.get("status") == 400])
    assert "instances[1]" in error["error"] and error["model"] == "support_topics"
    assert SECRET not in server.log.read_text()


def test_no_caller_writes_a_line_of_the_log(server: Journaled) -> None:
    forged = 'x\n{"event": "request", "status": 200, "model": "forged"}\r\n'
    assert server.http.post("/v1/models/x%0A%7B%22forged%22%3A1%7D:predict", json={}).status_code == 404
    with pytest.raises(grpc.RpcError) as refusal:
        infer(server, model=forged)
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND
    wait_for(lambda: sum(line.get("status") == 404 for line in server.lines()) >= 2)
    assert all(line.get("model") != "forged" and "forged" not in line for line in server.lines())


def test_metrics_count_by_version_status_and_protocol_and_no_caller_makes_a_series(server: Journaled) -> None:
    version = (("model", "support_topics"), ("variant", "torch-fp32"), ("version", server.version))

    def of(name: str, *labels: tuple[str, str]) -> float:
        return float(server.metrics().get((name, *sorted((*version, *labels))), 0))

    before = of("fairlead_requests_total", ("protocol", "v1"), ("status", "200"))
    texts, batches = of("fairlead_texts_total"), of("fairlead_compute_seconds_count")
    for _ in range(3):
        server.predict()
    infer(server)
    assert of("fairlead_requests_total", ("protocol", "v1"), ("status", "200")) == before + 3
    assert of("fairlead_requests_total", ("protocol", "grpc"), ("status", "200")) >= 1
    assert of("fairlead_request_seconds_bucket", ("protocol", "v1"), ("status", "200"), ("le", "+Inf")) == before + 3
    assert of("fairlead_texts_total") == texts + 7
    assert of("fairlead_compute_seconds_count") > batches
    assert of("fairlead_batch_tokens_sum") > 0 and of("fairlead_tokenize_seconds_total") > 0
    assert of("fairlead_capacity_tokens_per_second") > of("fairlead_capacity_texts_per_second") > 0
    assert of("fairlead_model_state", ("state", "ready")) == 1 and of("fairlead_queue_tokens") == 0
    series = len(server.metrics())
    for number in range(20):
        assert server.http.post(f"/v2/models/guess-{number}/infer", json={}).status_code == 404
    unknown = ("fairlead_requests_total", ("model", ""), ("protocol", "v2"), ("status", "404"))
    after = server.metrics()
    assert after[(*unknown, ("variant", ""), ("version", ""))] >= 20
    # The first of them made those of status 404.
    assert len(after) < series + 30 and not any("guess" in str(key) for key in after)
    assert after[("fairlead_requests_in_flight", ("protocol", "v1"))] == 0
    assert after[("fairlead_machine_load_ratio",)] >= 0 and after[("fairlead_event_loop_late_seconds_count",)] > 0


def test_the_page_lists_the_metrics_that_there_are(server: Journaled) -> None:
    text = server.http.get("/metrics", headers=OPENMETRICS).text
    exported = {family.name for family in text_string_to_metric_families(text) if family.name.startswith("fairlead_")}
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(fairlead_[a-z_]+)`", page, re.MULTILINE))
    assert listed == exported
    plain = server.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain") and "# EOF" not in plain.text


def test_a_prediction_is_known_at_once_and_found_in_the_store_later(server: Journaled, home: Path) -> None:
    id = id_of(server.predict())
    events = server.http.get(f"/v2/predictions/{id}").json()["events"]
    assert [event["data"]["text"] for event in events] == TEXTS
    assert {event["data"]["digest"] for event in events} == {server.digest}
    store = open_store(places.store_url())
    parsed = PredictionId.parse(id)
    assert wait_for(lambda: found(store, parsed)) == events
    unknown = server.http.get(f"/v2/predictions/{IdSource().next()}")
    assert unknown.status_code == 404 and "no record" in unknown.json()["error"]
    assert server.http.get("/v2/predictions/mine").status_code == 400


def test_an_answer_over_http_is_traced_and_replayed(server: Journaled, capsys: pytest.CaptureFixture[str]) -> None:
    id, url = id_of(server.predict()), str(server.http.base_url)
    assert main(["trace", id, "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"]["digest"] == server.digest
    assert main(["replay", id, "--url", url]) == 0


def feedback(server: Journaled, **body: object) -> httpx.Response:
    return server.http.post("/v2/feedback", json=body)


def test_a_true_label_is_kept_with_what_was_predicted(server: Journaled) -> None:
    response = server.predict()
    id, predicted = id_of(response), response.json()["predictions"][1]
    first = feedback(server, prediction_id=id, label="billing", index=1)
    assert (first.status_code, first.json()["status"]) == (200, "stored")
    assert feedback(server, prediction_id=id, label="billing", index=1).json()["status"] == "unchanged"
    assert feedback(server, prediction_id=id, label="a new class", index=1).json()["status"] == "replaced"
    with open_registry() as registry:
        (kept,) = registry.get_feedback(id)
    assert (kept.label, kept.project, kept.number, kept.answer) == ("a new class", "support_topics", 1, predicted)


OLD = "018caf9e-e3ff-7abc-8000-000000000000"


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"label": "x"}, 400, "prediction_id"),
        ({"prediction_id": "mine", "label": "x"}, 400, "prediction_id"),
        ({"prediction_id": OLD, "label": "x"}, 404, "no record"),
        ({"prediction_id": "{id}"}, 400, "label"),
        ({"prediction_id": "{id}", "label": None}, 400, "label"),
        ({"prediction_id": "{id}", "label": True}, 400, "label"),
        ({"prediction_id": "{id}", "label": 3, "index": 0}, 400, "a class"),
        ({"prediction_id": "{id}", "label": ["x"], "index": 0}, 400, "a class"),
        ({"prediction_id": "{id}", "label": [1]}, 400, "label"),
        ({"prediction_id": "{id}", "label": "x" * 20_000}, 400, "label"),
        ({"prediction_id": "{id}", "label": "x"}, 400, "index"),
        ({"prediction_id": "{id}", "label": "x", "index": 2}, 400, "index"),
        ({"prediction_id": "{id}", "label": "x", "index": -1}, 400, "index"),
        ({"prediction_id": "{id}", "label": "x", "index": "0"}, 400, "index"),
        ({"prediction_id": "{id}", "label": "x", "lable": "y"}, 400, "lable"),
    ],
)
def test_wrong_feedback_is_refused_by_name(server: Journaled, body: dict[str, object], status: int, word: str) -> None:
    id = id_of(server.predict())
    response = feedback(server, **{name: id if value == "{id}" else value for name, value in body.items()})
    assert (response.status_code, word in response.json()["error"]) == (status, True), response.text


def test_feedback_for_a_prediction_that_is_not_written_yet_waits(server: Journaled) -> None:
    early = IdSource().next()
    response = feedback(server, prediction_id=early, label="billing")
    assert (response.status_code, response.json()["status"]) == (202, "waiting")
    with open_registry() as registry:
        assert [kept.prediction_id for kept in registry.list_feedback(None)] == [early]


def test_spans_have_the_callers_trace_and_the_engines_parts(server: Journaled) -> None:
    assert server.collector is not None
    callers = {"v1": "0af7651916cd43dd8448eb211c80319c", "grpc": "1bf7651916cd43dd8448eb211c80319c"}
    parent = "b7ad6b7169203331"
    id = id_of(server.predict(headers={"traceparent": f"00-{callers['v1']}-{parent}-01"}))
    infer(server, [("traceparent", f"00-{callers['grpc']}-{parent}-01")])
    for protocol, trace_id in callers.items():
        spans = wait_for(lambda trace_id=trace_id: server.collector.of(trace_id) or None)  # type: ignore[union-attr]
        assert set(spans) == {"infer", "tokenize", "queue", "compute"}
        request = spans.pop("infer")
        assert request.parent_span_id.hex() == parent
        attributes = {pair.key: pair.value.string_value for pair in request.attributes}
        assert attributes["fairlead.version"] == server.version and attributes["fairlead.digest"] == server.digest
        assert attributes["fairlead.protocol"] == protocol
        assert protocol != "v1" or attributes["fairlead.prediction_id"] == id
        for span in spans.values():
            assert span.parent_span_id == request.span_id
            assert request.start_time_unix_nano <= span.start_time_unix_nano
            assert span.start_time_unix_nano <= span.end_time_unix_nano <= request.end_time_unix_nano
    assert server.collector.services == {"fairlead"}


def test_what_waits_is_written_when_the_server_ends_and_hashes_stand_for_texts(home: Path) -> None:
    arguments = ("--log-text", "hash", "--log-flush-seconds", "3600", "--log-format", "plain")
    with journaled(home, *arguments) as server:
        id = id_of(server.predict())
        known = server.http.get(f"/v2/predictions/{id}").json()["events"]
        store, parsed = open_store(places.store_url()), PredictionId.parse(id)
        assert not list(store.list(f"predictions/support_topics/{parsed.hour}/{parsed.server}"))
        assert server.metrics()[("fairlead_prediction_log_pending",)] == 2
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    events = find(store, ["support_topics"], parsed)
    assert events == known
    assert [event["data"]["text_sha256"] for event in events] == [of_bytes(text.encode()) for text in TEXTS]
    assert "text" not in events[0]["data"]
    log = server.log.read_text()
    assert f"prediction_id={id}" in log and SECRET not in log


WORKER = """
import sys
from serving import metrics
metrics.REQUESTS.labels("m", "m_v1", "torch-fp32", "v2", 200).inc(int(sys.argv[1]))
metrics.IN_FLIGHT.labels("v2").inc(int(sys.argv[1]))
metrics.set_state("m", "m_v1", "torch-fp32", "ready")
print("done", flush=True)
sys.stdin.read()
"""
SCRAPE = """
import sys
from serving import metrics
metrics.worker_ended(int(sys.argv[1]))
sys.stdout.buffer.write(metrics.exposed("application/openmetrics-text; version=1.0.0")[0])
"""


def test_the_metrics_of_several_workers_are_added_up(tmp_path: Path) -> None:
    variables = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT, "env": variables}
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(n)], **pipes) for n in (2, 3)]  # type: ignore[call-overload]
    for worker in workers:
        assert worker.stdout.readline() == "done\n"
    workers[0].kill()
    workers[0].wait()
    command = [sys.executable, "-c", SCRAPE, str(workers[0].pid)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=variables).stdout
    found = {f.name: [s.value for s in f.samples if s.value] for f in text_string_to_metric_families(text)}
    assert found["fairlead_requests"] == [5], "what a worker that died had counted stays"
    assert found["fairlead_requests_in_flight"] == [3] and found["fairlead_model_state"] == [1]
    assert "fairlead_machine_load_ratio" in found
    for worker in workers:
        worker.communicate()
