"""optimize: from a judged model to its variants, the precision table and calibrated probabilities."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components.images import TORCH_IMAGE


@dsl.component(base_image=TORCH_IMAGE, install_kfp_package=False)
def optimize(
    project: str,
    tokens: Input[Dataset],
    model: Input[Model],
    config: dict,  # type: ignore[type-arg]
    output: Output[Artifact],
    html: Output[HTML],
):
    """Measure the model's variants and pick the one to serve."""
    from fairlead.optimization.stage import optimize_stage

    optimize_stage(project, tokens.path, model.path, config, output.path, html.path)
