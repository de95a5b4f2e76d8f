"""tokenize: from a data version to token files."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.images import TORCH_IMAGE


@dsl.component(base_image=TORCH_IMAGE, install_kfp_package=False)
def tokenize(data: Input[Dataset], config: dict, base: str, base_digest: str, output: Output[Dataset]):  # type: ignore[type-arg]
    """Train or take a tokenizer and write token ids. `base_digest` names the base's content, for the cache."""
    from fairlead.data.tokenization import tokenize_stage

    tokenize_stage(data.path, config, base, output.path)
