"""Training that continues a registered version: what must hold before it starts."""

from fairlead.errors import Conflict
from fairlead.formats.dataset import Lineage
from fairlead.names import ModelRef
from fairlead.registry.fetching import Base


def check_parent(project: str, lineage: Lineage, base: Base | None, labels: list[str]) -> None:
    """Raise Conflict unless the model starts from the very version that its data continues, with its classes first."""
    owner = ModelRef.parse(lineage.parent).project
    if owner != project:
        raise Conflict(
            f"incremental.parent: {lineage.parent} is a version of {owner}, not of {project}; continue one of its own"
        )
    if base is None or base.digest != lineage.parent_digest:
        started = base.version or base.digest if base else "no base"
        raise Conflict(
            f"train: the data continues {lineage.parent} ({lineage.parent_digest}) and the model starts from "
            f"{started}; run ingest again"
        )
    if labels[: len(lineage.labels)] != lineage.labels:
        raise Conflict(f"train: the classes do not begin with those of {lineage.parent}; run tokenize again")
