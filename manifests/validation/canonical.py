"""What an API server or a webhook would write differently, so that Argo CD would see a difference for ever."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from manifests.validation.workloads import pods

QUANTITY_FIELDS = re.compile(r"(requests|limits|hard|default|defaultRequest|min|max|cpu|memory|storage|sizeLimit)$")
QUANTITY = re.compile(r"^(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
BINARY = ("Ki", "Mi", "Gi", "Ti")
DECIMAL = ("k", "M", "G", "T")


def faults(found: dict[str, Any]) -> Iterator[str]:
    """Where the object would come back from the cluster in another form."""
    yield from _nothing_faults("$", found)
    yield from _quantity_faults("$", found)
    for pod in pods(found):
        for path, container in pod.containers():
            for index, port in enumerate(container.get("ports") or []):
                if "protocol" not in port:
                    yield f"{path}.ports[{index}].protocol: server-side apply merges by it; write TCP"
    if found["kind"] == "StatefulSet":
        for index, claim in enumerate(found["spec"].get("volumeClaimTemplates") or []):
            for field in ("apiVersion", "kind"):
                if field not in claim:
                    yield f"$.spec.volumeClaimTemplates[{index}].{field}: the API server adds it; write it"
            if "volumeMode" not in claim.get("spec", {}):
                yield f"$.spec.volumeClaimTemplates[{index}].spec.volumeMode: the API server adds it; write it"
    if found["kind"] == "Secret" and "stringData" in found:
        yield "$.stringData: the API server keeps it as data; write data"


def _nothing_faults(path: str, value: Any) -> Iterator[str]:
    """Nulls are dropped on the way in."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _nothing_faults(f"{path}.{name}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nothing_faults(f"{path}[{index}]", inner)
    elif value is None:
        yield f"{path}: null is dropped by the API server; leave it out"


def _quantity_faults(path: str, value: Any, is_quantity: bool = False) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            inside = is_quantity or bool(QUANTITY_FIELDS.search(name))
            yield from _quantity_faults(f"{path}.{name}", inner, inside)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _quantity_faults(f"{path}[{index}]", inner)
    elif is_quantity and isinstance(value, int | float) and not isinstance(value, bool) and ".resources." in path:
        yield f"{path}: {value} is a number; the API server keeps {str(value)!r}"
    elif is_quantity and isinstance(value, str) and QUANTITY.match(value) and (form := canonical(value)) != value:
        yield f"{path}: {value!r} comes back as {form!r}"


def canonical(quantity: str) -> str:
    """The form in which Kubernetes writes a quantity: the largest unit that leaves a whole number.

    Source: k8s.io/apimachinery, resource.Quantity.
    """
    match = QUANTITY.match(quantity)
    if match is None:
        return quantity
    number, unit = Decimal(match["number"]), match["unit"] or ""
    if unit in BINARY:
        return _climb(number, unit, BINARY, 1024)
    if unit == "m":
        return _plain(number / 1000) if number % 1000 == 0 else f"{_plain(number)}m"
    if unit == "" and number != number.to_integral_value():
        return canonical(f"{_plain(number * 1000)}m")
    return _climb(number, unit, ("", *DECIMAL), 1000) if unit else _climb(number, "", ("", *DECIMAL), 1000)


def _climb(number: Decimal, unit: str, units: tuple[str, ...], factor: int) -> str:
    index = units.index(unit)
    while number != number.to_integral_value() and index > 0:
        number, index = number * factor, index - 1
    while number and number % factor == 0 and index < len(units) - 1:
        number, index = number / factor, index + 1
    return f"{_plain(number)}{units[index]}"


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")
