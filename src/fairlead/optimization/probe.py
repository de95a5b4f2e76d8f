"""Load time and memory of variants, each in a process of its own.

    python -m fairlead.optimization.probe <request.json>

The request names the variants of one runtime. This process imports the runtime and no other, and forks for each
variant: the child loads it, answers one batch, and prints one line of JSON with its name, seconds and bytes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from fairlead import orphans
from fairlead.config import Config
from fairlead.formats.atomic import write_json
from fairlead.formats.variants import VariantRecord

SECONDS = 600


class Request(Config):
    """What to load."""

    folder: str
    """Folder that the variants' files are relative to."""
    pad_token_id: int
    """Id that fills a batch."""
    variants: list[VariantRecord]
    """Variants of one runtime."""
    batch: list[list[int]] = Field(min_length=1)
    """Token ids of the texts of one batch."""
    threads: int
    """Threads of the variants."""
    device: str
    """Where torch computes: cpu or cuda."""


def probe(request: Request) -> dict[str, dict[str, Any]]:
    """`load_seconds` and `memory_bytes` by the name of the variant; one that could not be loaded is left out."""
    with tempfile.TemporaryDirectory(prefix="fairlead-probe-") as temporary:
        path = Path(temporary, "request.json")
        write_json(path, request.to_dict())
        command = [sys.executable, "-m", "fairlead.optimization.probe", str(path)]
        environment = {**os.environ, **orphans.environment(), "OMP_NUM_THREADS": str(request.threads)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=SECONDS, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line.pop("name"): line for line in lines}


def by_runtime(variants: Sequence[VariantRecord]) -> list[list[VariantRecord]]:
    """The variants in groups of one runtime."""
    runtimes = dict.fromkeys(variant.runtime for variant in variants)
    return [[variant for variant in variants if variant.runtime == runtime] for runtime in runtimes]


def _load(request: Request, variant: VariantRecord) -> dict[str, Any]:
    from fairlead.variants.opening import open_variant

    started = time.perf_counter()
    runner = open_variant(Path(request.folder), variant, request.pad_token_id, request.threads, request.device)
    runner.run(request.batch)
    seconds = time.perf_counter() - started
    return {"name": variant.name, "load_seconds": seconds, "memory_bytes": psutil.Process().memory_info().rss}


def _import(runtime: str) -> None:
    """What the children are to find imported."""
    if runtime == "torch":
        import fairlead.variants.torch_runner
    elif runtime == "openvino":
        import fairlead.variants.openvino_runner
    else:
        import fairlead.variants.onnx_runner  # noqa: F401


def main(path: str) -> int:
    """Measure the variants of the request in a file."""
    orphans.end_with_parent()
    request = Request.parse(json.loads(Path(path).read_text("utf-8")), where=path)
    _import(request.variants[0].runtime)
    for variant in request.variants:
        sys.stdout.flush()
        own, child = os.getpid(), os.fork()
        if child == 0:
            # Whatever happens, the child must not go on with the parent's loop.
            try:
                orphans.watch(own)
                os.write(1, (json.dumps(_load(request, variant)) + "\n").encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
