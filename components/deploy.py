"""deploy: from a registered version to an endpoint that serves it, or to a proposal that one does."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components.images import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def deploy(version: Input[Artifact], mode: str, config: dict, output: Output[Artifact]):  # type: ignore[type-arg]
    """Serve the version, and go back when it does not answer; or propose it to git."""
    from fairlead.cluster.deploying import deploy_stage

    deploy_stage(version.path, mode, config, output.path)
