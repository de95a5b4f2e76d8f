"""What a model folder must hold before anything in it is loaded; needs neither torch nor transformers."""

from pathlib import Path

from fairlead.errors import ConfigError, NotFound


def check_layout(folder: Path) -> None:
    """Check that `folder` holds a model in the Hugging Face layout with safetensors weights.

    Raises NotFound when it holds no model, ConfigError when its weights are only there as pickle.
    """
    if not (folder / "config.json").is_file():
        raise NotFound(f"{folder}: it holds no model (no config.json); name a folder in the Hugging Face layout")
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern))
    if pickles:
        raise ConfigError(
            f"{folder}: its weights are pickled ({pickles[0]}), which can run code; "
            "use a model with model.safetensors, or convert it once in a place you trust"
        )
    raise NotFound(f"{folder}: it holds no weights (no *.safetensors); download the model again")
