"""The arguments of the logs. Nothing heavy is imported: a wrong argument is answered at once."""

import argparse

from fairlead.predictions.config import PredictionLogConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of all this."""
    config = PredictionLogConfig()
    parser.add_argument(
        "--prediction-log",
        choices=["on", "off"],
        default="on",
        help="write a record of every answer to the object store (FAIRLEAD_STORE). Default: on",
    )
    parser.add_argument(
        "--log-text",
        choices=["none", "hash", "full"],
        default=config.text,
        help="what the prediction log keeps of texts: nothing, their SHA-256, or all. Default: %(default)s",
    )
    parser.add_argument(
        "--log-flush-seconds",
        type=_seconds,
        default=config.flush_seconds,
        help="how long a record waits for others before it is written, 0.1 to 3600. Default: %(default)s",
    )
    parser.add_argument(
        "--log-format", choices=["json", "plain"], default="json", help="form of the log's lines. Default: json"
    )
    parser.add_argument(
        "--log-requests",
        choices=["on", "off", "text"],
        default="on",
        help="one line a request in the log; text: with its texts. Default: on",
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise ValueError(text)
    return value
