"""register: from a trained, judged model to a version in the registry."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.images import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def register(
    project: str,
    data: Input[Dataset],
    tokens: Input[Dataset],
    model: Input[Model],
    evaluation: Input[Artifact],
    verdict: Input[Artifact],
    optimization: Input[Artifact],
    output: Output[Artifact],
):
    """Publish the version and its provenance; the same model is registered once."""
    from fairlead.registry.registration import register_stage

    register_stage(
        *(project, data.path, tokens.path, model.path, evaluation.path, verdict.path),
        *(output.path, optimization.path),
    )
