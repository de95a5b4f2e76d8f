"""A promotion or a rollback: a commit that changes which version an environment serves, and says why.

The cluster is not touched; it follows the branch that the commit is merged into.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.cluster.gitops import REMOTE, Repository, cloned
from fairlead.cluster.releases import KUSTOMIZATION, RELEASE, Release, folder_of
from fairlead.errors import ClusterError, Conflict, NotFound
from fairlead.names import version_name

if TYPE_CHECKING:
    from fairlead.registry.records import VersionRecord
    from fairlead.registry.store import Registry


@dataclass(frozen=True)
class Proposal:
    """A commit that waits to be merged."""

    branch: str
    commit: str | None
    """None when the environment serves the version already."""
    before: int
    """The version that was served."""
    after: int
    """The version that will be."""
    diff: str
    """What the commit changes."""


def promote(
    registry: "Registry",
    repository: Repository,
    project: str,
    number: int,
    environment: str,
    base: str = "HEAD",
    canary_percent: int | None = None,
) -> Proposal:
    """Propose that `environment` serves a version, or gives it a part of the traffic.

    Proposing the same twice makes one branch. Raises NotFound for an unknown version or environment, Conflict when
    the branch holds something else.
    """
    version = registry.get_version(project, number)
    release = read_release(repository, base, environment, project)
    if canary_percent is None and release.number == number and release.canary is None:
        return Proposal("", None, release.number, number, "")
    changed = release.promoted(number) if canary_percent is None else release.with_canary(number, canary_percent)
    verb = "Promote" if canary_percent is None else f"Give {canary_percent} % of the traffic to"
    subject = f"{verb} {version.name} in {environment}"
    message = f"{subject}\n\n{reasons(_known(registry, project, release.number), version)}"
    kind = "promote" if canary_percent is None else f"canary-{canary_percent}"
    return _propose(repository, environment, base, release, changed, f"{kind}/{environment}/{version.name}", message)


def propose(
    registry: "Registry",
    address: str,
    branch: str,
    version: "VersionRecord",
    environment: str,
    canary_percent: int | None = None,
) -> Proposal:
    """`promote` on a remote repository, whose `branch` the environment follows; what is proposed is there afterwards.

    The same twice, at the same time too, makes one branch with one commit; what fails leaves nothing behind.
    """
    for is_last in (False, True):
        with cloned(address) as repository:
            what = (version.project, version.number, environment)
            proposal = promote(registry, repository, *what, branch, canary_percent)
            if proposal.commit is None:
                return proposal
            try:
                repository.push(REMOTE, proposal.branch)
                return proposal
            except ClusterError:
                # Another run may have pushed it since: then a fresh copy has it, and there is nothing to push.
                if is_last:
                    raise
    raise AssertionError("the last try returns or raises")


def roll_back(
    registry: "Registry", repository: Repository, project: str, environment: str, base: str = "HEAD"
) -> Proposal:
    """Propose what `environment` served before its present version; a canary ends.

    Raises NotFound when its history holds no other version.
    """
    release = read_release(repository, base, environment, project)
    number = release.number if release.canary is not None else _previous(repository, base, environment, release)
    name, now = version_name(project, number), version_name(project, release.number)
    subject = f"Roll {environment} back to {name}" if number != release.number else f"End the canary of {now}"
    message = f"{subject}\n\n{_comparison(registry, project, release.number, number)}"
    branch = f"rollback/{environment}/{now}-to-v{number}"
    return _propose(repository, environment, base, release, release.promoted(number), branch, message)


def read_release(repository: Repository, revision: str, environment: str, project: str) -> Release:
    """What an environment serves at a revision. Raises NotFound when the overlay has no such model."""
    folder = folder_of(environment, project)
    texts = [repository.read(revision, str(folder / name)) for name in (RELEASE, KUSTOMIZATION)]
    return Release(project, *texts)


def reasons(before: "VersionRecord | None", after: "VersionRecord") -> str:
    """Metrics of both versions on the test split and how far apart they are, and what the new one is."""
    lines = [f"digest {after.digest}", f"run    {after.manifest.training.run_id}"]
    if before is None:
        return "\n".join(lines + [f"{name:20} {value:.4f}" for name, value in sorted(after.metrics.items())]) + "\n"
    lines.append(f"\n{'':20} {before.name:>20} {after.name:>20} {'difference':>12}")
    for name in sorted(before.metrics.keys() & after.metrics.keys()):
        old, new = before.metrics[name], after.metrics[name]
        lines.append(f"{name:20} {old:20.4f} {new:20.4f} {new - old:+12.4f}")
    if not _same_rows(before, after):
        lines.append("\nThe test rows differ, so the metrics do not measure the same thing.")
    return "\n".join(lines) + "\n"


def _comparison(registry: "Registry", project: str, before: int, after: int) -> str:
    version = _known(registry, project, after)
    # Going back must not need the registry's word for what already served.
    return reasons(_known(registry, project, before), version) if version else ""


def _propose(
    repository: Repository,
    environment: str,
    base: str,
    release: Release,
    changed: Release,
    branch: str,
    message: str,
) -> Proposal:
    folder = folder_of(environment, release.project)
    after = changed.number if changed.canary is None else changed.canary
    commit = repository.head(branch)
    if commit is not None and repository.is_behind(commit, base):
        # It was merged, and taken back since: what it proposed is proposed anew.
        repository.forget_branch(branch)
        commit = None
    if commit is not None:
        proposed = read_release(repository, branch, environment, release.project)
        if proposed != changed:
            raise Conflict(f"branch {branch}: it is there and holds something else; merge or delete it")
    else:
        files = {str(folder / RELEASE): changed.release, str(folder / KUSTOMIZATION): changed.kustomization}
        commit = repository.commit(branch, base, files, message)
    return Proposal(branch, commit, release.number, after, repository.diff(base, commit))


def _previous(repository: Repository, base: str, environment: str, release: Release) -> int:
    path = str(folder_of(environment, release.project) / RELEASE)
    for commit in repository.history(base, path):
        older = Release(release.project, repository.read(commit, path), release.kustomization).number
        if older != release.number:
            return older
    raise NotFound(
        f"{path}: it has served {version_name(release.project, release.number)} only; "
        "promote another version instead of rolling back"
    )


def _known(registry: "Registry", project: str, number: int) -> "VersionRecord | None":
    try:
        return registry.get_version(project, number)
    except NotFound:
        return None


def _same_rows(before: "VersionRecord", after: "VersionRecord") -> bool:
    digests = [v.manifest.evaluations[0]["dataset_digest"] for v in (before, after) if v.manifest.evaluations]
    return len(digests) == 2 and digests[0] == digests[1]
