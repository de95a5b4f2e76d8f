"""ingest: from a source of labelled text to a data version."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from components.images import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def ingest(
    config: dict,  # type: ignore[type-arg]
    incremental: dict,  # type: ignore[type-arg]
    source_digest: str,
    output: Output[Dataset],
):
    """Read, clean, split and name a data version. `source_digest` names the content, for the cache."""
    from fairlead.data.ingest import ingest_stage

    ingest_stage(config, source_digest, output.path, incremental)
