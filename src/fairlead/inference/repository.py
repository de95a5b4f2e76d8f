"""The models of one server: which versions are loaded under which name, and how they are asked."""

from collections.abc import Sequence

from fairlead.errors import NotFound
from fairlead.inference.served import Served as Served
from fairlead.names import version_name


class Repository:
    """The served versions by name."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = {one.name: one for one in served}

    def names(self) -> list[str]:
        """Names on the endpoint."""
        return list(self._served)

    def get(self, name: str, version: str = "") -> Served:
        """What is served under `name`, in `version` (`support_topics_v3`, `v3` or `3`) where one is given.

        Raises NotFound, naming what there is.
        """
        served = self._served.get(name)
        if served is None:
            raise NotFound(f"model: {name!r} is not served here; ask for {', '.join(self._served)}")
        number = served.manifest.version
        if version and version not in (version_name(served.manifest.project, number), f"v{number}", str(number)):
            raise NotFound(
                f"version: {name} is not served in version {version!r} but in {served.manifest.name!r}; ask for that"
            )
        return served

    def close(self) -> None:
        """Close all."""
        for served in self._served.values():
            served.close()
