"""What is in the images, and what is not."""

import json
import re
import subprocess
from collections.abc import Mapping

import pytest

from components.images import LIGHT_IMAGE, TORCH_IMAGE
from fairlead import __version__
from tests.containers.conftest import SERVING_IMAGE
from tests.containers.isolation import Image

pytestmark = pytest.mark.containers

ALL = (LIGHT_IMAGE, TORCH_IMAGE, SERVING_IMAGE)
# Uncompressed, of an image for CPU; with CUDA torch alone has more.
LIMIT_BYTES = {LIGHT_IMAGE: 1.0e9, TORCH_IMAGE: 2.0e9, SERVING_IMAGE: 1.5e9}
SECRETS = re.compile(r"PIP_|://[^/\s]*@|PASSWORD|SECRET|TOKEN|ACCESS_KEY", re.IGNORECASE)
"""Of a build: where packages come from, perhaps with a password."""


def described(name: str) -> dict[str, object]:
    done = subprocess.run(["buildah", "inspect", "--type", "image", name], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", ALL)
def test_labels_say_which_code_it_is(images: Mapping[str, Image], name: str) -> None:
    labels = images[name].config["Labels"]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["org.opencontainers.image.revision"])
    assert images[name].environment["FAIRLEAD_REVISION"] == labels["org.opencontainers.image.revision"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.parametrize("name", ALL)
def test_the_user_is_a_number_and_not_root(images: Mapping[str, Image], name: str) -> None:
    user, group = images[name].config["User"].split(":")
    assert int(user) > 0 and int(group) > 0


@pytest.mark.parametrize("name", ALL)
def test_nothing_of_the_build_is_left_in_the_history(images: Mapping[str, Image], name: str) -> None:
    told = described(name)
    history = json.dumps([told["OCIv1"]["history"], told["OCIv1"]["config"]])  # type: ignore[index]
    assert "COPY" in history
    assert not SECRETS.findall(history)
    assert "Healthcheck" not in history, "probes belong to the manifests"


@pytest.mark.parametrize("name", ALL)
def test_it_is_small(images: Mapping[str, Image], name: str) -> None:
    files = [path.lstat() for path in images[name].rootfs.rglob("*")]
    assert sum(file.st_size for file in files) < LIMIT_BYTES[name]
