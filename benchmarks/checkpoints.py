"""What do checkpoints and metrics cost a run, and how soon is it durable when it is told to stop?

    python -m benchmarks.checkpoints [--depth 14] [--steps 45] [--json]

Runs `fairlead run` on sms-spam with a model from scratch of 100 M parameters or more, in tiny batches (so that steps
are short, and the share of time that a save takes is the greatest), saves every ten steps, and sends it SIGTERM
after `--steps` steps. The share is that of the dearest save if there were one every 100 steps. Limits: 0.3 s and
0.5 % of the time blocked by saves, 15 s from SIGTERM to a durable checkpoint, 0.5 % of the time for metrics. All
times are those of the run's own metrics and of its files; on a busy machine the copy is measured once more, alone,
by its thread's processor time, which what else runs there does not lengthen.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from benchmarks import tables
from benchmarks.quality import DATASETS
from fairlead.names import HOME_ENV
from fairlead.registry import MetricPoint, Registry, open_registry
from fairlead.training.checkpoints.format import BLOCKED
from fairlead.training.checkpoints.tensor_file import TensorFile
from fairlead.training.watch.metrics import LOGGING_SHARE

COPIES = 7
SAVE_EVERY, STEPS_A_SAVE = 10, 100
# The first steps load code and make room in memory.
WARM_STEPS = 5
SETTINGS = {
    "data.format": "tsv",
    "data.header": "false",
    "data.quoting": "false",
    "tokenization.max_length": "16",
    "training.batch_size": "2",
    "training.threads": "1",
    "training.processes": "1",
    "training.precision": "bf16",
    "training.eval_every_steps": "100000",
    "training.checkpoint_every_steps": str(SAVE_EVERY),
    "training.max_steps": "100000",
    "training.epochs": "1000",
}


def main() -> None:
    """Run once, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=14, help="layers of the model; 14 are 122 M parameters")
    parser.add_argument("--steps", type=int, default=45, help="steps before it is told to stop")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and leave the page alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ[HOME_ENV] = home
        found = measure(Path(home), arguments.depth, arguments.steps)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    table = _table(found)
    print(table)
    tables.write("checkpoints", "python -m benchmarks.checkpoints", table)


def measure(home: Path, depth: int, steps: int) -> dict[str, Any]:
    """The figures; times in seconds."""
    process = subprocess.Popen(_command(depth), stdout=sys.stderr, env=os.environ)
    try:
        _wait_for(steps, process)
        told = time.time()
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    finally:
        process.kill()
    ended = time.time()
    with open_registry() as registry:
        curves = {name: _curve(registry, name) for name in ("loss", BLOCKED, LOGGING_SHARE)}
    newest = max(home.glob("checkpoints/*/step-*/state.json"))
    step = _seconds_a_step(curves["loss"])
    blocked = [point.value for point in curves[BLOCKED]]
    return {
        "parameters": _parameters(newest.with_name("model.safetensors")),
        "bytes": sum(path.stat().st_size for path in newest.parent.iterdir()),
        "seconds_a_step": step,
        "blocked": blocked,
        "copy_cpu_seconds": _copy_seconds(newest.parent),
        "blocked_share": max(blocked) / (STEPS_A_SAVE * step),
        "logging_share": curves[LOGGING_SHARE][-1].value,
        "stop_to_durable": newest.stat().st_mtime - told,
        "stop_to_exit": ended - told,
        "exit_code": code,
        "steps_lost": curves["loss"][-1].step - int(newest.parent.name.removeprefix("step-")),
    }


def _command(depth: int) -> list[str]:
    settings = SETTINGS | {"model.depth": str(depth)}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    # Columns without a header have numbers for names.
    words += ["--set", 'data.label="0"', "--set", 'data.text="1"']
    source = str(DATASETS / "sms-spam" / "SMSSpamCollection")
    program = [sys.executable, "-m", "fairlead.cli.main", "run", "--data", source, "--project", "checkpoints"]
    return [*program, *words, "--until", "train"]


def _wait_for(steps: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        if process.poll() is not None:
            raise SystemExit(f"the run ended with exit code {process.returncode} before step {steps}")
        time.sleep(1)
        with open_registry() as registry:
            if any(point.step >= steps for point in _curve(registry, "loss")):
                return


def _curve(registry: Registry, name: str) -> list[MetricPoint]:
    runs = registry.list_runs("checkpoints")
    return registry.metric_history(runs[0].run_id, name) if runs else []


def _seconds_a_step(losses: list[MetricPoint]) -> float:
    kept = [point for point in losses if point.step > WARM_STEPS]
    return (kept[-1].time - kept[0].time) / (kept[-1].step - kept[0].step)


def _parameters(weights: Path) -> int:
    """Numbers in a safetensors file, by the shapes of its header."""
    with safe_open(weights, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _copy_seconds(folder: Path) -> float:
    """Processor time of the copy that a save blocks training by, on one thread: the median of several."""
    torch.set_num_threads(1)
    parts = [load_file(path) for path in folder.glob("*.safetensors")]
    files = [TensorFile(tensors) for tensors in parts]
    times = []
    for _ in range(COPIES):
        started = time.thread_time()
        for file, tensors in zip(files, parts, strict=True):
            file.fill(tensors)
        times.append(time.thread_time() - started)
    return statistics.median(times)


def _table(found: dict[str, Any]) -> str:
    blocked = found["blocked"]
    rows = [
        ["model", f"{found['parameters'] / 1e6:.0f} M parameters, checkpoint {found['bytes'] / 1e9:.2f} GB", ""],
        ["a step", f"{found['seconds_a_step']:.2f} s", ""],
        ["training blocked by a save", f"at most {max(blocked):.3f} s in {len(blocked)}", "0.3 s"],
        ["the same copy alone, processor time", f"{found['copy_cpu_seconds']:.3f} s", ""],
        ["share of the run, one save every 100 steps", f"{100 * found['blocked_share']:.2f} %", "0.5 %"],
        ["metrics, share of the run", f"{100 * found['logging_share']:.2f} %", "0.5 %"],
        ["SIGTERM to a durable checkpoint", f"{found['stop_to_durable']:.1f} s", "15 s"],
        ["SIGTERM to the exit of `fairlead run`", f"{found['stop_to_exit']:.1f} s, code {found['exit_code']}", ""],
        ["steps done and not kept", str(found["steps_lost"]), "0"],
    ]
    return tables.markdown(["figure", "measured", "limit"], rows)


if __name__ == "__main__":
    main()
