"""Real servers for the contract suites."""

from tests.postgres import postgres_server, postgres_url  # noqa: F401
