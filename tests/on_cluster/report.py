"""The table at the end: every part of the suite, whether it ran, and if not why."""

from dataclasses import dataclass, field

import pytest


@dataclass
class Part:
    """One test."""

    name: str
    outcome: str = "not reached"
    """`run`, `skipped`, `FAILED` or `not reached`."""
    why: str = ""
    notes: list[str] = field(default_factory=list)
    """What it measured, or left out of itself."""


@dataclass
class Report:
    """What a run of the suite found."""

    head: list[str] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    tail: list[str] = field(default_factory=list)
    """What is to be known after the end: trouble of pods, and what could not be removed."""

    def part(self, item: pytest.Item) -> Part:
        """The part of a test."""
        name = item.name.removeprefix("test_").replace("_", " ")
        return self.parts.setdefault(item.nodeid, Part(name))

    def record(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Take in what pytest says of a phase of a test."""
        part = self.part(item)
        if report.skipped:
            part.outcome, part.why = "skipped", _reason(report)
        elif report.failed:
            part.outcome, part.why = "FAILED", _sentence(report)
        elif report.when == "call" and part.outcome == "not reached":
            part.outcome = "run"

    @property
    def has_failed(self) -> bool:
        """Whether a part did."""
        return any(part.outcome == "FAILED" for part in self.parts.values())

    def lines(self) -> list[str]:
        """The table."""
        shown = []
        for part in self.parts.values():
            shown.append(f"{part.outcome:12}{part.name}" + (f": {part.why}" if part.why else ""))
            shown += [f"{'':12}  {note}" for note in part.notes]
        counts = [f"{sum(p.outcome == o for p in self.parts.values())} {o}" for o in ("run", "skipped", "FAILED")]
        return [*self.head, "", *shown, "", *self.tail, ", ".join(counts)]


REPORT = Report()


def _reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def _sentence(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join((crash.message if crash else report.longreprtext).split())[:400]
