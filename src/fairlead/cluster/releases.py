"""What an environment serves, as its overlay says it: release.yaml, and the canary beside it.

    manifests/overlays/<environment>/models/<name>/
        release.yaml          one line, storageUri, is the version; canaryUri is the canary's
        kustomization.yaml    has the component canary-standard while there is a canary

Files are changed line by line: comments and order stay, and the diff of a promotion is one line.
"""

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from fairlead.errors import ConfigError, Conflict
from fairlead.names import kubernetes_name, version_name

OVERLAYS = PurePosixPath("manifests/overlays")
RELEASE, KUSTOMIZATION = "release.yaml", "kustomization.yaml"
ADDRESS = re.compile(r"(?P<root>s3://\S*?/models)/(?P<project>[a-z0-9_]+)/v(?P<number>[0-9]{4,})/")
COMPONENT = "  - ../../../../components/canary-standard\n"
COMPONENTS = "components:\n"
# The component's own share; any other is a patch of the overlay.
DEFAULT_PERCENT = 10
WEIGHT = """\
patches:
  - target: {{kind: InferenceService}}
    patch: |
      - {{op: replace, path: /spec/canary/0/trafficPercent, value: {percent}}}
"""
WEIGHT_PATTERN = re.compile(re.escape(WEIGHT.format(percent=0)).replace(r"\ 0\}", r"\ [0-9]+\}"))


def version_at(uri: str) -> str | None:
    """The version whose address this is, with or without its last slash; None for one that is not of our form."""
    match = ADDRESS.fullmatch(uri if uri.endswith("/") else f"{uri}/")
    return version_name(match["project"], int(match["number"])) if match else None


@dataclass(frozen=True)
class Release:
    """The two files of a model in an environment."""

    project: str
    release: str
    """Text of release.yaml."""
    kustomization: str
    """Text of kustomization.yaml."""

    @property
    def number(self) -> int:
        """The version that is served."""
        return self._number("storageUri")

    @property
    def canary(self) -> int | None:
        """The version that gets a part of the traffic; None without one."""
        return self._number("canaryUri") if COMPONENT in self.kustomization else None

    def promoted(self, number: int) -> "Release":
        """With `number` served, and without a canary."""
        return replace(self._with("storageUri", number), kustomization=self._without_canary())

    def with_canary(self, number: int, percent: int) -> "Release":
        """With `percent` of the traffic, 1 to 99, for `number`."""
        if not 1 <= percent <= 99:
            raise ConfigError(f"--canary: {percent} is not a part of the traffic; give 1 to 99 percent")
        if number == self.number:
            raise Conflict(f"{self.project}_v{number}: it has all of the traffic already; promote another version")
        plain = self._without_canary()
        if COMPONENTS not in plain:
            raise Conflict(f"{KUSTOMIZATION}: it has no components; add components/release, as in the other overlays")
        text = plain.replace(COMPONENTS, COMPONENTS + COMPONENT, 1)
        return replace(self._with("canaryUri", number), kustomization=text + _weight(percent))

    def _number(self, key: str) -> int:
        return int(self._match(key)["number"])

    def _match(self, key: str) -> re.Match[str]:
        lines = re.findall(rf"^  {key}: (.*)$", self.release, re.MULTILINE)
        match = ADDRESS.fullmatch(lines[0].strip()) if len(lines) == 1 else None
        if match is None or match["project"] != self.project:
            raise Conflict(
                f"{RELEASE}: {key} does not name a version of {self.project} once; "
                f"write {key}: s3://<bucket>/models/{self.project}/v0001/"
            )
        return match

    def _with(self, key: str, number: int) -> "Release":
        match = self._match(key)
        line = f"  {key}: {match['root']}/{self.project}/v{number:04d}/"
        return replace(self, release=re.sub(rf"^  {key}: .*$", line, self.release, flags=re.MULTILINE))

    def _without_canary(self) -> str:
        return WEIGHT_PATTERN.sub("", self.kustomization.replace(COMPONENT, ""))


def folder_of(environment: str, project: str) -> PurePosixPath:
    """The overlay's folder, relative to the repository."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", environment):
        raise ConfigError(f"--to: {environment!r} is not an environment; name a folder of {OVERLAYS}")
    return OVERLAYS / environment / "models" / kubernetes_name(project)


def _weight(percent: int) -> str:
    return "" if percent == DEFAULT_PERCENT else WEIGHT.format(percent=percent)
