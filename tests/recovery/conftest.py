from tests.inference.conftest import register
from tests.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url", "register"]
