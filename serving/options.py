"""The arguments of the model server. Nothing heavy is imported: a wrong one is answered at once."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fairlead.errors import ConfigError
from serving.journal_options import add_arguments

# Where KServe's storage initializer puts the model.
MOUNTED_MODEL = "/mnt/models"
HTTP_PORT, GRPC_PORT = 8080, 8081
MAX_WORKERS = 64
# Within the 45 s that a pod is given to end, the 5 s of its preStop sleep taken off.
GRACE_SECONDS = 35.0
# For so long new connections still come after SIGTERM: 0.5 s were seen until every node knew that a pod ends.
LINGER_SECONDS = 2.0
_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)=(?P<source>.+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Wanted:
    """One version to serve."""

    source: str | Path
    """`support_topics@champion`, `support_topics:3`, or the folder of a version."""
    name: str | None
    """Its name on the endpoint; None for its project."""
    variant: str | None
    """The variant to run; None for the one that the version chose."""


class _Parser(argparse.ArgumentParser):
    """Argument mistakes end as every other mistake: in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"serving: {message}; see python -m serving --help")


def build_parser() -> argparse.ArgumentParser:
    """The arguments, spelled as KServe's runtimes spell them."""
    parser = _Parser(prog="python -m serving", description="Serve model versions.", allow_abbrev=False)
    parser.add_argument(
        "--model",
        action="append",
        metavar="[NAME=]MODEL",
        help="project, project:3 or project@alias; or the folder of a version (with a / in it). NAME is its name on "
        f"the endpoint. May be repeated; of several versions of one name the first is the default. "
        f"Default: {MOUNTED_MODEL}",
    )
    parser.add_argument("--model_name", help="name of the model on the endpoint. Default: its project")
    parser.add_argument("--variant", help="variant to run. Default: the one that the version chose")
    parser.add_argument(
        "--follow",
        type=_number("seconds", 0.01, 86_400),
        metavar="SECONDS",
        help="look so often where the alias of --model points, and take a new version over. Default: never",
    )
    parser.add_argument(
        "--model-control",
        choices=["none", "explicit"],
        default="none",
        help="explicit: callers may load registered versions and unload models. Default: %(default)s",
    )
    parser.add_argument(
        "--host",
        default=os.environ.get("FAIRLEAD_HOST") or "127.0.0.1",
        help="address to listen on; 0.0.0.0 for all. Default: FAIRLEAD_HOST, or this machine only",
    )
    parser.add_argument("--http_port", type=int, help=f"0 takes a free one. Default: {HTTP_PORT}")
    parser.add_argument("--grpc_port", type=int, help=f"0 takes a free one. Default: {GRPC_PORT}")
    parser.add_argument("--free-port", action="store_true", help="take free ports where none is named")
    parser.add_argument(
        "--workers",
        type=_count(MAX_WORKERS),
        default=1,
        metavar="N",
        help=f"processes that share the ports, each with its own copy of the models, 1 to {MAX_WORKERS}. "
        "Default: %(default)s",
    )
    parser.add_argument("--threads", type=_count(1024), help="threads that compute. Default: one a core")
    parser.add_argument(
        "--queue-ms",
        type=_number("milliseconds", 0, 3_600_000),
        help="how long a request may wait for its turn before it is refused. Default: measured",
    )
    parser.add_argument(
        "--linger",
        type=_number("seconds", 0, GRACE_SECONDS - 5),
        default=LINGER_SECONDS,
        metavar="SECONDS",
        help="how long new connections are taken after SIGTERM, while ready is false already. Default: %(default)s",
    )
    parser.add_argument(
        "--log-level", choices=["debug", "info", "warning"], default="info", help="debug: also tracebacks"
    )
    add_arguments(parser)
    # For whoever starts this server with a pipe as its standard input: the end of the pipe ends it.
    parser.add_argument("--die-with-parent", action="store_true", help=argparse.SUPPRESS)
    # What a worker inherits: the listening socket, and the port that all workers bind.
    parser.add_argument("--inherit", type=_inherited, help=argparse.SUPPRESS)
    return parser


@dataclass(frozen=True)
class Inherited:
    """What a worker gets from the process that started it."""

    http_fd: int
    """The socket that listens for HTTP."""
    grpc_port: int
    """The port of gRPC, which the process holds for its workers."""
    others_answer: bool = False
    """Whether other workers are ready already."""


def _inherited(text: str) -> Inherited:
    http_fd, grpc_port, others_answer = text.split(",")
    return Inherited(int(http_fd), int(grpc_port), others_answer == "1")


def _count(most: int) -> "type[int]":
    def count(text: str) -> int:
        value = int(text)
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from 1 to {most:,}")
        return value

    count.__name__ = "number"
    return count  # type: ignore[return-value]


def _number(unit: str, least: float, most: float) -> "type[float]":
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} {unit} are not from {least:g} to {most:g}")
        return value

    return number  # type: ignore[return-value]


def wanted_models(options: argparse.Namespace) -> list[Wanted]:
    """What is to be served. Raises ConfigError."""
    given: Sequence[str] = options.model or [MOUNTED_MODEL]
    if options.model_name is not None and (len(given) > 1 or not _NAME.fullmatch(options.model_name)):
        raise ConfigError(
            f"--model_name: {options.model_name!r} is no name for one model; with several write --model NAME=MODEL"
        )
    return [_wanted(text, options) for text in given]


def _wanted(text: str, options: argparse.Namespace) -> Wanted:
    match = _NAMED.fullmatch(text)
    name, source = (match["name"], match["source"]) if match else (options.model_name, text)
    return Wanted(Path(source) if "/" in source else source, name, options.variant)


def ports(options: argparse.Namespace) -> tuple[int, int]:
    """The ports to bind; 0 is a free one."""
    http, grpc = (0, 0) if options.free_port else (HTTP_PORT, GRPC_PORT)
    return (
        http if options.http_port is None else options.http_port,
        grpc if options.grpc_port is None else options.grpc_port,
    )
