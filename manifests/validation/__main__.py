"""Validate manifests: `python -m manifests.validation <manifests> <crds>`; see validate.sh. Exits 1 on any fault."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from manifests.validation import building, canonical, hygiene, pipelines, schemas, security
from manifests.validation.building import Build

PIPELINE = "base/pipelines/training.yaml"


def main(manifests: Path, crds: Path) -> int:
    """Print a line a kustomization, the faults under it, and a tally; 1 when anything is wrong."""
    stale = not pipelines.is_up_to_date(manifests / PIPELINE)
    if stale:
        print(f"STALE    {PIPELINE}: it differs from what compiles now; run make manifests")
    for reason in _missing(crds):
        print(f"SKIPPED  {reason}")
        return int(stale or "CI" in os.environ)
    tally = Tally(crds)
    for build in building.builds(manifests):
        tally.judge(build)
    print(tally.sentence())
    return int(stale or not tally.is_clean)


def _missing(crds: Path) -> Iterator[str]:
    if not crds.is_dir():
        yield f"the CRD schemas are not at {crds}; set FAIRLEAD_CRDS to validate the objects"
    if not building.is_here():
        yield "neither kustomize nor kubectl is here; install one to build the kustomizations"


class Tally:
    """How many were built and judged, and how many of them are wrong."""

    def __init__(self, crds: Path) -> None:
        self._crds = crds
        # Most objects are the same in many combinations.
        self._judged: dict[str, list[str]] = {}
        self.builds = self.broken = self.objects = self.invalid = 0

    def judge(self, build: Build) -> None:
        """Build one, and print what is wrong with it."""
        self.builds += 1
        try:
            found = build.objects()
        except (ValueError, OSError, yaml.YAMLError) as error:
            self.broken += 1
            print(f"BROKEN   {build.name}: {' '.join(str(error).split())}")
            return
        wrong = [(describe(one), faults) for one in found if (faults := self._faults_of(one, build))]
        self.objects += len(found)
        self.invalid += len(wrong)
        print(f"{'INVALID' if wrong else 'valid':8} {build.name}: {len(found)} objects")
        for name, faults in wrong:
            print("".join(f"           {name} {' '.join(fault.split())}\n" for fault in faults), end="")

    def _faults_of(self, found: Any, build: Build) -> list[str]:
        key = json.dumps([found, build.is_production, build.is_whole], sort_keys=True, default=str)
        if key not in self._judged:
            self._judged[key] = list(faults_of(found, self._crds, build.is_production, build.is_whole))
        return self._judged[key]

    @property
    def is_clean(self) -> bool:
        """Whether something was judged, and nothing is wrong."""
        return self.objects > 0 and not self.broken and not self.invalid

    def sentence(self) -> str:
        """The last line."""
        return (
            f"{self.builds} kustomizations and combinations, {self.broken} broken; "
            f"{self.objects} objects, {len(self._judged)} of them different, {self.invalid} invalid"
        )


def faults_of(found: Any, crds: Path, is_production: bool = False, is_whole: bool = False) -> Iterator[str]:
    """Everything that is wrong with an object; `is_whole` says that it is meant to be applied as it is."""
    wrong = list(schemas.faults(found, crds))
    yield from wrong
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        return
    yield from pipelines.faults(found)
    # An object of another shape than its schema's would only raise in what reads it.
    if not wrong:
        yield from security.faults(found)
        yield from hygiene.faults(found, is_production)
        yield from canonical.faults(found)
        yield from placement_faults(found, crds, is_whole)


def placement_faults(found: dict[str, Any], crds: Path, is_whole: bool) -> Iterator[str]:
    """A namespace where there must be none, or none where there must be one."""
    cluster_wide = schemas.is_cluster_wide(crds, found["apiVersion"], found["kind"])
    namespace = found["metadata"].get("namespace")
    if cluster_wide and namespace:
        yield "$.metadata.namespace: the kind stands in no namespace; leave it out"
    if is_whole and not cluster_wide and not namespace:
        yield "$.metadata.namespace: it would land wherever the caller's context points; name one"


def describe(found: Any) -> str:
    """The object's kind and name, as far as it has them."""
    if not isinstance(found, dict):
        return repr(found)[:60]
    metadata = found.get("metadata")
    return f"{found.get('kind')}/{metadata.get('name') if isinstance(metadata, dict) else None}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), Path(sys.argv[2])))
