"""How long requests may wait: as long as the slowest of a hundred answers keeps the promise, as measured on the way.

Who is answered under load waits less than three times as long as who comes alone. A fixed bound keeps that for one
mix of lengths and one pace only: in the simulation of tests/inference/test_room.py the same bound gave 2.3 to 4.2
times, by how much the lengths differ, how many callers there are and how much else the machine does.
"""

# Of the slowest of a hundred, in times as long as a long text takes alone. At 2.7 it was 2.8 with 64 callers behind
# real doors, and 3.7 when requests came by chance, 1.5 times as many as were answered; 2.4 costs 1 % of the texts/s.
AIM = 2.4
# Waits, in the same unit: at first, and at least and at most.
FIRST, LEAST, MOST = 1.4, 1.0, 3.0
# Answers between two looks: the slowest of a hundred are four of them.
ANSWERS = 400
# What one look changes at most: down at once, up with care.
DOWN, UP = 0.9, 1.05


class Patience:
    """Learns from answers how long requests may wait."""

    def __init__(self) -> None:
        self.waits = FIRST
        """How many times as long as a long text takes alone a request may wait."""
        self._answers: list[float] = []
        self._refused = False

    def saw_refusal(self) -> None:
        """Note that a request was refused: without refusals, times say nothing about the bound."""
        self._refused = True

    def saw_answer(self, times: float) -> None:
        """Learn from an answer that took so many times as long as its request would have alone."""
        self._answers.append(times)
        if len(self._answers) < ANSWERS:
            return
        if self._refused:
            slowest = sorted(self._answers)[int(0.99 * ANSWERS)]
            self.waits = min(MOST, max(LEAST, self.waits * min(UP, max(DOWN, AIM / slowest))))
        self._answers.clear()
        self._refused = False
