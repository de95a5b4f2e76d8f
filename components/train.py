"""train: from token files to a trained model."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.images import TORCH_IMAGE


@dsl.component(base_image=TORCH_IMAGE, install_kfp_package=False)
def train(
    project: str,
    data: Input[Dataset],
    tokens: Input[Dataset],
    model: dict,  # type: ignore[type-arg]
    training: dict,  # type: ignore[type-arg]
    output: Output[Model],
):
    """Train a model, one process a device, on as many machines as its settings say."""
    from fairlead.cluster.training import on_cluster
    from fairlead.training.run import train_stage

    train_stage(project, data.path, tokens.path, model, training, output.path, elsewhere=on_cluster)
