"""The raw engine, in a process of its own: texts/s with no server, no queue and no protocol around it.

    python -m benchmarks.serving_raw VERSION_FOLDER THREADS

A line with a number of seconds on its input is a turn: texts, one JSON list in the first line, are asked in batches
sorted by length (the engine's own `predict`), over and over. Its report is a line of JSON.
"""

import json
import sys
import time
from pathlib import Path

from fairlead.inference.engine import Engine

# Enough to sort by length, and a turn of a few seconds still ends near its time.
TEXTS_AT_ONCE = 256


def main() -> None:
    """Take turns until the input ends."""
    folder, threads = sys.argv[1:]
    engine = Engine.load(Path(folder))
    engine.runner.set_threads(int(threads))
    texts = json.loads(sys.stdin.readline())
    _turn(engine, texts, 0.1)
    print("READY", flush=True)
    for line in sys.stdin:
        print("TURN", json.dumps(_turn(engine, texts, float(line))), flush=True)


def _turn(engine: Engine, texts: list[str], seconds: float) -> dict[str, float]:
    started, cpu, done = time.perf_counter(), time.process_time(), 0
    while (elapsed := time.perf_counter() - started) < seconds:
        at = done % len(texts)
        done += len(engine.predict(texts[at : at + TEXTS_AT_ONCE]))
    return {"texts": done, "seconds": elapsed, "cpu_seconds": time.process_time() - cpu, "rate": done / elapsed}


if __name__ == "__main__":
    main()
