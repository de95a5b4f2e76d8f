"""Optimum's 8-bit form of a version's weights beside the variant that serves: in turns, same rows, one thread.

    FAIRLEAD_HOME=... python -m benchmarks.precision_peer REF PYTHON_OF_OPTIMUM FOLDER

It prints VariantRecords as JSON: torch-fp32, the variant that serves, and the peer, put to the same test.
"""

import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks import serving_peers
from fairlead.formats.variants import REFERENCE, VariantRecord
from fairlead.names import ModelRef
from fairlead.optimization import timing
from fairlead.optimization.again import material_of
from fairlead.optimization.comparison import compare
from fairlead.optimization.config import OptimizationConfig
from fairlead.optimization.material import Material
from fairlead.registry import open_registry
from fairlead.registry.fetching import fetch_version
from fairlead.variants.contract import Runner
from fairlead.variants.opening import open_variant

NAME = "optimum-int8"
SCRIPT = Path(__file__).parent / "peers" / "optimum_int8.py"
ROUNDS = 10
# Every fourth batch, from the longest to the shortest: a turn of two or three seconds.
STEP = 4


def python_of_optimum(cache: Path, install: bool) -> Path | None:
    """Its environment, which sees this one's packages behind its own; None when it is not made."""
    python = serving_peers.install("optimum", cache) if install else serving_peers.installed("optimum", cache)
    if python:
        packages = next((python.parent.parent / "lib").glob("python3*/site-packages"))
        (packages / "behind.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")))
    return python


def main(ref: str, python: str, folder: str) -> None:
    """Measure and print."""
    with open_registry() as registry:
        manifest = registry.resolve(ModelRef.parse(ref)).manifest
    record = manifest.optimization
    assert record is not None
    model, chosen = fetch_version(ref), record.variant(record.chosen)
    assert chosen is not None
    with tempfile.TemporaryDirectory() as temporary:
        config = OptimizationConfig.parse(record.config, where="optimization")
        material = material_of(manifest, model, config, Path(temporary))
        batches = timing.batches(material.validation.token_ids, "cpu")
        Path(temporary, "batches.json").write_text(json.dumps(batches))
        known = [record.variant(REFERENCE), *([chosen] if chosen.name != REFERENCE else [])]
        runners = {v.name: open_variant(model, v, material.pad_token_id, 1, "cpu") for v in known if v}
        for runner in runners.values():
            runner.set_threads(1)
        command = [python, str(SCRIPT), str(model), str(Path(temporary, "batches.json")), folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            assert peer.stdin is not None
            assert peer.stdout is not None
            found = json.loads(peer.stdout.readline())
            seconds = _turns(runners, batches, peer.stdin, peer.stdout)
            peer.stdin.close()
    texts = sum(map(len, batches[::STEP]))
    rates = {name: texts / statistics.median(taken) for name, taken in seconds.items()}
    shown = [v.model_copy(update={"texts_per_second": rates[v.name]}) for v in known if v]
    shown.append(_peer(material, runners[REFERENCE], found, rates[NAME]))
    print(json.dumps([variant.to_dict() for variant in shown]))


def _turns(
    runners: dict[str, Runner], batches: list[list[list[int]]], ask: IO[str], answer: IO[str]
) -> dict[str, list[float]]:
    def ours(runner: Runner) -> float:
        started = time.perf_counter()
        for batch in batches[::STEP]:
            runner.run(batch)
        return time.perf_counter() - started

    def theirs() -> float:
        ask.write(f"{STEP}\n")
        ask.flush()
        return float(answer.readline())

    sides: dict[str, Callable[[], float]] = {n: functools.partial(ours, r) for n, r in runners.items()}
    sides[NAME] = theirs
    return timing.interleaved(sides, lambda side: side(), ROUNDS)


def _peer(material: Material, reference: Runner, found: dict[str, Any], rate: float) -> VariantRecord:
    texts = material.validation.token_ids
    order = np.argsort(np.concatenate([np.asarray(batch) for batch in timing.batched(texts, "cpu")]), kind="stable")
    ours = np.concatenate([np.asarray(logits, np.float32) for logits in found["logits"]])[order]
    theirs, record = timing.outputs(reference, texts), material.record
    comparison = compare(record.task, material.terms, material.validation.targets, ours, theirs, 0.95)
    measured = {name: found[name] for name in ("size_bytes", "load_seconds", "memory_bytes")}
    named = {"name": NAME, "runtime": "onnxruntime", "precision": "int8", "texts_per_second": rate}
    return VariantRecord.parse({**named, **measured, **vars(comparison)}, where=NAME)


if __name__ == "__main__":
    main(*sys.argv[1:])
