"""`fairlead config` and the reference page made from the settings classes."""

from pathlib import Path

import pytest
import yaml

from fairlead.cli.explain import everything, list_settings, to_markdown
from fairlead.config import known_names
from fairlead.project import ProjectConfig
from fairlead.training.config import ModelConfig

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def tickets(tmp_path):
    path = tmp_path / "tickets.csv"
    path.write_text("body,topic\nhello,a\n")
    return path


def test_the_reference_page_is_up_to_date():
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert page == to_markdown(), "run: fairlead config explain --markdown > docs/settings.md"


def test_every_setting_is_documented():
    assert [s.name for s in everything() if len(s.text) < 15] == []
    assert {s.name for s in list_settings()} == set(known_names(ProjectConfig))


def test_explain_gives_type_range_default_and_meaning(fairlead):
    outcome = fairlead("config", "explain", "training.learning_rate")
    assert (
        outcome.out == "training.learning_rate  number; > 0, <= 10; default 0.0003\n    Peak step size. Default 3e-4.\n"
    )
    (row,) = fairlead("config", "explain", "training.optimizer", "--json").json
    assert row["kind"] == "one of adamw, adam, sgd, rmsprop, adagrad, muon" and row["default"] == "adamw"


def test_explain_of_a_section_gives_all_of_it(fairlead):
    rows = fairlead("config", "explain", "model", "--json").json
    assert [row["name"] for row in rows] == ["model", *(f"model.{name}" for name in ModelConfig.model_fields)]


@pytest.mark.parametrize(
    "name",
    ["training.learning_rat", "learning_rate", "trainning.learning_rate", "training.lr", "lr", "data.learning_rate"],
)
def test_explain_of_an_unknown_setting_gives_the_nearest(fairlead, name):
    outcome = fairlead("config", "explain", name)
    assert outcome.code == 2 and "did you mean 'training.learning_rate'" in outcome.err


def test_explain_of_an_unknown_setting_never_gives_its_section(fairlead):
    assert "did you mean" not in fairlead("config", "explain", "training.xyz").err


def test_show_lays_options_over_the_file_and_set_over_both(fairlead, tickets):
    file = tickets.parent / "fairlead.yaml"
    file.write_text("project: one\ndata: {source: tickets.csv, text: body, label: topic}\ntraining: {epochs: 7}\n")
    outcome = fairlead("config", "show", "--config", file, "--project", "two", "--set", "training.epochs=9")
    shown = yaml.safe_load(outcome.out)
    assert shown["project"] == "two" and shown["training"]["epochs"] == 9
    assert shown["data"]["text"] == "body" and shown["training"]["learning_rate"] == 3e-4
    assert fairlead("config", "show", "--config", file, "--json").json["training"]["epochs"] == 7


def test_show_prints_no_credentials(fairlead):
    address = "https://bob:hunter2@host/t.csv?sig=topsecret"
    arguments = ("--data", address, "--project", "p", "--set", f"data.extra.legal={address}")
    for outcome in (fairlead("config", "show", *arguments), fairlead("config", "show", *arguments, "--json")):
        assert outcome.out.count("https://***@host/t.csv?sig=***") == 2
        assert "hunter2" not in outcome.out and "topsecret" not in outcome.out


def test_paths_in_a_project_file_are_read_from_where_it_stands(fairlead, tickets, monkeypatch):
    (tickets.parent / "fairlead.yaml").write_text("project: one\ndata: {source: tickets.csv}\n")
    other = tickets.parent / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    shown = fairlead("config", "show", "--config", "../fairlead.yaml", "--json").json
    assert Path(shown["data"]["source"]).resolve() == tickets
    monkeypatch.chdir(tickets.parent)
    assert fairlead("config", "show", "--json").json["data"]["source"] == "tickets.csv"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there is no project file here"),
        (["--data", "missing.csv", "--project", "p"], "data.source: missing.csv: there is no such file"),
        (["--data", "tickets.csv"], "project: it has no name"),
        (["--data", "tickets.csv", "--project", "Bad Name"], "is not a project name"),
        (["--data", "tickets.csv", "--project", "p", "--set", "training.epoch=2"], "did you mean 'training.epochs'"),
        (
            ["--data", "tickets.csv", "--project", "p", "--set", "training.epochs=2.5"],
            "training.epochs = 2.5 is refused",
        ),
        (["--data", "tickets.csv", "--project", "p", "--set", "data.test=no.csv"], "data.test: no.csv: there is no"),
        (["--config", "none.yaml"], "none.yaml: there is no such file"),
    ],
)
def test_a_mistake_stops_with_one_line(fairlead, tickets, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tickets.parent)
    outcome = fairlead("config", "show", *arguments)
    assert outcome.code == 2
    assert sentence in outcome.err and outcome.err.count("\n") == 1
