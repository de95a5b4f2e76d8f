"""What of the home nothing used for a while goes, on outputs of a real pipeline; the next run makes it again."""

import os
from pathlib import Path

from fairlead import places
from fairlead.cluster.local import LocalRun
from fairlead.cluster.pruning import prune
from tests.cluster.test_local import cached, importable, job, run

__all__ = ["importable"]
DAY = 86_400.0


def left(folder: str) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in (places.home() / folder).rglob("*") if path.is_file())


def age(path: Path) -> None:
    os.utime(path, (0, 0))


def test_outputs_that_no_run_used_go_and_are_made_again() -> None:
    first = run(job({"text": "abc"}))
    for stage in first.stages.values():
        age(stage.folder.parent)
    # Takes the first stage's output from the cache, which is a use of it.
    other = run(job({"text": "abc"}, {"x": 1}))
    old = name(first, "measure")
    assert prune("", DAY, dry_run=True).keys() == {old} and first.stages["measure"].folder.exists()
    assert prune("", DAY).keys() == {old}
    assert not first.stages["measure"].folder.exists() and other.stages["write"].folder.exists()
    assert len(left("cache")) == 2
    assert cached(run(job({"text": "abc"}))) == {"write": True, "measure": False}


def test_logs_go_by_their_age_and_outputs_named_by_a_version_stay() -> None:
    done = run(job({"text": "abc"}))
    for path in [done.log, *(stage.folder.parent for stage in done.stages.values())]:
        age(path)
    named = f'{{"base": "{done.stages["write"].folder}"}}'
    assert prune(named, DAY) == {name(done, "measure"): 2, f"logs/{done.log.stem}": 1}
    assert done.stages["write"].folder.exists()
    # Its events are younger than its log was made to be.
    assert left("logs") == [done.log.stem]
    assert prune("", 0).keys() >= {name(done, "write"), f"logs/{done.log.stem}"}
    assert left("pipeline") == left("logs") == left("cache") == []


def name(run: LocalRun, stage: str) -> str:
    return str(run.stages[stage].folder.parent.relative_to(places.home()))


def test_a_home_without_runs_is_no_mistake(home: Path) -> None:
    assert prune("", 0) == {} and not home.exists()
