"""Addresses as they may be printed: without credentials."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from fairlead.names import VERSION_SCHEME

HIDDEN = "***"

# The query of an address without its host, as a relative redirect names it.
_QUERY = re.compile(r"(?<=[\w/.*-])\?[^\s'\"<>]+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def redact(address: str) -> str:
    """The address without user name, password, fragment and values of the query; a path stays as it is.

    A presigned URL is a credential, and which names of a query are secret differs by vendor:
    so every value is hidden and the names are kept. In the name of a model version the @ is an alias's.
    """
    if "://" not in address or address.startswith(VERSION_SCHEME):
        return address
    try:
        parts = urlsplit(address)
        host, query = parts.netloc.rpartition("@")[2], parts.query.split("&")
    except ValueError:
        return address.partition("://")[0] + "://" + HIDDEN
    user = f"{HIDDEN}@" if "@" in parts.netloc else ""
    names = "&".join(f"{part.partition('=')[0]}={HIDDEN}" if "=" in part else HIDDEN for part in query)
    return f"{parts.scheme}://{user}{host}{parts.path}" + (f"?{names}" if parts.query else "")


def redact_text(text: str) -> str:
    """`text` (another library's message) with every URL in it redacted."""
    return _URL.sub(lambda match: redact(match[0]), text)


class RedactingFilter(logging.Filter):
    """Redacts every address in the messages of another library's logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, without credentials."""
        record.msg, record.args = _QUERY.sub(f"?{HIDDEN}", redact_text(record.getMessage())), ()
        return True


def secret_addresses(value: Any) -> Iterator[str]:
    """The addresses with something to hide among plain values (settings, arguments)."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from secret_addresses(item)
    elif isinstance(value, str) and redact(value) != value:
        yield value


class RedactingStream(io.TextIOWrapper):
    """Text for a log that other libraries print to: every address in what is written is redacted."""

    def __init__(self, file: BinaryIO, values: Any) -> None:
        """`values` may hold addresses that no pattern finds in a text, such as one with a quote in its password."""
        super().__init__(file, encoding="utf-8", errors="backslashreplace", write_through=True)
        addresses = list(secret_addresses(values))
        users = [before for before in (address.rpartition("@")[0] for address in addresses) if before]
        # The address first; then its beginning, for a text in which only the query is hidden already.
        pairs = [(a, redact(a)) for a in addresses] + [(u, u.partition("://")[0] + f"://{HIDDEN}") for u in users]
        self._known = {
            spelt: shown for plain, shown in pairs for spelt in (plain, json.dumps(plain)[1:-1], repr(plain)[1:-1])
        }

    def write(self, text: str) -> int:
        """Write `text` without credentials; gives the length of `text`."""
        shown = text
        for spelt, redacted in self._known.items():
            shown = shown.replace(spelt, redacted)
        super().write(redact_text(shown))
        return len(text)
