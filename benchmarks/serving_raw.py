"""The raw engine: texts/s with no server, no queue and no protocol around it, on as many cores as a server has.

    python -m benchmarks.serving_raw VERSION_FOLDER THREADS

is one process of it. A line with a number of seconds on its input is a turn: texts, one JSON list in the first line,
are asked in batches sorted by length (the engine's own `predict`), over and over. Its report is a line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.serving_sides import COMMON

# Enough to sort by length, and a turn of a few seconds still ends near its time.
TEXTS_AT_ONCE = 256


class Raw:
    """Some processes, each with the engine and a number of threads."""

    def __init__(self, version: Path, texts: list[str], processes: int, threads: int) -> None:
        self.rates: list[float] = []
        """Texts a second of all together, by turn."""
        self.cpu_per_text: list[float] = []
        command = [sys.executable, "-m", "benchmarks.serving_raw", str(version), str(threads)]
        environment = {**os.environ, **COMMON, "OMP_NUM_THREADS": str(threads)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(processes)]
        self._say(json.dumps(texts), "READY")

    def take_turn(self, seconds: float) -> None:
        """Run for about so many seconds."""
        turns = [json.loads(report) for report in self._say(str(seconds), "TURN")]
        self.rates.append(sum(turn["rate"] for turn in turns))
        self.cpu_per_text.append(sum(t["cpu_seconds"] for t in turns) / sum(t["texts"] for t in turns))

    def stop(self) -> None:
        """They end when their input does."""
        for process in self.processes:
            assert process.stdin
            process.stdin.close()
            process.wait(60)

    def _say(self, line: str, answer: str) -> list[str]:
        """Tell all of them, then hear what each answers."""
        for process in self.processes:
            assert process.stdin
            process.stdin.write(line + "\n")
            process.stdin.flush()
        return [_hear(process, answer) for process in self.processes]


def _hear(process: "subprocess.Popen[str]", answer: str) -> str:
    assert process.stdout
    for reply in process.stdout:
        if reply.startswith(answer):
            return reply[len(answer) :]
    raise SystemExit(f"the raw engine ended with code {process.wait()}")


def main() -> None:
    """Take turns until the input ends."""
    from fairlead.inference.engine import Engine

    folder, threads = sys.argv[1:]
    engine = Engine.load(Path(folder))
    engine.runner.set_threads(int(threads))
    texts = json.loads(sys.stdin.readline())
    _turn(engine, texts, 0.1)
    print("READY", flush=True)
    for line in sys.stdin:
        print("TURN", json.dumps(_turn(engine, texts, float(line))), flush=True)


def _turn(engine: Any, texts: list[str], seconds: float) -> dict[str, float]:
    started, cpu, done = time.perf_counter(), time.process_time(), 0
    while (elapsed := time.perf_counter() - started) < seconds:
        at = done % len(texts)
        done += len(engine.predict(texts[at : at + TEXTS_AT_ONCE]))
    return {"texts": done, "seconds": elapsed, "cpu_seconds": time.process_time() - cpu, "rate": done / elapsed}


if __name__ == "__main__":
    main()
