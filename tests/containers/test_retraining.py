"""The scheduled retraining in its container: it submits the pipeline with the data as it is now, and follows it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from components.images import LIGHT_IMAGE, USER_ID
from tests.cluster.kfp_server import Server, look, serving, task
from tests.containers.isolation import Image, empty_folder, run
from tests.containers.network import Network, listening, put
from tests.containers.pods import from_pod, manifest

pytestmark = pytest.mark.containers

CONFIG = "project: bank_topics\ndata: {source: SOURCE, label: category}\n"


def test_it_submits_the_pipeline_and_follows_it(
    images: Mapping[str, Image], network: Network, values: Mapping[str, str], tmp_path: Path
) -> None:
    rows = tmp_path / "new.csv"
    rows.write_text("text,category\nwhere is my card,arrival\n")
    project = empty_folder(tmp_path / "project")
    (project / "fairlead.yaml").write_text(CONFIG.replace("SOURCE", put(network, rows, "raw/new.csv")))
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost ml-pipeline.kubeflow.svc\n")
    pod = manifest("retraining/schedule.yaml", "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    spec = pod["containers"][0]
    mounts = [mount for mount in spec["volumeMounts"] if not mount.get("readOnly")]
    # `envFrom` gives all that the ConfigMap and the Secret hold; the registry is not asked.
    env = [{"name": name, "value": value} for name, value in values.items() if name != "FAIRLEAD_REGISTRY"]
    readable = {"/project": project, "/etc/hosts": hosts}
    granted = {"network": network.path, "readable": readable}
    container = from_pod(
        images[LIGHT_IMAGE], {**spec, "volumeMounts": mounts, "env": env}, USER_ID, {}, tmp_path, **granted
    )
    answers = [look("RUNNING", task("ingest", "RUNNING")), look("SUCCEEDED", task("ingest", "SUCCEEDED", seconds=9))]
    with serving(Server(answers), listening(network, 8888)) as server:
        done = run(container, tmp_path)
    assert done.returncode == 0, done.stdout
    (submitted,) = server.submitted
    parameters = submitted["runtime_config"]["parameters"]
    assert parameters["data"]["source"].endswith("/raw/new.csv")
    assert parameters["source_digest"].startswith("sha256:")
