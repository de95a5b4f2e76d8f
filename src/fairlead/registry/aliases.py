"""Aliases: names such as champion that move from version to version of a project."""

from sqlalchemy import Connection, delete, select

from fairlead.formats.evaluation import LOWER_IS_BETTER
from fairlead.names import CHALLENGER, CHAMPION, check_alias, version_name
from fairlead.registry import evaluations
from fairlead.registry.queries import not_found, now, upsert
from fairlead.registry.records import Promotion
from fairlead.registry.tables import aliases


def of_project(connection: Connection, project: str) -> dict[str, int]:
    """The number that each alias of a project names."""
    query = select(aliases.c.alias, aliases.c.number).where(aliases.c.project == project).order_by(aliases.c.alias)
    return {row.alias: row.number for row in connection.execute(query)}


def put(connection: Connection, project: str, alias: str, number: int) -> None:
    """Point an alias at a version that exists."""
    row = {"project": project, "alias": check_alias(alias), "number": number, "changed": now()}
    upsert(connection, aliases, [row], update=["number", "changed"])


def remove(connection: Connection, project: str, alias: str) -> None:
    """Remove an alias. Raises NotFound."""
    known = of_project(connection, project)
    if alias not in known:
        raise not_found(project, "alias", alias, known)
    connection.execute(delete(aliases).where(aliases.c.project == project, aliases.c.alias == alias))


def promote(connection: Connection, project: str, number: int, promotion: Promotion | None) -> None:
    """Make a new version the challenger, and the champion when there is none or it is not worse than that."""
    champion = of_project(connection, project).get(CHAMPION)
    put(connection, project, CHALLENGER, number)
    if champion is None or (promotion and _is_not_worse(connection, project, number, champion, promotion)):
        put(connection, project, CHAMPION, number)


def _is_not_worse(connection: Connection, project: str, number: int, champion: int, promotion: Promotion) -> bool:
    score = promotion.champion
    # Another run may have put a new champion there after evaluation measured the old one.
    if score is not None and score.version == version_name(project, champion):
        evaluations.record_score(connection, project, champion, score)
    values = [
        evaluations.metric(connection, project, candidate, promotion.metric, promotion.dataset_digest)
        for candidate in (number, champion)
    ]
    if values[0] is None or values[1] is None:
        return False
    new, old = values[0], values[1]
    return new <= old if promotion.metric in LOWER_IS_BETTER else new >= old
