"""gate: from an evaluation to a verdict; the step fails when the model is not good enough."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components.images import LIGHT_IMAGE


@dsl.component(base_image=LIGHT_IMAGE, install_kfp_package=False)
def gate(evaluation: Input[Artifact], config: dict, output: Output[Artifact]):  # type: ignore[type-arg]
    """Hold the scores against the floors and against the champion. A step of its own, so that a
    refused model's report still reaches the dashboard."""
    from fairlead.evaluation.gates import gate_stage

    gate_stage(evaluation.path, config, output.path)
