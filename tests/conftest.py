"""What every test may use: a home folder of its own, the data sets, and the markers that skip with a reason."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = {
        "slow": None if config.getoption("--slow") else "takes minutes: run with --slow",
        "gpu": None if shutil.which("nvidia-smi") else "no NVIDIA GPU here",
        "cluster": None if os.environ.get("KUBECONFIG") else "no KUBECONFIG in the environment",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own FAIRLEAD_HOME, so that none sees another's store or registry."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FAIRLEAD_HOME", str(folder))
    for name in ("FAIRLEAD_STORE", "FAIRLEAD_REGISTRY", "FAIRLEAD_EVENTS"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def datasets() -> Path:
    """Folder of the real data sets (FAIRLEAD_DATASETS, by default `shared/datasets` beside the checkout)."""
    folder = Path(os.environ.get("FAIRLEAD_DATASETS") or ROOT.parent / "shared" / "datasets")
    if not folder.is_dir():
        pytest.skip("the data sets are not here: set FAIRLEAD_DATASETS")
    return folder


@pytest.fixture(scope="session")
def crds() -> Path:
    """Folder of the CRD schemas (FAIRLEAD_CRDS, by default `shared/crds` beside the checkout)."""
    folder = Path(os.environ.get("FAIRLEAD_CRDS") or ROOT.parent / "shared" / "crds")
    if not folder.is_dir():
        pytest.skip("the CRD schemas are not here: set FAIRLEAD_CRDS")
    return folder
