"""Which settings a run that continues a version has, and the mistakes that stop it before anything runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.continuing import under_parent
from fairlead.cli.project import resolve
from fairlead.cluster.arguments import input_digests, pinned
from fairlead.errors import ConfigError, NotFound
from fairlead.names import CHAMPION
from fairlead.project import ProjectConfig
from fairlead.registry import open_registry
from tests.cli.records import PROJECT, add_version

REF = f"{PROJECT}@{CHAMPION}"


@pytest.fixture(autouse=True)
def version() -> None:
    with open_registry() as registry:
        add_version(registry, 1, 0.9, learning_rate=5e-5)
        registry.set_alias(PROJECT, CHAMPION, 1)


@pytest.fixture
def new(tmp_path: Path) -> str:
    path = tmp_path / "new.csv"
    path.write_text("text,label\na,billing\n")
    return str(path)


def test_settings_that_are_not_given_are_the_parent_s(new: str) -> None:
    settings = resolve(under_parent({"data": {"source": new}, "training": {"epochs": 1}}, REF))
    assert (settings.project, settings.incremental.parent) == (PROJECT, REF)
    assert (settings.training.learning_rate, settings.training.epochs) == (5e-5, 1)
    assert settings.data.source == new, "where the old data lay is not taken over"


def test_the_section_of_the_file_is_the_same_as_the_option(new: str) -> None:
    values: dict[str, Any] = {"data": {"source": new}, "incremental": {"parent": REF, "replay": 0.5}}
    by_file = resolve(under_parent(values))
    assert by_file.incremental.replay == 0.5 and by_file.training.learning_rate == 5e-5
    assert resolve(under_parent(values, f"{PROJECT}:1")).incremental.parent == f"{PROJECT}:1"


def test_without_a_parent_nothing_is_taken() -> None:
    assert under_parent({"data": {"source": "a.csv"}}) == {"data": {"source": "a.csv"}}


def test_an_alias_is_pinned_and_the_parent_s_digest_is_an_input(new: str) -> None:
    settings = resolve(under_parent({"data": {"source": new}}, REF))
    assert pinned(settings).incremental.parent == f"{PROJECT}:1"
    with open_registry() as registry:
        digest = registry.get_version(PROJECT, 1).digest
    rows, base = input_digests(pinned(settings))
    plain = ProjectConfig.parse({"project": PROJECT, "data": {"source": new}})
    transfer = resolve({"project": "other_topics", "data": {"source": new}, "model": {"base": f"fairlead://{REF}"}})
    assert pinned(transfer).model.base == f"fairlead://{PROJECT}:1" and input_digests(transfer)[1] == digest
    assert base == digest and rows != input_digests(plain)[0]


@pytest.mark.parametrize(
    ("values", "ref", "error", "sentence"),
    [
        ({}, f"{PROJECT}:9", NotFound, f"{PROJECT}_v9"),
        ({}, "nothing_yet", NotFound, "nothing_yet"),
        ({"project": "other_topics"}, REF, ConfigError, "is no version of other_topics"),
        ({"incremental": {"replay": 2}}, REF, ConfigError, "replay"),
        ({"incremental": "yes"}, REF, ConfigError, "a section is expected"),
    ],
)
def test_mistakes_are_named(new: str, values: dict[str, Any], ref: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        resolve(under_parent({"data": {"source": new}, **values}, ref))


def test_the_command_exits_with_2(new: str, fairlead: Callable[..., Any]) -> None:
    outcome = fairlead("run", "--data", new, "--continue-from", f"{PROJECT}:9")
    assert outcome.code == 2 and f"{PROJECT}_v9" in outcome.err
