"""V1 requests as CloudEvents, made and read by the SDK that kserve uses."""

from pathlib import Path
from typing import Any

import pytest
from cloudevents.http import CloudEvent, from_http, to_binary, to_structured

from tests.serving.doors import V1, opened, run

ATTRIBUTES = {"source": "shop", "type": "shop.ticket", "traceid": "7"}
REQUEST = {"instances": ["my card was charged twice"]}
RESPONSE = {"source": "io.kserve.inference.topics", "type": "io.kserve.inference.response"}


@pytest.mark.parametrize("form", [to_binary, to_structured], ids=["binary", "structured"])
@pytest.mark.parametrize("merge", [False, True], ids=["plain", "merged"])
def test_an_event_is_answered_by_an_event(
    version: Path, form: Any, merge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CE_MERGE", str(merge))

    async def ask() -> None:
        async with opened(version) as doors:
            plain = (await doors.client.post(V1, json=REQUEST)).json()
            event = CloudEvent(ATTRIBUTES, REQUEST)
            headers, body = form(event)
            if form is to_binary:
                headers["content-type"] = "application/json"
            response = await doors.client.post(V1, content=body, headers=headers)
            answer = from_http(dict(response.headers), response.content)
            assert {name: answer[name] for name in RESPONSE} == RESPONSE
            assert answer["id"] == response.headers["x-fairlead-prediction-id"] == answer.data["prediction_id"]
            assert answer["id"] != event["id"] and answer["specversion"] == "1.0" and answer["time"]
            assert answer.data["predictions"] == plain["predictions"]
            assert answer.get("traceid") == ("7" if merge else None)
            structured = form is to_structured
            assert response.headers["content-type"] == f"application/{'cloudevents+' if structured else ''}json"

    run(ask)


EVENT: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "shop", "type": "ticket", "data": REQUEST}
HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "shop", "ce-type": "ticket"}


def test_what_is_wrong_with_an_event_is_named(version: Path) -> None:
    async def ask() -> None:
        async with opened(version) as doors:
            structured = {"content-type": "application/cloudevents+json; charset=utf-8"}
            assert (await doors.client.post(V1, json=EVENT, headers=structured)).status_code == 200
            for change, word in (
                ({"id": None}, "id:"),
                ({"source": ""}, "source:"),
                ({"type": 3}, "type:"),
                ({"specversion": "2.0"}, "specversion:"),
                ({"data": None}, "data:"),
                ({"data": "text"}, "data:"),
                ({"data": {"instances": []}}, "instances:"),
            ):
                response = await doors.client.post(V1, json=EVENT | change, headers=structured)
                assert response.status_code == 400 and response.json()["error"].startswith(word), response.text
            for headers, word in (
                ({"ce-specversion": "1.0"}, "ce-id:"),
                (HEADERS | {"ce-type": ""}, "ce-type:"),
                (HEADERS | {"ce-specversion": "0.1"}, "ce-specversion:"),
                ({"content-type": "application/cloudevents-batch+json"}, "content-type:"),
            ):
                response = await doors.client.post(V1, json=REQUEST, headers=headers)
                assert response.status_code == 400 and response.json()["error"].startswith(word), response.text
            # As kserve has it, what looks like an event is opened, and answered without one.
            whole = EVENT | {"time": "2026-01-01T00:00:00Z"}
            answer = await doors.client.post(V1, json=whole)
            assert answer.headers["content-type"] == "application/json" and answer.json()["predictions"]
            assert "instances" in (await doors.client.post(V1, json=EVENT)).json()["error"]

    run(ask)
