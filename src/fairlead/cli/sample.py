"""The project of `fairlead run --sample`: which library does this sentence describe?"""

from typing import Any

SAMPLE_PROJECT = "library_docs"


def sample_values(source: str) -> dict[str, Any]:
    """Settings under which 7,000 sentences train in half a minute on one core."""
    return {
        "project": SAMPLE_PROJECT,
        "data": {"source": source},
        # 99 of 100 sentences are shorter.
        "tokenization": {"max_length": 64},
        "model": {"depth": 2},
        # In the third epoch the validation loss stops falling. A second thread gains little on
        # matrices this small, and costs much where it has to share its core.
        "training": {"epochs": 3, "learning_rate": 1e-3, "batch_size": 64, "threads": 1},
        # One of each runtime, so that a first run does not wait for the whole table.
        "optimization": {"candidates": ["torch-bf16", "onnxruntime-int8", "openvino-int8-static"], "rounds": 3},
    }
