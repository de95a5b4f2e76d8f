"""Find what the log has of a prediction, and what of it is old, by the names of files alone."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from fairlead.errors import NotFound
from fairlead.predictions.events import PREFIX, read_parquet
from fairlead.predictions.ids import PredictionId
from fairlead.storage import ObjectStore

_FILE = re.compile(r"(?P<server>[0-9a-f]{8})-[0-9a-f]+-(?P<first>[0-9a-f]{12})-(?P<last>[0-9a-f]{12})\.parquet")
_HOUR = re.compile(rf"{PREFIX}(?P<project>[^/]+)/(?P<hour>\d{{4}}-\d\d-\d\d/\d\d)/")


def find(store: ObjectStore, projects: Iterable[str], prediction: PredictionId) -> list[dict[str, Any]]:
    """The events of a prediction, one a text.

    One listing a project, of the files that its process wrote of its hour, and a read of those whose times enclose
    it: one or two. Raises NotFound, saying why it may not be there.
    """
    tried = list(projects)
    for project in tried:
        for key in _candidates(store, project, prediction):
            if events := read_parquet(store.get_bytes(key), prediction.text):
                return events
    raise NotFound(
        f"prediction {prediction.text}: the log has no record of it under "
        f"{', '.join(tried) or 'any project'}; a record is there some seconds after the answer, unless its server "
        "kept no log, was killed before it was written or had to drop it, or it was removed as old"
    )


def _candidates(store: ObjectStore, project: str, prediction: PredictionId) -> list[str]:
    found = []
    for stat in store.list(f"{PREFIX}{project}/{prediction.hour}/{prediction.server}-"):
        match = _FILE.fullmatch(stat.key.rpartition("/")[2])
        if match and int(match["first"], 16) <= prediction.milliseconds <= int(match["last"], 16):
            found.append(stat.key)
    return found


def remove_older(store: ObjectStore, seconds: float, dry_run: bool = False) -> dict[str, int]:
    """Remove the files of hours that ended so long ago; how many there were, by project and date."""
    limit = datetime.now(UTC) - timedelta(seconds=seconds) - timedelta(hours=1)
    removed: Counter[str] = Counter()
    for stat in list(store.list(PREFIX)):
        match = _HOUR.match(stat.key)
        if match and datetime.strptime(match["hour"], "%Y-%m-%d/%H").replace(tzinfo=UTC) <= limit:
            removed[f"{PREFIX}{match['project']}/{match['hour'][:10]}/"] += 1
            if not dry_run:
                store.delete(stat.key)
    return dict(removed)
