"""What a fuzz run saw."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Tally:
    """Calls by kind and what came back, and every call whose answer was wrong."""

    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, kind: str, outcome: str) -> None:
        """Count a call."""
        self.seen[kind, outcome] += 1

    def fail(self, kind: str, what: str, request: object) -> None:
        """Keep a call whose answer is wrong."""
        self.wrong.append(f"{kind}: {what}: {request!r:.600}")

    @property
    def calls(self) -> int:
        """All of them."""
        return sum(self.seen.values())

    @property
    def malformed(self) -> int:
        """Those that were refused, as they should be."""
        return sum(count for (_, outcome), count in self.seen.items() if outcome not in ("200", "OK"))

    def table(self) -> str:
        """Markdown: kinds by rows, outcomes by columns."""
        outcomes = sorted({outcome for _, outcome in self.seen})
        lines = [["calls", *outcomes, "all"], ["---"] * (len(outcomes) + 2)]
        for kind in dict.fromkeys(kind for kind, _ in self.seen):
            counts = [self.seen[kind, outcome] for outcome in outcomes]
            lines.append([kind, *map(str, counts), str(sum(counts))])
        sums = [sum(n for (_, at), n in self.seen.items() if at == outcome) for outcome in outcomes]
        lines.append(["all", *map(str, sums), str(self.calls)])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def resident_bytes(process_id: int) -> int:
    """Memory of a process and its children."""
    total, page = 0, os.sysconf("SC_PAGE_SIZE")
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if process_id in (int(path.parent.name), int(fields[1])):
            total += int(fields[21]) * page
    return total
