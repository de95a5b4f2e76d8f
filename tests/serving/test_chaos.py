"""A few of the restarts and swaps of `make chaos`."""

from pathlib import Path

from tests.serving.chaos.restarts import lost, restart
from tests.serving.chaos.swaps import swap


def test_restarts_under_load_lose_no_request(version: Path, tmp_path: Path) -> None:
    outcome, servers = restart(version, tmp_path, number=1, seed=0)
    assert not [*outcome.failed, *lost(outcome, servers), *outcome.contradictions()]
    assert len(outcome.answered) > 20 and len(servers) == 2
    assert all(server.requests() for server in servers), "every one of them was asked"


def test_swaps_under_load_lose_no_request(tmp_path: Path) -> None:
    outcome, server = swap(tmp_path, number=5, seed=0)
    assert not [*outcome.failed, *lost(outcome, [server]), *outcome.contradictions()]
    assert outcome.versions == {"support_topics_v1", "support_topics_v2"}
