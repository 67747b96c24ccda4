"""What a machine without their compilers can tell of the hosts in Swift and Kotlin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from edgekit.data_folder import data_folder

EXPORT = data_folder("export")
APPLE, ANDROID = EXPORT / "apple", EXPORT / "android"
Json = dict[str, Any]


def test_the_swift_package_names_folders_that_hold_sources() -> None:
    package = (APPLE / "Package.swift").read_text()
    named = re.findall(r'\.(target|executableTarget|testTarget)\(name: "([^"]+)"', package)
    folders = {
        (APPLE / ("Tests" if kind == "testTarget" else "Sources") / name) for kind, name in named
    }
    assert folders == {path for part in ("Sources", "Tests") for path in (APPLE / part).iterdir()}
    assert all(list(folder.glob("*.swift")) for folder in folders)


def test_gradle_and_the_manifest_name_what_is_there() -> None:
    modules = re.findall(r'":(\w+)"', (ANDROID / "settings.gradle.kts").read_text())
    assert {ANDROID / name / "build.gradle.kts" for name in modules} == set(ANDROID.glob("*/build.gradle.kts"))  # fmt: skip
    (activity,) = re.findall(r'android:name="\.(\w+)"', (ANDROID / "app/src/main/AndroidManifest.xml").read_text())  # fmt: skip
    (file,) = ANDROID.glob(f"app/src/main/kotlin/edgekit/app/{activity}.kt")
    assert f"class {activity} : Activity()" in file.read_text()


def test_what_swift_tells_is_what_the_schema_asks_for() -> None:
    source = (APPLE / "Sources/EdgekitBundle/Measure.swift").read_text()
    told = set(re.findall(r'"([a-z_]+)":', source))
    schema = json.loads((EXPORT / "board" / "report.schema.json").read_text())
    parts = [
        schema,
        *(part(schema, name) for name in ("device", "golden", "load_ms", "warm_up", "latency_ms")),
    ]
    parts.append(part(schema, "golden")["properties"]["outputs"]["items"])
    known = {name for one in parts for name in one["properties"]}
    assert told <= known, told - known
    asked = {name for one in parts for name in one["required"]}
    assert asked <= told, asked - told


def part(schema: Json, name: str) -> Json:
    found: Json = schema["properties"][name]
    return schema["$defs"][found["$ref"].rpartition("/")[2]] if "$ref" in found else found


def test_every_field_of_a_plan_that_changes_what_is_computed_is_read_by_both() -> None:
    not_computed = {
        "arena_bytes", "sessions", "whole_peak_bytes", "peak_bytes", "mac_overhead", "dtype", "session"
    }  # fmt: skip
    plans = [json.loads(path.read_text())["plan"] for path in (EXPORT / "vectors").glob("*.json")]
    fields = {name for plan in plans for name in fields_of(plan)} - not_computed
    swift = (APPLE / "Sources/EdgekitBundle/Plan.swift").read_text()
    kotlin = (ANDROID / "plan/src/main/kotlin/edgekit/plan/Plan.kt").read_text()
    assert len(fields) > 25
    for field in fields:
        assert re.search(rf'(let|var|case|, ) ?`?{field}\b|"{field}"', swift), field
        assert f'"{field}"' in kotlin, field


def fields_of(value: Any, *, named: bool = False) -> Iterator[str]:
    """Keys of a plan's objects, but not of those whose keys are names of tensors."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not named:
                yield key
            if key != "sessions":
                yield from fields_of(item, named=not named and key in ("tensors", "columns"))
    elif isinstance(value, list):
        for item in value:
            yield from fields_of(item)
