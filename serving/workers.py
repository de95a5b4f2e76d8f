"""Several processes on one pair of ports, and one more that starts them, starts them again, and hands on signals.

HTTP: all accept from one listening socket, so a connection that waits is anyone's. gRPC: each binds the port for
itself, and the kernel spreads connections. Each worker has its own copy of the models and its share of the cores.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fairlead.errors import ConfigError
from serving.listening import address, bind
from serving.options import GRACE_SECONDS, ports

logger = logging.getLogger("fairlead.serving")

# A worker that ends sooner than this after its start is not started again at once.
STEADY_SECONDS = 60.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 30.0
# After their grace workers are ended by force.
FORCE_SECONDS = GRACE_SECONDS + 5.0
METRICS_ENV = "PROMETHEUS_MULTIPROC_DIR"


def supervise(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run `--workers` processes until told to end; returns the exit code."""
    http_port, grpc_port = ports(options)
    with (
        _metrics_folder(),
        contextlib.closing(bind(options.host, http_port)) as http,
        contextlib.closing(_hold(options.host, grpc_port)) as grpc,
    ):
        return asyncio.run(Supervisor(options, argv, http, grpc).run())


@contextlib.contextmanager
def _metrics_folder() -> Iterator[None]:
    """Where the workers put what they count, so that each can answer for all."""
    if os.environ.get(METRICS_ENV):
        yield
        return
    folder = os.environ[METRICS_ENV] = tempfile.mkdtemp(prefix="fairlead-metrics-")
    try:
        yield
    finally:
        del os.environ[METRICS_ENV]
        shutil.rmtree(folder, ignore_errors=True)


def _hold(host: str, port: int) -> socket.socket:
    """A socket that keeps a port for the workers, who bind it too, and never listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # A server that shares its ports would let this one in: without the option the port has to be free.
        with socket.socket(family) as alone:
            alone.bind((host, port))
            port = alone.getsockname()[1]
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
        return held
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--grpc_port: {address(host, port)} cannot be bound ({error}); choose another port, or --free-port"
        ) from error


class Supervisor:
    """The process that starts the workers."""

    def __init__(
        self, options: argparse.Namespace, argv: Sequence[str], http: socket.socket, grpc: socket.socket
    ) -> None:
        self._options, self._argv, self._http, self._grpc = options, list(argv), http, grpc
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ending = asyncio.Event()
        self._code = 0
        self._ready: list[dict[str, Any]] = []
        self._first_ready = asyncio.Event()

    async def run(self) -> int:
        """Start the first worker, then the others, and keep them all until told to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        keeping = [asyncio.create_task(self._keep(0))]
        await asyncio.wait(
            [asyncio.create_task(self._first_ready.wait()), *keeping], return_when=asyncio.FIRST_COMPLETED
        )
        if not self._ending.is_set():
            # What the first one serves, all serve: an alias may move in between.
            self._pin(self._ready[0]["models"])
            keeping += [asyncio.create_task(self._keep(index)) for index in range(1, self._options.workers)]
        await asyncio.gather(*keeping)
        return self._code

    def _pin(self, models: Sequence[dict[str, Any]]) -> None:
        """Replace aliases by the versions that they named; followed ones move together."""
        given = self._options.model
        if given is None or self._options.follow:
            return
        for text, model in zip(given, models, strict=True):
            source = text.partition("=")[2] or text
            if "/" not in source:
                self._argv[self._argv.index(text)] = f"{model['name']}={model['project']}:{model['number']}"

    async def _keep(self, index: int) -> None:
        """Run one worker, again and again."""
        pause = FIRST_PAUSE_SECONDS
        while not self._ending.is_set():
            started = time.monotonic()
            process = self._running[index] = await self._start()
            await self._read_ready(process)
            code = await process.wait()
            del self._running[index]
            # Here, and not above: what it counts with is decided by METRICS_ENV when it is imported.
            from serving.metrics import worker_ended

            worker_ended(process.pid)
            if self._ending.is_set():
                # One that was still starting had nothing to finish.
                self._code = self._code or int(code not in (0, -signal.SIGTERM))
                return None
            if not self._first_ready.is_set():
                # The worker has said why.
                self._code = code if code > 0 else 1
                return self._end(signal.SIGTERM)
            pause = FIRST_PAUSE_SECONDS if time.monotonic() - started > STEADY_SECONDS else pause
            logger.error("worker %d (process %d) ended with %d; another starts", index, process.pid, code)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return None

    async def _start(self) -> asyncio.subprocess.Process:
        fd, port = self._http.fileno(), self._grpc.getsockname()[1]
        threads = self._options.threads or max(1, len(os.sched_getaffinity(0)) // self._options.workers)
        inherited = f"{fd},{port},{int(self._first_ready.is_set())}"
        more = ["--inherit", inherited, "--threads", str(threads), "--die-with-parent"]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", "serving", *self._argv, *more),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[fd],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            # Ctrl-C reaches the whole group of a terminal; the workers hear of it from here, once.
            start_new_session=True,
        )

    async def _read_ready(self, process: asyncio.subprocess.Process) -> None:
        """Wait for the worker's ready line, and say the server's own once all are ready for the first time."""
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            return
        logger.info("worker process %d is ready", process.pid)
        self._ready.append(json.loads(line))
        self._first_ready.set()
        if len(self._ready) == self._options.workers:
            print(json.dumps(self._ready[0]), flush=True)

    def _end(self, number: int) -> None:
        """Hand a signal on to the workers, and start none any more."""
        if not self._ending.is_set():
            # The workers listen on for a moment; a socket open here would take connections that nobody answers.
            self._http.close()
            asyncio.get_running_loop().call_later(FORCE_SECONDS, self._send, signal.SIGKILL)
        self._ending.set()
        self._send(number)

    def _send(self, number: int) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
