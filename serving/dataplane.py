"""KServe's data plane and model repository for one fixed version, with callers' mistakes named as such."""

from typing import Any

from kserve import ModelRepository
from kserve.errors import InvalidInput, ModelNotFound
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

import fairlead
from fairlead.names import CLASSIFICATION, MULTI_LABEL, REGRESSION, TaskName
from serving.model import ServedModel

PLATFORMS: dict[TaskName, str] = {
    CLASSIFICATION: "fairlead_text_classification",
    MULTI_LABEL: "fairlead_text_multi_label_classification",
    REGRESSION: "fairlead_text_regression",
}


class UnknownVersion(ModelNotFound):  # type: ignore[misc]
    """The model is served, but not in the version asked for."""

    def __init__(self, model: ServedModel, version: str) -> None:
        self.reason = (
            f"version: {model.name} is not served in version {version!r} but in {model.manifest.name!r}; ask for that"
        )


class VersionDataPlane(DataPlane):  # type: ignore[misc]
    """What the REST and gRPC routes call."""

    def __init__(self, model: ServedModel) -> None:
        models = ModelRepository()
        models.update(model)
        super().__init__(models)
        self.draining = False

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """Decode a body. It is a function of the caller's bytes alone, so any failure is the caller's mistake."""
        try:
            return super().decode(*args, **kwargs)
        except Exception as error:
            reason = str(error) if isinstance(error, InvalidInput) else f"{type(error).__name__}: {error}"
            raise InvalidInput(f"body: it cannot be read ({reason[:200]}); see the Open Inference Protocol") from error

    def metadata(self) -> dict[str, Any]:
        """Name and version of the server."""
        return {"name": "fairlead", "version": fairlead.__version__, "extensions": ["binary_tensor_data"]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Inputs, outputs and version of a model."""
        model = self.get_model_from_registry(model_name)
        known: dict[str, Any] = await super().model_metadata(model_name)
        platform = PLATFORMS[model.manifest.training.task]
        return known | {"platform": platform, "versions": [model.manifest.name]}

    async def ready(self) -> bool:
        """Whether new requests are welcome."""
        return not self.draining

    def check_version(self, model_name: str, version: str) -> None:
        """Refuse a version other than the one served; an empty one means any."""
        model = self.get_model_from_registry(model_name)
        if version and not model.serves(version):
            raise UnknownVersion(model, version)


class FixedRepository(ModelRepositoryExtension):  # type: ignore[misc]
    """The repository routes: a server holds the version that it was started with."""

    async def load(self, model_name: str) -> None:
        """Do nothing for the model that is served; there is no other."""
        if self._model_registry.get_model(model_name) is None:
            raise ModelNotFound(model_name)

    async def unload(self, model_name: str) -> None:
        """Refuse."""
        await self.load(model_name)
        raise InvalidInput(f"unload: this server serves {model_name} until it ends; stop the server instead")
