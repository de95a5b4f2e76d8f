"""Prediction ids say when and where."""

import time
import uuid

import pytest

from fairlead.errors import ConfigError
from fairlead.predictions.ids import IdSource, PredictionId

VERSION_4, VERSION_7 = "8f14e45f-ceea-467f-a6b3-0f1f2c3d4e5f", "019caf9e-e3ff-7abc-8000-000000000000"


def test_an_id_is_a_uuid_of_version_7_that_names_time_and_server() -> None:
    source, before = IdSource(), time.time_ns() // 1_000_000
    read = uuid.UUID(source.next())
    parsed = PredictionId.parse(str(read))
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert before <= parsed.milliseconds <= time.time_ns() // 1_000_000
    assert parsed.server == source.server
    assert parsed == PredictionId.parse(parsed.text.upper())


def test_ids_differ_between_calls_and_processes() -> None:
    first, second = IdSource(), IdSource()
    assert first.server != second.server
    assert len({source.next() for source in (first, second) for _ in range(20_000)}) == 40_000


def test_the_hour_is_that_of_utc() -> None:
    # 2026-03-01 23:59:59.999 and one millisecond later.
    last = 1_772_409_599_999
    made = [f"{ms:012x}"[:8] + "-" + f"{ms:012x}"[8:] + "-7abc-8000-000000000000" for ms in (last, last + 1)]
    assert [PredictionId.parse(text).hour for text in made] == ["2026-03-01/23", "2026-03-02/00"]


@pytest.mark.parametrize("text", ["", "mine", VERSION_4, None, 7, "../" * 12, "\n" + VERSION_7])
def test_what_no_server_gives_out_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="prediction id"):
        PredictionId.parse(text)


def test_an_id_of_the_future_is_refused() -> None:
    with pytest.raises(ConfigError, match="future"):
        PredictionId.parse("ffffffff-ffff-7abc-8000-000000000000")
