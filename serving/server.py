"""The model server's program: arguments, start, ready line, drain.

kserve's ModelServer binds every address, unloads its models while requests still run and reads its
arguments when it is imported; so the server is put together here from kserve's routes and servicer.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import uvicorn
import uvloop

from fairlead.errors import ConfigError, FairleadError
from fairlead.stage import disk_sentence
from serving.journal_options import add_arguments
from serving.requestlog import set_format

if TYPE_CHECKING:
    from fairlead.inference.engine import Engine
    from serving.asgi import Handler
    from serving.desk import Desk

logger = logging.getLogger("fairlead.serving")

# Where KServe's storage initializer puts the model.
MOUNTED_MODEL = "/mnt/models"
HTTP_PORT, GRPC_PORT = 8080, 8081
# Within the 45 s that a pod is given to end, the 5 s of its preStop sleep taken off.
GRACE_SECONDS = 35
# Longer than the 60 s after which proxies let go of idle connections, or they race the server for them.
KEEP_ALIVE_SECONDS = 65


class _Parser(argparse.ArgumentParser):
    """Argument mistakes end as every other mistake: in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"serving: {message}; see python -m serving --help")


def build_parser() -> argparse.ArgumentParser:
    """The arguments, spelled as KServe's runtimes spell them."""
    parser = _Parser(prog="python -m serving", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--model",
        default=MOUNTED_MODEL,
        help="project, project:3 or project@alias; or the folder of a version (with a / in it). Default: %(default)s",
    )
    parser.add_argument("--model_name", help="name of the model on the endpoint. Default: its project")
    parser.add_argument(
        "--host",
        default=os.environ.get("FAIRLEAD_HOST") or "127.0.0.1",
        help="address to listen on; 0.0.0.0 for all. Default: FAIRLEAD_HOST, or this machine only",
    )
    parser.add_argument("--http_port", type=int, help=f"0 takes a free one. Default: {HTTP_PORT}")
    parser.add_argument("--grpc_port", type=int, help=f"0 takes a free one. Default: {GRPC_PORT}")
    parser.add_argument("--free-port", action="store_true", help="take free ports where none is named")
    parser.add_argument("--workers", type=int, choices=[1], default=1, help="processes; only 1 for now")
    parser.add_argument(
        "--log-level", choices=["debug", "info", "warning"], default="info", help="debug: also tracebacks"
    )
    add_arguments(parser)
    # For whoever starts this server with a pipe as its standard input: the end of the pipe ends it.
    parser.add_argument("--die-with-parent", action="store_true", help=argparse.SUPPRESS)
    return parser


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
        if options.die_with_parent:
            _die_with_parent()
        return _serve_model(options)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        logger.debug("the server ends", exc_info=error)
        sentence, code = _describe(error)
        print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
        return code


def _describe(error: Exception) -> tuple[str, int]:
    """The sentence of a failure, and the exit code."""
    if isinstance(error, FairleadError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return disk_sentence("serving", error), 1
    return f"serving: {type(error).__name__}: {error}; run again with --log-level debug and report it", 1


def _die_with_parent() -> None:
    """End by SIGTERM when the parent is gone, even by SIGKILL: its end of the standard input is closed then."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()


def _serve_model(options: argparse.Namespace) -> int:
    # Imported late: a wrong argument is answered before torch and kserve are read.
    from fairlead.inference.engine import Engine

    engine = Engine.load(_locate(options.model))
    default_http, default_grpc = (0, 0) if options.free_port else (HTTP_PORT, GRPC_PORT)
    http_port = default_http if options.http_port is None else options.http_port
    grpc_port = default_grpc if options.grpc_port is None else options.grpc_port
    name = options.model_name or engine.manifest.project
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(engine, name, options, http_port, grpc_port))
    return 0


def _locate(model: str) -> Path:
    if "/" in model:
        return Path(model)
    from fairlead.registry.fetching import fetch_version

    return fetch_version(model)


async def _serve(engine: "Engine", name: str, options: argparse.Namespace, http_port: int, grpc_port: int) -> None:
    from fairlead.inference.repository import Repository, Served
    from serving.desk import Desk
    from serving.journal import Journal
    from serving.journal_rest import JournalDoor
    from serving.metrics_observers import EngineMetrics, loaded
    from serving.rpc import build_server

    host = options.host
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(_bind(host, http_port)))
        journal = stack.enter_context(contextlib.closing(Journal(options)))
        served = Served(name, engine, observer=EngineMetrics())
        repository = stack.enter_context(contextlib.closing(Repository([served])))
        desk = Desk(journal.observers)
        desk.open(repository)
        loaded(served)
        about = stack.enter_context(contextlib.closing(JournalDoor(desk, journal.log)))
        rpc, grpc_port = build_server(desk, host, grpc_port)
        rest = _Rest(_uvicorn_config(desk, about.handlers()))
        stopping = _stop_on_signals()
        serving = asyncio.create_task(rest.serve(sockets=[listening]))
        await rpc.start()
        await _wait_until_answering(rest, serving)
        _say_ready(engine, name, _address(host, listening.getsockname()[1]), _address(host, grpc_port))
        await asyncio.wait([serving, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
        desk.drain()
        rest.should_exit = True
        await asyncio.gather(serving, rpc.stop(GRACE_SECONDS))


async def _wait_until_answering(rest: "_Rest", serving: "asyncio.Task[None]") -> None:
    """Wait for the REST door to open. Raises what kept it shut."""
    answering = asyncio.create_task(rest.answering.wait())
    await asyncio.wait([serving, answering], return_when=asyncio.FIRST_COMPLETED)
    if not rest.answering.is_set():
        answering.cancel()
        await serving
        raise FairleadError("serving: the REST server ended before it answered; see its log above")


def _uvicorn_config(desk: "Desk", more: "Sequence[tuple[str, str, Handler]]" = ()) -> uvicorn.Config:
    from serving.rest import RestDoor

    return uvicorn.Config(
        RestDoor(desk, more),
        interface="asgi3",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


class _Rest(uvicorn.Server):
    """uvicorn's server, which leaves the signals to the program: there is a second door to close."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise FairleadError("serving: the REST server cannot start; see its log above") from error
        # Some releases of uvicorn return from a startup that failed.
        if self.started:
            self.answering.set()


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--http_port: {_address(host, port)} cannot be bound ({error}); choose another port, or --free-port"
        ) from error


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _say_ready(engine: "Engine", name: str, http: str, grpc: str) -> None:
    """The one line on stdout, for whoever started this process and waits."""
    manifest = engine.manifest
    line = {"http": f"http://{http}", "grpc": grpc, "model": name, "version": manifest.name, "digest": manifest.digest}
    print(json.dumps(line), flush=True)
