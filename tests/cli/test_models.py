"""`fairlead models` on a real registry."""

import pytest

from fairlead.cli.compare import print_comparison
from fairlead.registry import open_registry
from tests.cli.records import PROJECT, add_version


@pytest.fixture
def versions(home):
    with open_registry() as registry:
        return [
            add_version(registry, 1, accuracy=0.90),
            add_version(registry, 2, accuracy=0.95, learning_rate=1e-3, rows=20),
        ]


def test_an_empty_registry_says_what_to_do(fairlead):
    outcome = fairlead("models", "list")
    assert (outcome.code, outcome.out) == (0, "no model version yet; make one with fairlead run\n")
    assert fairlead("models", "list", "--json").json == []


def test_list_of_projects_and_of_versions(fairlead, versions):
    header, row = fairlead("models", "list").out.splitlines()
    assert header.split() == ["project", "versions", "latest", "aliases", "updated"]
    assert row.split()[:3] == [PROJECT, "2", "v2"] and "champion=v1" in row
    header, first, second = fairlead("models", "list", PROJECT).out.splitlines()
    assert first.split()[:3] == ["support_topics_v1", "champion", "0.9000"]
    assert second.split()[:3] == ["support_topics_v2", "challenger", "0.9500"]
    assert [v["number"] for v in fairlead("models", "list", PROJECT, "--json").json] == [1, 2]


def test_show_gives_the_whole_origin(fairlead, versions):
    outcome = fairlead("models", "show", f"{PROJECT}:2")
    for fact in (versions[1].digest, versions[1].data_digest, versions[1].run_id, "scratch", "cpu: sample", "0.9500"):
        assert fact in outcome.out
    shown = fairlead("models", "show", PROJECT, "--json").json
    assert shown["name"] == "support_topics_v1" and shown["manifest"]["training"]["run_id"] == versions[0].run_id


def test_compare_shows_what_differs_and_nothing_else(fairlead, versions):
    found = fairlead("models", "compare", f"{PROJECT}:1", f"{PROJECT}:2", "--json").json
    assert found["config"] == {"training.learning_rate": [3e-4, 1e-3]}
    assert found["data"]["train rows"] == [8, 20] and "test rows" not in found["data"]
    assert list(found["code"]) == ["commit"] and found["environment"] == {}
    assert found["metrics"]["accuracy"] == [0.90, 0.95] and found["same_test_rows"] is True
    assert found["evaluation"] == {"gate.macro_f1": [0.1, 0.2]}
    lines = fairlead("models", "compare", f"{PROJECT}:1", f"{PROJECT}:2").out.splitlines()
    assert lines[0].split() == ["same", "parent,", "environment"]
    assert ["training.learning_rate", "0.0003", "0.001"] in [line.split() for line in lines]
    assert ["gate.macro_f1", "0.1", "0.2"] in [line.split() for line in lines]
    assert ["accuracy", "0.9000", "0.9500", "+0.0500"] in [line.split() for line in lines]


def test_compare_of_a_version_with_itself_finds_nothing(fairlead, versions):
    found = fairlead("models", "compare", f"{PROJECT}:1", f"{PROJECT}_v1", "--json").json
    assert [found[section] for section in ("data", "config", "code", "environment")] == [{}, {}, {}, {}]


def test_compare_warns_when_the_test_rows_differ(fairlead, versions, capsys):
    found = fairlead("models", "compare", f"{PROJECT}:1", f"{PROJECT}:2", "--json").json
    print_comparison({**found, "same_test_rows": False})
    assert "The test rows differ" in capsys.readouterr().out


def test_alias_moves_and_goes(fairlead, versions):
    assert fairlead("models", "alias", f"{PROJECT}:2", "champion").out == f"{PROJECT}@champion is now {PROJECT}_v2\n"
    assert fairlead("models", "show", PROJECT, "--json").json["number"] == 2
    assert fairlead("models", "alias", PROJECT, "champion", "--delete").out == f"{PROJECT}@champion is removed\n"
    outcome = fairlead("models", "show", PROJECT)
    assert outcome.code == 2 and "there is no alias 'champion'" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["models", "show", "suport_topics"], "did you mean 'support_topics'"),
        (["models", "show", f"{PROJECT}:7"], "there is no version 'support_topics_v7'"),
        (["models", "show", "Not a name"], "is not a project name"),
        (["models", "alias", f"{PROJECT}:1", "Bad Alias"], "is not an alias"),
        (["models", "alias", f"{PROJECT}:1", "canary", "--delete"], "there is no alias 'canary'"),
        (["models", "list", "suport_topics"], "did you mean 'support_topics'"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest(fairlead, versions, arguments, sentence):
    outcome = fairlead(*arguments)
    assert outcome.code == 2 and outcome.out == ""
    assert sentence in outcome.err and outcome.err.count("\n") == 1
