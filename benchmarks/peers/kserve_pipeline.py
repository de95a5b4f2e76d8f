"""A classifier behind KServe's Python server, as KServe's documentation teaches a custom predictor.

    python kserve_pipeline.py --model_dir FOLDER [--dtype bfloat16] [--max_length 256] [--model_name peer] [--workers 1]

It needs kserve, torch and transformers, and nothing of Fairlead.
"""

import argparse
from typing import Any

import torch
from kserve import Model, ModelServer, model_server
from transformers import pipeline


class TextClassifier(Model):  # type: ignore[misc]
    """A pipeline of transformers."""

    def __init__(self, name: str, model_dir: str, dtype: str, max_length: int) -> None:
        super().__init__(name)
        self.model_dir, self.dtype, self.max_length = model_dir, dtype, max_length
        self.load()

    def load(self) -> bool:
        """Load it."""
        self.pipeline = pipeline("text-classification", model=self.model_dir, dtype=getattr(torch, self.dtype))
        self.ready = True
        return self.ready

    def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        """`{"instances": [text, ...]}` to `{"predictions": [{"label", "score"}, ...]}`."""
        return {"predictions": self.pipeline(payload["instances"], truncation=True, max_length=self.max_length)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max_length", type=int, default=256)
    options = parser.parse_args()
    model = TextClassifier(options.model_name, options.model_dir, options.dtype, options.max_length)
    ModelServer(workers=options.workers).start([model])
