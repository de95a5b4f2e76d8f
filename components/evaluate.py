"""evaluate: from a trained model to its scores and report."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from components.images import TORCH_IMAGE


@dsl.component(base_image=TORCH_IMAGE, install_kfp_package=False)
def evaluate(
    project: str,
    data: Input[Dataset],
    tokens: Input[Dataset],
    model: Input[Model],
    config: dict,  # type: ignore[type-arg]
    output: Output[Artifact],
    html: Output[HTML],
    metrics: Output[Metrics],
    classification: Output[ClassificationMetrics],
):
    """Score the model on the test split and on every further data set, for people and for the gate."""
    from fairlead.evaluation.evaluate import evaluate_stage

    evaluate_stage(project, data.path, tokens.path, model.path, config, output.path, html.path, metrics, classification)
