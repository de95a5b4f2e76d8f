"""Write the Grafana dashboards from dashboards.yaml: `python -m manifests.dashboards`."""

import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
DEFINITION = HERE / "dashboards.yaml"
FOLDER = HERE / "base" / "monitoring" / "dashboards"
# Grafana divides a page into 24 columns; a panel takes a third of it.
WIDTH, HEIGHT, COLUMNS = 8, 7, 24
SCHEMA_VERSION = 39


def rendered() -> dict[str, str]:
    """The JSON of each dashboard by file name, the same bytes every time."""
    pages = yaml.safe_load(DEFINITION.read_text("utf-8"))
    return {f"{page['name']}.json": json.dumps(_dashboard(page), indent=1, sort_keys=True) + "\n" for page in pages}


def _dashboard(page: dict[str, Any]) -> dict[str, Any]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    return {
        "uid": page["name"],
        "title": page["title"],
        "tags": ["fairlead"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source, *(_variable(*pair) for pair in page["variables"].items())]},
        "panels": list(_panels(page)),
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
    }


def _panels(page: dict[str, Any]) -> Any:
    number, y = 1, 0
    for title, panels in page["rows"].items():
        yield {"id": number, "type": "row", "title": title, "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y}}
        number, y = number + 1, y + 1
        for index, panel in enumerate(panels):
            row, column = divmod(index, COLUMNS // WIDTH)
            place = {"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": y + row * HEIGHT}
            yield _panel(number, panel, page["selector"], place)
            number += 1
        y += -(-len(panels) // (COLUMNS // WIDTH)) * HEIGHT


def _panel(number: int, panel: dict[str, Any], selector: str, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    expression = panel["expr"].replace("$m", selector)
    return {
        "id": number,
        "type": "timeseries",
        "title": panel["title"],
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel["unit"], "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "datasource": source, "expr": expression, "legendFormat": panel["legend"]}],
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, "utf-8")
