"""The folder of a version: what its manifest covers, and paths that are no such folder."""

from pathlib import Path

import pytest

from fairlead.errors import IntegrityError, NotFound
from fairlead.formats.model import read_manifest, read_training, verify
from fairlead.names import MODEL_MANIFEST
from tests.tiny import make_version


@pytest.mark.parametrize("added", ["sub/fairlead.json", "sub/weights.bin", "extra.json"])
def test_a_file_that_was_added_is_found_at_any_depth(added: str, tmp_path: Path) -> None:
    folder = make_version(tmp_path / "version")
    verify(folder)
    (folder / added).parent.mkdir(exist_ok=True)
    (folder / added).write_bytes(b"{}")
    with pytest.raises(IntegrityError, match=f"{added}: the manifest does not name this file"):
        verify(folder)


def test_a_path_that_is_no_version_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"x")
    with pytest.raises(NotFound, match=r"model\.bin: it is a file, not the folder of a model version"):
        read_manifest(file)
    with pytest.raises(NotFound, match="trained model"):
        read_training(tmp_path)
    (tmp_path / MODEL_MANIFEST).mkdir()
    with pytest.raises(IntegrityError, match=r"fairlead\.json: it cannot be read \(Is a directory\)"):
        read_manifest(tmp_path)
