"""The model server's program: one process from its start to its end.

kserve's ModelServer binds every address, unloads its models while requests still run and reads its
arguments when it is imported; so the server is put together here.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fairlead.errors import FairleadError
from fairlead.stage import disk_sentence
from serving.options import GRACE_SECONDS, build_parser, ports, wanted_models
from serving.requestlog import set_format

if TYPE_CHECKING:
    from fairlead.inference.config import ServingConfig
    from fairlead.inference.loading import Model
    from serving.desk import Desk

logger = logging.getLogger("fairlead.serving")

# For how long a thread keeps Python's lock from others that want it. The event loop takes it three times or more a
# request: beside one thread that reads a large body a byte's echo took 10 ms with Python's 5 ms, and 3 ms with this
# (lower quartiles, machine with a load of 11).
SWITCH_SECONDS = 0.0005


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("fairlead").setLevel(logging.INFO)
    # gRPC's C core writes past logging; what matters of it arrives as exceptions.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        options = build_parser().parse_args(argv)
        logging.getLogger("fairlead").setLevel(options.log_level.upper())
        set_format(options.log_format)
        return _run(options, argv)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        logger.debug("the server ends", exc_info=error)
        sentence, code = _describe(error)
        line = f"error: {' '.join(sentence.split())}"
        print(line, file=sys.stderr)
        _leave_reason(line)
        return code


def _describe(error: Exception) -> tuple[str, int]:
    """The sentence of a failure, and the exit code."""
    if isinstance(error, FairleadError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return disk_sentence("serving", error), 1
    return f"serving: {type(error).__name__}: {error}; run again with --log-level debug and report it", 1


def _leave_reason(line: str) -> None:
    """Kubernetes shows what a container wrote here as the reason of its end."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        with contextlib.suppress(OSError), open("/dev/termination-log", "w", encoding="utf-8") as file:
            file.write(line + "\n")


def _run(options: argparse.Namespace, argv: Sequence[str]) -> int:
    if options.die_with_parent:
        _die_with_parent()
    wanted_models(options)
    if options.workers > 1 and options.inherit is None:
        from serving.workers import supervise

        return supervise(options, argv)
    # Imported late: a wrong argument is answered before torch is read.
    import uvloop

    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options))
    return 0


def _die_with_parent() -> None:
    """End by SIGTERM when the parent is gone, even by SIGKILL: its end of the standard input is closed then."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()


async def _serve(options: argparse.Namespace) -> None:
    from fairlead.inference.repository import Repository
    from serving.control import Control
    from serving.desk import Desk
    from serving.journal import Journal
    from serving.journal_rest import JournalDoor
    from serving.lateness import watch_lateness
    from serving.listening import address, bind, rest_server, until_answering
    from serving.metrics_observers import EngineMetrics
    from serving.rest import RestDoor
    from serving.rpc import build_server
    from serving.starting import load_models, publish_states

    (http_port, grpc_port), inherited, host = ports(options), options.inherit, options.host
    with contextlib.ExitStack() as stack:
        listening = socket.socket(fileno=inherited.http_fd) if inherited else bind(host, http_port)
        stack.enter_context(contextlib.closing(listening))
        journal = stack.enter_context(contextlib.closing(Journal(options)))
        desk = Desk(journal.observers)
        repository = Repository(config=serving_config(options), observer=EngineMetrics())
        stack.enter_context(contextlib.closing(repository))
        about = stack.enter_context(contextlib.closing(JournalDoor(desk, journal.log)))
        control = Control(desk, repository, options.model_control == "explicit", alone=inherited is None)
        ending = Ending()
        loading = asyncio.create_task(load_models(wanted_models(options), repository, desk))
        if inherited and inherited.others_answer:
            # Whoever came to this one meanwhile would be refused, and the others have room.
            await ending.unless(loading)
        grpc_port = inherited.grpc_port if inherited else grpc_port
        rpc, grpc_port = build_server(desk, control, host, grpc_port, shared=inherited is not None)
        rest = rest_server(RestDoor(desk, control, about.handlers()), GRACE_SECONDS - options.linger)
        serving = asyncio.create_task(rest.serve(sockets=[listening]))
        try:
            await rpc.start()
            await until_answering(rest, serving)
            await ending.unless(serving, loading)
            beside = [asyncio.create_task(one) for one in (publish_states(repository, desk), watch_lateness())]
            if loading.done():
                http = address(host, listening.getsockname()[1])
                _say_ready(loading.result(), http, address(host, grpc_port))
                await ending.unless(serving)
            for task in (loading, *beside):
                task.cancel()
            await _linger(desk, ending, options.linger)
        finally:
            rest.should_exit = True
            await asyncio.gather(serving, rpc.stop(GRACE_SECONDS - options.linger))


def serving_config(options: argparse.Namespace) -> "ServingConfig":
    """The engine's settings, as far as arguments say something of them."""
    from fairlead.inference.config import ServingConfig

    given = {"threads": options.threads, "queue_milliseconds": options.queue_ms, "follow_seconds": options.follow}
    return ServingConfig(**{name: value for name, value in given.items() if value is not None})


class Ending:
    """Whether the program was told to end, and whether to hurry."""

    def __init__(self) -> None:
        self._told, self.hurry = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._tell, number)

    def _tell(self, number: int) -> None:
        # Ctrl-C is a person who waits, and a second signal one who has waited.
        if number == signal.SIGINT or self._told.is_set():
            self.hurry.set()
        self._told.set()

    async def unless(self, *tasks: "asyncio.Task[Any]") -> None:
        """Wait until the program is told to end, or one of the tasks is done."""
        told = asyncio.create_task(self._told.wait())
        await asyncio.wait([*tasks, told], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()


async def _linger(desk: "Desk", ending: Ending, seconds: float) -> None:
    """Not ready any more, and yet answering: who sends requests here learns of the end a moment later."""
    desk.drain()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ending.hurry.wait(), seconds)


def _say_ready(served: "Sequence[Model]", http: str, grpc: str) -> None:
    """The one line on stdout, for whoever started this process and waits."""
    # What was read at the start is never garbage; looking through it again would hold up requests.
    gc.collect()
    gc.freeze()
    first = served[0]
    line = {
        "http": f"http://{http}",
        "grpc": grpc,
        "model": first.name,
        "version": first.manifest.name,
        "digest": first.manifest.digest,
        "models": [
            {"name": one.name, "project": one.manifest.project, "number": one.manifest.version, "variant": one.variant}
            for one in served
        ],
    }
    print(json.dumps(line), flush=True)
