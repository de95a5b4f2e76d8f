"""The registry on its default database."""

from pathlib import Path

from fairlead.registry import open_registry
from tests.registry.samples import add_version


def test_a_registry_is_kept_in_the_home_folder_and_outlives_its_process(home: Path) -> None:
    with open_registry() as registry:
        first = add_version(registry, "a")
    assert (home / "registry.db").is_file()
    with open_registry() as registry:
        assert registry.get_version("topics", 1) == first
