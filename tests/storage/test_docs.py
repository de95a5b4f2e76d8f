"""The storage page says what the code does."""

import re
from pathlib import Path

from fairlead.storage import contract, directory, s3, s3_settings, sources

PAGE = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")


def test_every_aws_variable_on_the_page_is_read_and_every_one_read_is_on_the_page() -> None:
    code = "".join(Path(module.__file__ or "").read_text(encoding="utf-8") for module in (s3, s3_settings))
    read = set(re.findall(r'environ\.get\("([A-Z0-9_]+)"\)', code))
    table = PAGE.partition("## S3 settings")[2].partition("##")[0]
    assert set(re.findall(r"`([A-Z][A-Z0-9_]+)`", table)) == read


def test_the_numbers_and_names_on_the_page_are_those_of_the_code() -> None:
    assert f"{contract.MAX_KEY_BYTES:,} bytes, each part at most {contract.MAX_SEGMENT_BYTES}" in PAGE
    assert f"`{contract.RESERVED_PREFIX}`" in PAGE and f"`{directory.UNFINISHED}/`" in PAGE
    assert directory.UNFINISHED_SECONDS == 24 * 3600


def test_every_kind_of_address_on_the_page_is_that_of_the_code() -> None:
    schemes = re.compile(r"(\w+)://")
    table = PAGE.partition("## Where data")[2].partition("##")[0]
    assert set(schemes.findall(table)) == set(schemes.findall(sources.__doc__ or ""))
