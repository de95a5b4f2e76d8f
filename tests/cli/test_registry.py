"""`fairlead registry upgrade` on a real database."""

from fairlead.registry.tables import HEAD


def test_an_empty_database_gets_its_tables_once(fairlead, home):
    planned = fairlead("registry", "upgrade", "--dry-run", "--json").json
    assert (planned["from"], planned["to"]) == (None, HEAD)
    assert f"is upgraded from nothing, at {HEAD}" in fairlead("registry", "upgrade").out
    assert fairlead("registry", "upgrade", "--json").json["from"] == HEAD
    assert "is up to date" in fairlead("registry", "upgrade").out
    assert fairlead("models", "list").out.startswith("no model version yet")


def test_a_database_that_cannot_be_opened_is_one_sentence(fairlead, home, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_REGISTRY", "sqlite:////proc/nowhere/registry.db")
    failed = fairlead("registry", "upgrade")
    assert failed.code == 1
    assert failed.err.startswith("error: registry sqlite:////proc/nowhere/registry.db: ")
