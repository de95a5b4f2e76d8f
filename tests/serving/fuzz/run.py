"""The fuzz run: malformed calls in REST, gRPC and raw HTTP, by a seed.

    python -m tests.serving.fuzz.run --calls 12000 --seed 0

No call may give a 5xx, a 200 that a second reading of the protocol does not allow, or a refusal of what it allows;
the server must live, answer right afterwards, and use no more memory than before.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.serving.conftest import Server, running
from tests.serving.fuzz import raw_http, rest, rpc, schema
from tests.serving.fuzz.tally import Tally, resident_bytes
from tests.tiny import make_version

# Share of all calls; the schema's are the slowest to draw.
SHARES = {rest: 0.45, rpc: 0.3, raw_http: 0.15, schema: 0.1}
# Allocators keep some of what they had; a leak of a request's body would be far more.
MOST_GROWTH_BYTES = 32 << 20


def fuzz(server: Server, calls: int, seed: int) -> Tally:
    """All kinds of calls on a running server."""
    tally = Tally()
    for part, share in SHARES.items():
        address = server.grpc if part is rpc else server.http
        part.run(address, int(calls * share), seed, tally)
        assert server.process.poll() is None, f"the server ended in {part.__name__}"
    assert server.post(rest.V1, json={"instances": ["my card"]}).status_code == 200
    return tally


def main() -> int:
    """Warm up with a tenth of the calls, run all, print the table; 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        version = make_version(Path(folder) / "version", number=3)
        with running(version, "--model_name", "support-topics", "--log-level", "warning") as server:
            fuzz(server, options.calls // 10, options.seed + 1)
            before = resident_bytes(server.process.pid)
            tally = fuzz(server, options.calls, options.seed)
            growth = resident_bytes(server.process.pid) - before
    print(tally.table())
    print(
        f"\n{tally.calls} calls, {tally.malformed} refused, {len(tally.wrong)} answered wrong (seed {options.seed}).",
        end=" ",
    )
    print(
        f"Memory: {before / 2**20:.0f} MiB before, {growth / 2**20:+.1f} MiB. "
        f"It took {time.monotonic() - started:.0f} s."
    )
    print("\n".join(tally.wrong[:40]), file=sys.stderr)
    return int(bool(tally.wrong) or growth > MOST_GROWTH_BYTES)


if __name__ == "__main__":
    sys.exit(main())
