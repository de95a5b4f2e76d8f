"""`fairlead`: the command line.

Only typer and the standard library are imported here and at the top of every command file; whatever
is heavy (kfp, SQLAlchemy, torch, polars) is imported inside the command that needs it, so that
`fairlead --help` and completion answer at once.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

from fairlead import __version__, openmp
from fairlead.cli import data, feedback, models, registry, runs, settings, store
from fairlead.cli.compile import compile_
from fairlead.cli.deploy import deploy
from fairlead.cli.doctor import doctor
from fairlead.cli.failures import report
from fairlead.cli.lr_find import lr_find
from fairlead.cli.optimize import optimize
from fairlead.cli.predict import predict
from fairlead.cli.promote import promote, rollback
from fairlead.cli.replay import replay
from fairlead.cli.reproduce import reproduce
from fairlead.cli.run import run
from fairlead.cli.serve import serve
from fairlead.cli.status import status
from fairlead.cli.trace import trace
from fairlead.stage import EXIT_TERMINATED

app = typer.Typer(
    name="fairlead",
    help="From labelled text to a versioned, provable, served model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command("lr-find")(lr_find)
app.command("compile")(compile_)
app.command()(serve)
app.command()(predict)
app.command()(reproduce)
app.command()(optimize)
app.command()(trace)
app.command()(replay)
app.command()(deploy)
app.command()(status)
app.command()(doctor)
app.command()(promote)
app.command()(rollback)
app.add_typer(models.app, name="models")
app.add_typer(runs.app, name="runs")
app.add_typer(data.app, name="data")
app.add_typer(feedback.app, name="feedback")
app.add_typer(store.app, name="store")
app.add_typer(registry.app, name="registry")
app.add_typer(settings.app, name="config")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"fairlead {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="On a failure, print the traceback too. Works anywhere.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; the console script `fairlead`."""
    arguments, debug = _take_debug(list(sys.argv[1:] if arguments is None else arguments))
    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 gets question marks, not a failure.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # For the stages and servers that are started from here, and for torch when it is imported here.
    os.environ.update(openmp.environment())
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(arguments, prog_name="fairlead", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left (`fairlead models list | head -1`); nothing may be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        return report(error, debug)
    return code if isinstance(code, int) else 0


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Find `--debug` before or after the command's name, but not among plain texts after `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return options + arguments[end:], len(options) < end


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that children that were started are stopped on the way out.
    raise SystemExit(EXIT_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
