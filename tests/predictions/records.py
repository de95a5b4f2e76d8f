"""Answers to log."""

from fairlead.predictions.events import Answered
from fairlead.predictions.ids import IdSource

IDS = IdSource()


def answered(
    label: str = "billing", texts: list[str] | None = None, id: str | None = None, project: str = "support_topics"
) -> Answered:
    count = len(texts) if texts else 1
    return Answered(
        prediction_id=id or IDS.next(),
        project=project,
        model="support-topics",
        version=f"{project}_v3",
        digest="sha256:ab",
        variant="torch-fp32",
        task="classification",
        seconds=0.01,
        answers=[{"label": label, "probability": 0.75}] * count,
        texts=texts,
    )
