"""Addresses as they may be printed."""

import io
import json

import pytest

from fairlead.storage.redaction import RedactingStream, redact, redact_text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("data/tickets.csv", "data/tickets.csv"),
        ("/a?b@c", "/a?b@c"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("hf://datasets/org/repo/a.csv@main", "hf://datasets/org/repo/a.csv@main"),
        ("https://user:pw@host:8443/x.csv", "https://***@host:8443/x.csv"),
        ("https://token@host/x", "https://***@host/x"),
        ("https://a:b@c@host/x", "https://***@host/x"),
        ("https://host/x?X-Amz-Signature=s&format=csv", "https://host/x?X-Amz-Signature=***&format=***"),
        ("https://host/x?secret", "https://host/x?***"),
        ("https://host/x#access_token=s", "https://host/x"),
        ("https://[bad/x?s", "https://***"),
        ("postgresql://u:p@host/db", "postgresql://***@host/db"),
    ],
)
def test_an_address_is_printed_without_credentials(address: str, shown: str) -> None:
    assert redact(address) == shown


def test_addresses_within_a_text_are_redacted() -> None:
    text = "cannot open 'https://u:p@h/x?sig=1' (see http://h/y), then https://h/z?k=v."
    assert redact_text(text) == "cannot open 'https://***@h/x?sig=***' (see http://h/y), then https://h/z?k=***"


def test_a_stream_writes_no_credentials() -> None:
    address, file = "https://bob:hun'ter\"2@h/x?sig=ü", io.BytesIO()
    stream = RedactingStream(file, {"data": {"source": address, "extra": [address]}, "epochs": 3})
    print(f"plain {address}, JSON {json.dumps(address)}, repr {address!r}, other http://u:p@h/y?k=v.", file=stream)
    print(f"{address.partition('?')[0]}?***", file=stream)
    shown = "https://***@h/x?sig=***"
    assert file.getvalue().decode() == (
        f"plain {shown} JSON \"{shown}\", repr '{shown}', other http://***@h/y?k=***\nhttps://***@h/x?***\n"
    )


def test_the_alias_of_a_model_version_is_no_user() -> None:
    assert redact("fairlead://support_topics@champion") == "fairlead://support_topics@champion"
