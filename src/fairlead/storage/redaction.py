"""Addresses as they may be printed: without credentials."""

import re
from urllib.parse import parse_qsl, urlsplit

HIDDEN = "***"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def redact(address: str) -> str:
    """The address without user name, password, fragment and values of the query; a path stays as it is.

    A presigned URL is a credential, and which names of a query are secret differs by vendor:
    so every value is hidden and the names are kept.
    """
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
        host, query = parts.netloc.rpartition("@")[2], parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return address.partition("://")[0] + "://" + HIDDEN
    user = f"{HIDDEN}@" if "@" in parts.netloc else ""
    names = "&".join(f"{name}={HIDDEN}" for name, _ in query) if query else HIDDEN
    return f"{parts.scheme}://{user}{host}{parts.path}" + (f"?{names}" if parts.query else "")


def redact_text(text: str) -> str:
    """`text` (another library's message) with every URL in it redacted."""
    return _URL.sub(lambda match: redact(match[0]), text)
