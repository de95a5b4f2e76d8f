"""How a command fails: one line on stderr and an exit code.

exit 0    done
exit 1    ours: the disk, the store, the cluster, a defect; running again may help
exit 2    the user's mistake, in the command line or in what it names; running again does not help
exit 130  Ctrl-C, and
exit 143  SIGTERM: training has kept its state, and the same command goes on from there

A stage in a pipeline's pod has two codes instead, 1 and 42: see fairlead.stage.

`fairlead reproduce` and `fairlead replay` say more with 3 to 6: see there.
"""

import sys
import traceback

from fairlead.errors import FairleadError

EXIT_OURS = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def report(error: BaseException, debug: bool) -> int:
    """Say on stderr what went wrong, in one line, and return the exit code; with `debug`, the traceback first."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if type(error).__name__ == "NoArgsIsHelpError":
        return EXIT_USER  # a group without a command: typer has printed its help
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    message, code = describe(error)
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def describe(error: BaseException) -> tuple[str, int]:
    """The sentence `<where>: <what is wrong>; <what to do>` of an exception, and its exit code."""
    if isinstance(error, FairleadError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        from fairlead.stage import disk_sentence

        return disk_sentence("fairlead", error), EXIT_OURS
    # Usage errors: typer's own or click's, according to typer's version; both have these two.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return _usage_sentence(error), EXIT_USER
    defect = f"{type(error).__name__}: {error}"
    return f"fairlead: {defect}; this is a defect: run again with --debug and report it", EXIT_OURS


def _usage_sentence(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "fairlead"
    message = error.format_message().strip().rstrip(".")  # type: ignore[attr-defined]
    return f"{command}: {message[:1].lower()}{message[1:]}; see {command} --help"
