"""From what names a version to a served one: fetched, verified, loaded, measured."""

from collections.abc import Callable
from pathlib import Path

from fairlead import machine
from fairlead.errors import InferenceError
from fairlead.formats.model import ModelManifest, read_manifest
from fairlead.inference.capacity import Capacity
from fairlead.inference.config import ServingConfig
from fairlead.inference.engine import Engine
from fairlead.inference.generation import Writer
from fairlead.inference.observing import Observer
from fairlead.inference.served import Served
from fairlead.inference.workers import Workers
from fairlead.inference.writing import ServedWriter
from fairlead.registry.fetching import fetch_version

# While they are loaded, weights are in memory as the file and as the model.
MEMORY_OF_WEIGHTS = 2.0
CONFIG = "config.json"

# What decides how fast a version is: its variant, its architecture and the length of its texts. Not its weights.
SpeedKey = tuple[str, str, int]


# What a name on the endpoint stands for.
Model = Served | ServedWriter


class Loader:
    """Loads versions for one server and remembers how fast each kind is."""

    def __init__(self, config: ServingConfig, workers: Workers, observer: Observer) -> None:
        self._config, self._workers, self._observer = config, workers, observer
        self._known: dict[SpeedKey, Capacity] = {}

    def load(self, name: str, source: str | Path, variant: str | None, loaded: Callable[[str], Model | None]) -> Model:
        """The version in a folder, or that a reference (`support_topics@champion`) names.

        `loaded` gives what is served already with some digest, which is taken then. Raises NotFound, IntegrityError
        and ConfigError as `fetch_version` and `Engine.load`, InferenceError when it does not fit into memory.
        """
        folder = source if isinstance(source, Path) else fetch_version(source)
        manifest = read_manifest(folder)
        known = loaded(manifest.digest)
        if known is not None and variant in (None, known.variant):
            return known
        _check_memory(manifest)
        if manifest.training.writes_text:
            return ServedWriter(name, Writer.load(folder), self._config, self._workers, self._observer)
        engine = Engine.load(folder, variant)
        key = (engine.variant, manifest.files[CONFIG].sha256, manifest.training.max_length)
        served = Served(name, engine, self._config, self._workers, self._known.get(key), self._observer)
        self._known[key] = served.capacity
        return served


def _check_memory(manifest: ModelManifest) -> None:
    needed = MEMORY_OF_WEIGHTS * max(entry.size for entry in manifest.files.values())
    free = machine.free_memory()
    if needed > free:
        raise InferenceError(
            f"{manifest.name}: loading it takes about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free;"
            " give the server more, or serve a smaller variant"
        )
