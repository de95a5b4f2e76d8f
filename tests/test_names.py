"""Names: what is legal, and how the others are derived."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead import names
from fairlead.errors import ConfigError
from fairlead.names import ModelRef


@pytest.mark.parametrize("project", ["support_topics", "translate_kr2en", "a", "a1_b2"])
def test_legal_projects(project: str) -> None:
    assert names.check_project(project) == project


@pytest.mark.parametrize("project", ["", "A", "1a", "_a", "a_", "a__b", "a-b", "a/b", "../a", "a" * 54, "ä", "a\n"])
def test_illegal_projects(project: str) -> None:
    with pytest.raises(ConfigError, match="is not a project name"):
        names.check_project(project)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("support_topics", ModelRef("support_topics", alias="champion")),
        ("support_topics:3", ModelRef("support_topics", number=3)),
        ("support_topics:v3", ModelRef("support_topics", number=3)),
        ("support_topics_v3", ModelRef("support_topics", number=3)),
        ("support_topics@blue-green", ModelRef("support_topics", alias="blue-green")),
    ],
)
def test_references(text: str, ref: ModelRef) -> None:
    assert ModelRef.parse(text) == ref
    assert ModelRef.parse(str(ref)) == ref


@pytest.mark.parametrize("text", ["", "a:", "a@", "a:x", "a@B", "a:1:2", "@champion", "a b"])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ConfigError):
        ModelRef.parse(text)


@given(st.from_regex(names.PROJECT_PATTERN, fullmatch=True).filter(lambda p: len(p) <= 53), st.integers(1, 10**6))
def test_a_version_is_found_by_its_own_name(project: str, number: int) -> None:
    assert ModelRef.parse(names.version_name(project, number)) == ModelRef(project, number=number)
    assert names.version_prefix(project, number).endswith(f"{number:04d}/")
    assert "_" not in names.kubernetes_name(project)
