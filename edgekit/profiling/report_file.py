"""Reports that devices wrote: JSON to a `Profile`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from edgekit.bundle import Bundle
from edgekit.errors import UsageError, first_line
from edgekit.plan.plan import read_plan
from edgekit.profiling.comparison import Comparison, paired
from edgekit.profiling.distribution import Distribution
from edgekit.profiling.footprint import Footprint, ProcessMemory
from edgekit.profiling.golden import Golden
from edgekit.profiling.kernels import Kernel, Kernels, completed
from edgekit.profiling.machine import Condition, Machine
from edgekit.profiling.opening import Opening
from edgekit.profiling.providers import Predictions, predict
from edgekit.profiling.report_schema import first_fault
from edgekit.profiling.result import Head, Profile
from edgekit.profiling.roofline import Roofline
from edgekit.profiling.timing import Timing, WarmUp

BROKE_OFF = "the measurement broke off, and these are the runs until then"


def read_report(path: Path, bundle: Bundle | None = None) -> Profile:
    """Of a file that a device wrote, of this bundle if one is given. Raises UsageError."""
    try:
        return parse_report(path.read_text(encoding="utf-8"), str(path), bundle)
    except OSError as error:
        raise UsageError(f"The report {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no report of a device: it is no text.") from error


def parse_report(text: str, source: str, bundle: Bundle | None = None) -> Profile:
    """`source` is what errors call it. Raises UsageError."""
    data = _sound(text, source)
    strangers = [
        file["file"] for file in data.get("layers", ()) if file["file"] not in data["files"]
    ]
    if strangers:
        raise UsageError(
            f"{source} is no report of a device: it has layers of {strangers[0]!r}, which is none of its files."
        )
    if bundle is not None and dict(bundle.manifest["files"]) != data["files"]:
        raise UsageError(
            f"{source} is of other files than those of {bundle.path.name}: measure this bundle, or name the other."
        )
    return _profile(_printable(data), bundle)


def parse_comparison(text: str, source: str) -> Comparison:
    """Of two bundles that a device ran in turns. Raises UsageError."""
    data = _printable(_sound(text, source, "comparison"))
    first, second = data["bundles"][:2]
    taken = [list(map(float, one["latency_ms"]["samples"])) for one in (first, second)]
    if len(taken[0]) != len(taken[1]):
        raise UsageError(f"{source} is no report of a device: its bundles did not run as often.")
    goldens = tuple(Golden.from_json(one["golden"]) for one in (first, second) if one.get("golden"))
    device = data["device"]
    found = paired(
        (first["bundle"], second["bundle"]),
        (taken[0], taken[1]),
        device["threads"],
        _machine(device),
    )
    return replace(
        found, goldens=goldens, incomplete="" if data.get("complete", True) else BROKE_OFF
    )


def _sound(text: str, source: str, definition: str | None = None) -> Any:
    try:
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{source} is no report of a device: it is no JSON ({first_line(error)})."
        ) from error
    if fault := first_fault(data, definition):
        raise UsageError(f"{source} is no report of a device: {fault}.")
    return data


def _machine(device: Mapping[str, Any]) -> Machine:
    fields = ("processor", "architecture", "system", "cpus", "runtime")
    return Machine(*(device[name] for name in fields))


def _printable(value: Any) -> Any:
    """Without what would move a terminal's cursor: names come from devices."""
    if isinstance(value, str):
        return "".join(letter if letter.isprintable() else "?" for letter in value)
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _profile(data: Mapping[str, Any], bundle: Bundle | None) -> Profile:
    device, warm = data["device"], data.get("warm_up")
    roofline = data.get("roofline")
    ceilings = _only(Roofline, roofline) if roofline else None
    found = Profile(
        bundle=data["bundle"],
        files=dict(data["files"]),
        disk_bytes=data.get("disk_bytes", 0),
        threads=device["threads"],
        machine=_machine(device),
        before=_condition(device.get("before")),
        after=_condition(device.get("after")),
        timing=Timing(
            _only(WarmUp, warm) if warm else WarmUp(0, True, 0.0),
            Distribution(tuple(map(float, data["latency_ms"]["samples"]))),
        ),
        throughput={int(n): rate for n, rate in data.get("throughput_per_s", {}).items()},
        opening=_only(Opening, data["load_ms"]) if data.get("load_ms") else None,
        kernels=tuple(_kernels(file) for file in data.get("layers", ())),
        roofline=ceilings,
        footprint=_footprint(data.get("memory_bytes")),
        golden=Golden.from_json(data["golden"]) if data.get("golden") else None,
        head=_head(data.get("split"), bundle),
        incomplete="" if data.get("complete", True) else BROKE_OFF,
    )
    paths = {file.file: bundle.path / file.file for file in found.kernels} if bundle else {}
    kernels = (completed(file, paths.get(file.file), ceilings) for file in found.kernels)
    return replace(found, kernels=tuple(kernels), providers=_providers(bundle))


def _providers(bundle: Bundle | None) -> Predictions | None:
    if bundle is None or bundle.format != "onnx" or read_plan(bundle.path) is not None:
        return None
    return predict(bundle.model_file)


def _only(kind: type[Any], data: Mapping[str, Any]) -> Any:
    """A dataclass of the fields that it has: reports may have more."""
    return kind(**{name: data[name] for name in kind.__dataclass_fields__})


def _head(data: Mapping[str, Any] | None, bundle: Bundle | None) -> Head | None:
    """onnxruntime's own tool knows of no bundle."""
    if data:
        return _only(Head, data)  # type: ignore[no-any-return]
    return Head.of(bundle) if bundle is not None else None


def _condition(data: Mapping[str, Any] | None) -> Condition:
    return _only(Condition, data) if data else Condition(None, None, None)  # type: ignore[no-any-return]


def _footprint(data: Mapping[str, Any] | None) -> Footprint:
    if data is None:
        return Footprint(None, None, (), "the device did not tell")
    process = tuple(_only(ProcessMemory, one) for one in data["process"])
    return Footprint(
        data.get("static_peak"), data.get("runtime_peak"), process, data.get("reason", "")
    )


def _kernels(data: Mapping[str, Any]) -> Kernels:
    return Kernels(
        data["file"], data["runs"], tuple(map(_kernel, data["kernels"])), data["whole_ms"]
    )


def _kernel(data: Mapping[str, Any]) -> Kernel:
    counts = ("macs", "parameter_bytes", "read_bytes", "written_bytes")
    return Kernel(
        name=data["name"],
        module=data.get("module", ""),
        operator=data["operator"],
        provider=data["provider"],
        inputs=tuple(map(tuple, data["inputs"])),
        outputs=tuple(map(tuple, data["outputs"])),
        element_type=data.get("element_type", ""),
        p50_ms=data["p50_ms"],
        p90_ms=data["p90_ms"],
        live_bytes=data.get("live_bytes"),
        bound=None,
        parameters=data.get("parameters", 0),
        **{name: data.get(name, 0) for name in counts},
    )
