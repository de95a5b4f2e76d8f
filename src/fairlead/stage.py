"""What every stage of the pipeline has in common: how it fails.

A stage's entry is a function decorated with `@stage("ingest")`. Its exit code tells the
orchestrator whether a retry can help: 1 yes, 42 no (the code that Kubeflow's retry policies match).
"""

import functools
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fairlead.errors import FairleadError, StorageError
from fairlead.events import emit

EXIT_RETRY = 1
EXIT_DO_NOT_RETRY = 42
EXIT_TERMINATED = 143  # 128 + SIGTERM

P = ParamSpec("P")
R = TypeVar("R")


def stage(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a stage: its failure is one sentence, the last line of its log.

    The undecorated function is kept as `.inner` for callers that want the exception.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except FairleadError as error:
                message, code, retryable = str(error), error.exit_code, error.retryable
                kind = type(error).__name__
            except OSError as error:
                traceback.print_exc()
                message, code, retryable = disk_sentence(name, error), 1, True
                kind = StorageError.__name__
            except Exception as error:
                traceback.print_exc()
                message, code, retryable = defect_sentence(name, error), 1, True
                kind = FairleadError.__name__
            emit("failed", name, message=message, kind=kind, exit_code=code, retryable=retryable)
            sys.stderr.flush()
            print(f"error: {message}", flush=True)
            sys.exit(EXIT_RETRY if retryable else EXIT_DO_NOT_RETRY)

        run.inner = function  # type: ignore[attr-defined]
        return run

    return decorate


def defect_sentence(where: str, error: Exception) -> str:
    """The sentence for an exception that nobody foresaw, on one line however many its message has."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{where}: {reason}; this is a defect: see the traceback above it in the log"


def disk_sentence(where: str, error: OSError) -> str:
    """The sentence for a failure of the operating system, such as a full disk."""
    path = f" ({error.filename})" if error.filename else ""
    return f"{where}: {error.strerror or error}{path}; free space or correct the path, then run again"
