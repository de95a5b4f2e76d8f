"""The exceptions of Fairlead, one tree.

    FairleadError                 (exit 1, a retry may help)
    ├── UserError                 (exit 2, a retry cannot help)
    │   ├── ConfigError           a setting is unknown, of the wrong type or out of range
    │   ├── DataError             the data cannot be used as it is
    │   ├── NotFound              a thing that was named does not exist
    │   ├── Conflict              the request contradicts what is recorded
    │   ├── GateFailed            a model is not good enough to go on
    │   ├── IntegrityError        bytes differ from the digest recorded for them
    │   └── BrokenLink            what a version came from is gone or changed
    ├── StorageError              the object store or the disk did not do what was asked
    ├── RegistryError             the registry's database did not do what was asked
    ├── TrainingError             training stopped (a rank died or hangs)
    │   ├── NumericalError        the loss or the gradient is not a number (exit 2, a retry cannot help)
    │   ├── Stopped               it was told to, and its state is kept
    │   └── MemoryExceeded        one row alone does not fit into memory (exit 2, a retry cannot help)
    ├── ClusterError              Kubernetes or Kubeflow Pipelines did not do what was asked
    ├── InferenceError            a model failed on a text, or on everything
    └── Overloaded                there is no room for the request now
        └── DeadlineExceeded      the request waited longer than its caller wants to

Every message reads `<where>: <what is wrong>; <what to do>`. Exceptions of other
libraries are translated at the door where they enter, with the cause chained.
"""


class FairleadError(Exception):
    """Root of the tree.

    `exit_code` is what a command line ends with (1: ours, 2: the user's mistake).
    `retryable` says whether running the same thing again can help.
    """

    exit_code = 1
    retryable = True


class UserError(FairleadError):
    """The caller has to change something; running again cannot help."""

    exit_code = 2
    retryable = False


class ConfigError(UserError):
    """A setting is unknown, of the wrong type or out of its range."""


class DataError(UserError):
    """The data cannot be used as it is."""


class NotFound(UserError):
    """A thing that was named does not exist."""


class Conflict(UserError):
    """The request contradicts what is recorded."""


class GateFailed(UserError):
    """A model is not good enough to go on."""


class IntegrityError(UserError):
    """Bytes differ from the digest that was recorded for them."""


class BrokenLink(UserError):
    """What a version came from is gone or changed; `link` names which: data, base, parent."""

    exit_code = 5

    def __init__(self, message: str, link: str = "") -> None:
        super().__init__(message)
        self.link = link


class StorageError(FairleadError):
    """The object store or the disk did not do what was asked."""


class RegistryError(FairleadError):
    """The registry's database did not do what was asked."""


class TrainingError(FairleadError):
    """Training stopped before its end."""


class NumericalError(TrainingError):
    """The loss or the gradient is not a number; the same settings and data give it again."""

    exit_code = 2
    retryable = False


class Stopped(TrainingError):
    """Training was told to stop, and has kept its state."""


class MemoryExceeded(TrainingError):
    """One row alone does not fit into memory."""

    exit_code = 2
    retryable = False


class ClusterError(FairleadError):
    """Kubernetes or Kubeflow Pipelines did not do what was asked."""


class InferenceError(FairleadError):
    """A model failed on a text that is no mistake of the caller's, or fails on everything."""


class Overloaded(FairleadError):
    """There is no room for the request now; it may be sent again after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceeded(Overloaded):
    """The request was not answered within the time that its caller gave it."""
