"""The project of `fairlead run --sample`: which library does this sentence describe?"""

from typing import Any

SAMPLE_PROJECT = "library_docs"


def sample_values(source: str) -> dict[str, Any]:
    """Settings under which 7,000 sentences train well under a minute on one core."""
    return {
        "project": SAMPLE_PROJECT,
        "data": {"source": source},
        # A vocabulary of 8,000 sees each word some ten times in so little text. Sentences are short.
        "tokenization": {"max_length": 64},
        "model": {"depth": 2},
        "training": {"epochs": 6, "learning_rate": 1e-3, "batch_size": 64},
    }
