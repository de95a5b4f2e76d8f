"""What kustomize makes of the folders: every kustomization, and every combination of components for overlays."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from manifests.validation.schemas import LOADER

COMBINATIONS = "combinations.yaml"
PRODUCTION = "prod"


@dataclass(frozen=True)
class Build:
    """A kustomization, or one with components added to it."""

    name: str
    folder: Path
    is_production: bool
    components: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it is applied as it is; bases are made whole by overlays."""
        return not self.name.startswith("base/")

    def objects(self) -> list[Any]:
        """What kustomize prints. Raises ValueError with its last line."""
        if not self.components:
            return kustomize(self.folder)
        # Beside the folders, since a kustomization may name others by relative path only.
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".combination-") as combined:
            root = self._root
            kustomization = {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [os.path.relpath(self.folder, combined)],
                "components": [os.path.relpath(root / "components" / name, combined) for name in self.components],
            }
            (Path(combined) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), "utf-8")
            return kustomize(Path(combined))

    @cached_property
    def _root(self) -> Path:
        return next(parent for parent in self.folder.parents if (parent / COMBINATIONS).is_file())


def is_here() -> bool:
    """Whether there is something that builds kustomizations."""
    return bool(shutil.which("kustomize") or shutil.which("kubectl"))


def kustomize(folder: Path) -> list[Any]:
    """The objects of a kustomization. Raises ValueError with the last line of what kustomize says."""
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(lines[-1])
    return [found for found in yaml.load_all(done.stdout, Loader=LOADER) if found is not None]


def builds(manifests: Path) -> Iterator[Build]:
    """Every kustomization, then every allowed combination of components."""
    for file in sorted(manifests.rglob("kustomization.yaml")):
        content = yaml.safe_load(file.read_text("utf-8"))
        if content.get("kind") != "Component":
            yield _build(manifests, file.parent)
    if (manifests / COMBINATIONS).is_file():
        for entry in yaml.safe_load((manifests / COMBINATIONS).read_text("utf-8")):
            for base in entry["of"]:
                for chosen in combinations(entry["choices"], entry.get("never", [])):
                    yield _build(manifests, manifests / base, chosen)


def combinations(choices: list[list[str]], never: list[list[str]]) -> Iterator[tuple[str, ...]]:
    """At most one of each choice, but for the empty selection and those that hold a `never` pair."""
    for picked in itertools.product(*([None, *choice] for choice in choices)):
        chosen = tuple(name for name in picked if name)
        if chosen and not any(set(pair) <= set(chosen) for pair in never):
            yield chosen


def _build(manifests: Path, folder: Path, components: tuple[str, ...] = ()) -> Build:
    relative = folder.relative_to(manifests).as_posix()
    name = " + ".join([relative, *components])
    return Build(name, folder, PRODUCTION in Path(relative).parts, components)
