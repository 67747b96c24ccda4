"""The schema of reports, `export/board/report.schema.json`, checked with what it uses of JSON Schema.

That is: type, const, enum, required, properties, additionalProperties, propertyNames (pattern), items,
minItems, minimum, exclusiveMinimum, $ref.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from edgekit.data_folder import data_folder

SCHEMA_FILE = "report.schema.json"
TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
    "integer": (int,), "number": (int, float),
}  # fmt: skip


@cache
def report_schema() -> Mapping[str, Any]:
    path = data_folder("export") / "board" / SCHEMA_FILE
    schema: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def first_fault(report: object, definition: str | None = None) -> str:
    """What is wrong with a report, as a clause that names the field; "" for one that is sound.

    `definition` is one of the schema's `$defs`; None: the whole, which is a report of one bundle.
    """
    schema = report_schema()
    return next(_faults(report, schema["$defs"][definition] if definition else schema, ""), "")


def _faults(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = report_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    if wrong := _wrong(value, schema):
        yield f"{place or 'it'} {wrong}"
        return
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{place or 'it'} has no '{name}'"
        pattern = schema.get("propertyNames", {}).get("pattern", "")
        for name, item in value.items():
            if not re.search(pattern, name):
                yield f"{place or 'it'} has a field {name[:40]!r}, which does not match {pattern}"
                return
            inner = properties.get(name, schema.get("additionalProperties", {}))
            yield from _faults(item, inner, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _faults(item, schema.get("items", {}), f"{place}[{number}]")


def _wrong(value: Any, schema: Mapping[str, Any]) -> str:
    """Of the value itself."""
    shown = json.dumps(value)[:40]
    if "const" in schema and value != schema["const"]:
        return f"is {shown} and must be {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"is {shown} and must be one of {', '.join(map(str, schema['enum']))}"
    declared = schema.get("type", [])
    wanted = [declared] if isinstance(declared, str) else declared
    if wanted and not any(_is(value, name) for name in wanted):
        return f"is {shown} and must be of type {' or '.join(wanted)}"
    if "minimum" in schema and value is not None and value < schema["minimum"]:
        return f"is {shown} and must be at least {schema['minimum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        return f"is {shown} and must be above {schema['exclusiveMinimum']}"
    if isinstance(value, list) and len(value) < schema.get("minItems", 0):
        return f"has {len(value)} items and needs {schema['minItems']}"
    return ""


def _is(value: Any, name: str) -> bool:
    """Python takes True for 1, JSON does not."""
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
