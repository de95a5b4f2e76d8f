"""A repository with the manifests and the model of a run: what `fairlead promote` changes, and GitOps renders."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from manifests.validation import building

MANIFESTS = Path(__file__).parent.parent.parent / "manifests"
RELEASE = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: release
  annotations: {{config.kubernetes.io/local-config: "true"}}
data:
  name: {name}
  project: {project}
  storageUri: {root}/{project}/v0001/
  canaryUri: {root}/{project}/v0001/
"""


class Releases:
    """A git repository beside nobody's."""

    def __init__(self, folder: Path, name: str, project: str, root: str) -> None:
        self.folder, self._model = folder, Path("manifests/overlays/dev/models") / name
        for part in ("base", "components", "overlays/dev/models/library-docs"):
            shutil.copytree(MANIFESTS / part, folder / "manifests" / part)
        (folder / "manifests/overlays/dev/models/library-docs").rename(folder / self._model)
        (folder / self._model / "release.yaml").write_text(RELEASE.format(name=name, project=project, root=root))
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "cluster test")
        self.git("config", "user.email", "cluster-test@example.test")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Begin")

    def merge(self, branch: str) -> str:
        """Merge what was proposed; returns the lines that it changes."""
        self.git("merge", "--quiet", "--ff-only", branch)
        return self.git("diff", "--unified=0", "HEAD~1", "HEAD")

    def rendered(self) -> list[Any]:
        """What an Argo CD that follows the branch would apply."""
        return building.kustomize(self.folder / self._model)

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
