"""Measures a bundle where there is nothing but Python 3.8, numpy and onnxruntime.

python -m edgekit_runner BUNDLE                           the report on stdout, one JSON object
python -m edgekit_runner BUNDLE --output report.json      in a file, as far as it got if this is killed
python -m edgekit_runner BUNDLE --against OTHER           times of both in turns

`edgekit profile BUNDLE --device ssh://...` copies this file beside the bundle and runs it; the fields of a
report stand in `report.schema.json`. One is whether the device computes the bundle's golden pair: times of one that does
not say little, and edgekit then ends with exit code 3.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import gc
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Dict  # noqa: UP035  # Python 3.8 has no dict[]

import numpy as np
import onnxruntime

SCHEMA = 1
GOLDEN, GOLDEN_PACKET = "golden.safetensors", "golden.packet"
NUMBERS = {"entropy": "tables.json", "calibrated": "calibration.json"}
"""Of a split bundle, by kind of coding: what its head rounds with."""
ELEMENTS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""Of safetensors, by NumPy's names."""
TENSORS = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
}
"""Of onnxruntime; its other names are NumPy's in brackets."""

SERVING = {
    "enable_mem_pattern": False,
    "session.use_env_allocators": "1",
    "initial_chunk_size_bytes": 64 << 20,
}
"""What is recommended for a file without plan: a peak that stays from the first run on."""
SESSION_NOTE = "edgekit.session"
EXACT_SUMS = "session.x64quantprecision"
"""What a file of 8-bit codes asks for: without it, x86 without VNNI adds products in 16 bits, which overflow."""
MEMORY = ("recommended", "default")
MEMORY_RUNS = 3
"""onnxruntime's second run can need more than its first (onnxruntime#14477)."""

STEADY_RUNS, STEADY_SHARE, WARM_UP_SHARE = 5, 0.03, 0.5
CALLERS, THROUGHPUT_SHARE = (1, 2, 4), 0.2
KERNEL_RUNS, KERNEL_WARM_UP = 30, 2
FEWEST_RUNS = 3
TOLD_EVERY_S = 2.0
"""So that of a run that is killed, or a line that breaks, the samples until then are known."""

SAME_IOU, IOU_MARGIN = 0.5, 0.05
"""Boxes that overlap by less are not the same; so much less than suppression asks for may suppress elsewhere."""

MATRIX_SIDE, VECTOR_FLOATS, CEILING_S = 256, 16 << 20, 1.0
MODELS = {
    "MatMul": "CAc6ZAoTCgJ4MAoCeDESAXkiBk1hdE11bBIGTWF0TXVsWhYKAngwEhAKDggBEgoKAwiAAgoDCIACWhYKAngxEhAKDggBEgoKAwiAAgoDCIACYhUKAXkSEAoOCAESCgoDCIACCgMIgAJCBAoAEA0=",
    "Relu": "CAc6PgoNCgJ4MBIBeSIEUmVsdRIEUmVsdVoTCgJ4MBINCgsIARIHCgUIgICACGISCgF5Eg0KCwgBEgcKBQiAgIAIQgQKABAN",
}
"""ONNX files of one operator, in base64, for the ceilings of the machine: x0 (and x1) to y."""

Arrays = Dict[str, Any]  # noqa: UP006
Json = Dict[str, Any]  # noqa: UP006


NO_MEMORY, KILLED = 92, -9
"""Exit codes: of a runner for which the model is too large, and of a process that a system ended for its want of memory."""


class RunnerError(Exception):
    """One sentence for the user."""


# What a bundle holds


def read_manifest(folder: Path) -> Json:
    try:
        manifest: Json = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        files, form = manifest["files"], manifest["format"]
    except (OSError, KeyError, ValueError) as error:
        raise RunnerError(
            f"{folder} is no bundle: its manifest.json cannot be read ({error})."
        ) from error
    if form != "onnx":
        raise RunnerError(f"{folder.name} is a {form} bundle, which onnxruntime does not run.")
    for name in own_files(manifest):
        digest = files[name]
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise RunnerError(
                f"{name} of {folder.name} is not the file that was exported; copy it again."
            )
    return manifest


def own_files(manifest: Json) -> list[str]:
    """Those that a device needs: a split bundle's tails run elsewhere."""
    elsewhere = set(manifest.get("split", {}).get("tails", {}).values())
    return [name for name in manifest["files"] if name not in elsewhere]


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_golden(folder: Path, prefix: str) -> Arrays:
    """Tensors of the safetensors file whose names begin with `prefix`: a length, a JSON table, the bytes."""
    found = {}
    with (folder / GOLDEN).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(length))
        for key, entry in table.items():
            if key.startswith(prefix):
                start, stop = entry["data_offsets"]
                file.seek(8 + length + start)
                values = np.frombuffer(file.read(stop - start), ELEMENTS[entry["dtype"]])
                found[key[len(prefix) :]] = values.reshape(entry["shape"])
    return found


# Running it


def session_of(
    model: Any, memory: Mapping[str, Any], options: argparse.Namespace, profile: str = ""
) -> Any:
    """`memory` has onnxruntime's own names, as `plan.json` does."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    for name, value in memory.items():
        if name.startswith("enable_"):
            setattr(settings, name, value)
    if "session.use_env_allocators" in memory and register_arena(
        memory["initial_chunk_size_bytes"]
    ):
        settings.add_session_config_entry("session.use_env_allocators", "1")
    if profile:
        settings.enable_profiling, settings.profile_file_prefix = True, profile
    if isinstance(model, bytes):
        return onnxruntime.InferenceSession(model, settings, providers=options.providers)
    session = onnxruntime.InferenceSession(str(model), settings, providers=options.providers)
    asked = session_note(session)
    if EXACT_SUMS not in asked:
        return session
    settings.add_session_config_entry(EXACT_SUMS, asked[EXACT_SUMS])
    return onnxruntime.InferenceSession(str(model), settings, providers=options.providers)


def session_note(session: Any) -> Json:
    """What the file's metadata says that its session needs."""
    note: Json = json.loads(session.get_modelmeta().custom_metadata_map.get(SESSION_NOTE, "{}"))
    return note


_arena: list[bool] = []


def register_arena(first_chunk_bytes: int) -> bool:
    """Once per process; False where this version of onnxruntime shares none."""
    if not _arena:
        try:
            place = onnxruntime.OrtMemoryInfo(
                "Cpu",
                onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
                0,
                onnxruntime.OrtMemType.DEFAULT,
            )
            growth = onnxruntime.OrtArenaCfg({"initial_chunk_size_bytes": first_chunk_bytes})
            onnxruntime.create_and_register_allocator(place, growth)
            _arena.append(True)
        except Exception:
            _arena.append(False)
    return _arena[0]


class File:
    def __init__(self, session: Any) -> None:
        self.session = session
        self.outputs = [value.name for value in session.get_outputs()]

    def run(self, feeds: Arrays) -> Arrays:
        return dict(zip(self.outputs, self.session.run(self.outputs, feeds)))


class Model:
    """A bundle's file, or all files of its plan, ready to run."""

    def __init__(
        self, folder: Path, manifest: Json, memory: str, options: argparse.Namespace
    ) -> None:
        self.folder, self.manifest, self.memory, self.options = folder, manifest, memory, options
        path = folder / "plan.json"
        self.plan: Json | None = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        )
        self.opened = {
            name: File(session_of(folder / name, self.settings(name), options))
            for name in self.files()
        }

    def files(self) -> dict[str, int]:
        """With how often one result needs them."""
        if self.plan is None:
            return {self.manifest["model"]: 1}
        runs: Counter[str] = Counter()
        for stage in self.plan["stages"]:
            runs.update(stage["models"][window["model"]]["file"] for window in stage["windows"])
        return dict(runs)

    def settings(self, file: str) -> Mapping[str, Any]:
        if self.memory == "default":
            return {}
        if self.plan is None:
            return SERVING
        models = (model for stage in self.plan["stages"] for model in stage["models"])
        name = next(model["session"] for model in models if model["file"] == file)
        chosen: Mapping[str, Any] = self.plan["sessions"][name]
        return chosen

    def run(self, inputs: Arrays) -> Arrays:
        plan, outputs = self.plan, [spec["name"] for spec in self.manifest["outputs"]]
        if plan is None:
            return next(iter(self.opened.values())).run(inputs)
        for name, given in inputs.items():
            if list(given.shape) != plan["tensors"][name]["shape"]:
                planned = plan["tensors"][name]["shape"]
                raise RunnerError(
                    f"{name} has the shape {list(given.shape)}, and the plan {planned}."
                )
        stages = plan["stages"]
        if plan["columns"] and len(stages) == 1 and len(stages[0]["windows"]) == 1:
            return self.opened[stages[0]["models"][0]["file"]].run(inputs)
        tensors = dict(inputs)
        last_reader = {stage["source"]: number for number, stage in enumerate(stages)}
        for number, stage in enumerate(stages):
            tensors[stage["result"]] = self.stage(
                stage, tensors[stage["source"]], plan["tensors"][stage["result"]]
            )
            for name, reader in last_reader.items():
                if reader == number and name not in outputs:
                    del tensors[name]
        if not plan["columns"]:
            return {name: tensors[name] for name in outputs}
        last = tensors[stages[-1]["result"]]
        return {name: last[..., slice(*plan["columns"][name])] for name in outputs}

    def stage(self, stage: Json, source: Any, tensor: Json) -> Any:
        """As the head of edgekit/plan/plan.py says."""
        result = np.zeros(tensor["shape"], tensor["dtype"])
        kept: dict[Any, Any] = {}
        strips = [window["strip"] for window in stage["windows"]]
        turns = strips != sorted(strips)
        for window in stage["windows"]:
            model, strip = stage["models"][window["model"]], window["strip"]
            if not turns:  # the strip before is over
                kept = {key: value for key, value in kept.items() if key[0] == strip}
            feeds = {port["name"]: kept[strip, port["state"]] for port in model["before"]}
            part = source[at(window["read"])]
            if part.size:
                feeds[stage["input"]] = np.ascontiguousarray(part)
            made = self.opened[model["file"]].run(feeds)
            for port in model["after"]:
                kept[strip, port["state"]] = made[port["name"]]
            written = made[stage["output"]]
            if window["take"] is not None:
                written = written[at(window["take"])]
            if stage["averaged"]:
                axes = tuple(range(2, written.ndim))
                mean = written.mean(axis=axes, keepdims=True, dtype=np.float64) * window["share"]
                result += mean.reshape(result.shape).astype(result.dtype)
            else:
                result[at(window["write"])] = written
        return result


def at(box: list[list[int]]) -> Any:
    return tuple(slice(start, stop) for start, stop in box)


# Whether it computes what the model computes


def golden_check(manifest: Json, expected: Arrays, found: Arrays) -> Json:
    """Each output against the bundle's gate, by the rules of `edgekit verify`."""
    gate = manifest["gate"]
    detections = gate.get("detections") or {}
    least = gate["psnr_db"] if detections.get("psnr_db") is None else detections["psnr_db"]
    if manifest.get("suppression"):
        rows = boxes_check(manifest, expected, found, least)
    else:
        rows = [
            output_check(spec, expected[spec["name"]], found.get(spec["name"]), gate, least)
            for spec in manifest["outputs"]
        ]
    return {"passed": all(row["passed"] for row in rows), "gate_db": least, "outputs": rows}


def output_check(spec: Json, wanted: Any, got: Any, gate: Json, least: float) -> Json:
    if not comparable(wanted, got):
        return unmeasured(spec)
    if gate.get("detections") and spec["name"] == "scores":
        # A peak that falls the other way is a decision, no error, but for most of them.
        if np.count_nonzero(wanted) > 2 * np.count_nonzero(wanted[got != 0]):
            return unmeasured(spec)
        both = (wanted == 0) == (got == 0)
        wanted, got = wanted[both], got[both]
    return judged(spec, wanted, got, least, gate["integers_differ"])


def comparable(wanted: Any, got: Any) -> bool:
    return got is not None and got.shape == wanted.shape and bool(np.isfinite(got).all())


def unmeasured(spec: Json) -> Json:
    return {"name": spec["name"], "psnr_db": None, "max_abs": None, "passed": False}


def boxes_check(manifest: Json, expected: Arrays, found: Arrays, least: float) -> list[Json]:
    """Of a file that suppresses by itself: boxes that belong together, as export/vectors/README.md says."""
    gate, specs = manifest["gate"], manifest["outputs"]
    asked, within = gate.get("detections"), manifest["suppression"]
    are_comparable = all(
        comparable(expected[spec["name"]], found.get(spec["name"])) for spec in specs
    )
    if not asked or not are_comparable:
        return [unmeasured(spec) for spec in specs]
    ours, theirs = rows_in_use(expected), rows_in_use(found)
    ious = overlaps(ours["boxes"], theirs["boxes"])
    ious[ours["labels"][:, None] != theirs["labels"]] = -1
    own, other = np.array(twins(ious), int).reshape(-1, 2).T
    apart = np.abs(ours["boxes"][own] - theirs["boxes"][other]).max(-1, initial=0)
    far = ious[own, other][apart > asked["corner_px"]]
    off = np.abs(ours["scores"][own].astype(np.float64) - theirs["scores"][other])
    are_good = {
        "boxes": not far.size or far.mean() >= asked["mean_iou"],
        "scores": off.max(initial=0) <= asked["score_difference"],
        "labels": few_lack_twins(ours, own, theirs, ious, within, asked)
        and few_lack_twins(theirs, other, ours, ious.T, within, asked),
    }
    rows = []
    for spec in specs:
        name = spec["name"]
        row = judged(spec, ours[name][own], theirs[name][other], least, gate["integers_differ"])
        row["passed"] = bool(row["passed"] and are_good[name])
        rows.append(row if are_good["labels"] or name != "labels" else unmeasured(spec))
    return rows


def rows_in_use(outputs: Arrays) -> Arrays:
    used = outputs["labels"][0] >= 0
    return {name: outputs[name][0][used] for name in ("boxes", "scores", "labels")}


def twins(ious: Any) -> list[tuple[int, int]]:
    """Each row, best score first, with the free column that covers it best."""
    free, pairs = ious.copy(), []
    for row in range(len(free)):
        if free.shape[1] and free[row].max() >= SAME_IOU:
            column = int(free[row].argmax())
            free[:, column] = -1
            pairs.append((row, column))
    return pairs


def few_lack_twins(
    side: Arrays, paired: Any, other: Arrays, ious: Any, within: Json, asked: Json
) -> bool:
    """But for those that the other side lost by all but equal scores, or just does not show."""
    scores, others = side["scores"], other["scores"]
    is_full = len(others) >= within["limit"]
    least = max(within["score"], others.min()) if is_full else within["score"]
    is_as_good = others >= scores[:, None] - asked["score_difference"]
    lost = ((ious > within["iou"] - IOU_MARGIN) & is_as_good).any(1)
    lost &= ~covered_beside(side, within)
    lacking = ~(lost | (scores <= least + asked["score_difference"]))
    lacking[paired] = False
    return bool(np.count_nonzero(lacking) <= (1 - asked["matched"]) * len(scores))


def covered_beside(side: Arrays, within: Json) -> Any:
    """Rows that suppression should have taken for one before them."""
    covers = overlaps(side["boxes"], side["boxes"]) > within["iou"] + IOU_MARGIN
    is_before = np.tri(len(covers), k=-1, dtype=bool)
    return (covers & is_before & (side["labels"] == side["labels"][:, None])).any(1)


def overlaps(boxes: Any, others: Any) -> Any:
    """Intersection over union, N M. Corners may come in any order; a box without area has none."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    lows, highs = np.minimum(others[:, :2], others[:, 2:]), np.maximum(others[:, :2], others[:, 2:])
    shared = np.minimum(high[:, None], highs) - np.maximum(low[:, None], lows)
    inside = np.prod(np.maximum(shared, 0), axis=-1)
    union = np.prod(high - low, axis=-1)[:, None] + np.prod(highs - lows, axis=-1) - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=inside > 0)


def checked(folder: Path, manifest: Json, found: Arrays) -> Json:
    """Of a whole network its outputs; of a split bundle what its head gives."""
    if "split" not in manifest:
        return golden_check(manifest, read_golden(folder, "output."), found)
    name = manifest["split"]["head_output"]
    wanted, got = head_pair(folder, manifest["split"]["coding"], found[name][0])
    spec = {"name": name, "low": None, "high": None}
    return golden_check({**manifest, "outputs": [spec]}, {name: wanted}, {name: got})


def head_pair(folder: Path, coding: str, given: Any) -> tuple[Any, Any]:
    """The golden latent C H W on the scale of the head's whole numbers, and the value next to it that rounds to what
    the head gave: a number that fell to the other side of a half is no error of 1."""
    parts = read_golden(folder, "part.")
    if "latent" not in parts:
        raise RunnerError(f"{folder.name} has no golden latent; export the model again.")
    wanted, got = parts["latent"].astype(np.float32), given.astype(np.float32)
    if coding not in NUMBERS:
        return wanted, got

    def column(name: str) -> Any:
        return np.asarray(numbers[name], np.float32)[:, None, None]

    numbers = json.loads((folder / NUMBERS[coding]).read_text(encoding="utf-8"))
    if coding == "entropy":
        wanted = wanted - column("medians")
    else:
        wanted = np.clip(column("zero_points") + wanted / column("scales"), 0, 255)
    return wanted, np.clip(wanted, got - 0.5, got + 0.5) if got.shape == wanted.shape else got


def judged(spec: Json, wanted: Any, got: Any, least_db: float, integers_differ: float) -> Json:
    off = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    error = float(np.mean(np.square(off))) if off.size else 0.0
    span = None if spec["low"] is None or spec["high"] is None else spec["high"] - spec["low"]
    peak = span or float(np.abs(wanted).max(initial=0)) or 1.0
    decibels = 999.0 if error == 0 else 20 * np.log10(peak) - 10 * np.log10(error)
    if wanted.dtype.kind == "f":
        passed = decibels >= least_db
    else:
        passed = np.count_nonzero(wanted != got) <= integers_differ * wanted.size
    return {
        "name": spec["name"],
        "psnr_db": float(decibels),
        "max_abs": float(off.max(initial=0)),
        "passed": bool(passed),
    }


# Time


def timed_ms(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3


def warm_up(run: Callable[[], Any], seconds: float) -> Json:
    """Runs until two medians agree, or the seconds are over."""
    taken, end, steady = [timed_ms(run)], time.perf_counter() + seconds, False
    while not steady and time.perf_counter() < end:
        taken.append(timed_ms(run))
        if len(taken) > 2 * STEADY_RUNS:
            before = np.median(taken[-2 * STEADY_RUNS : -STEADY_RUNS])
            steady = bool(abs(np.median(taken[-STEADY_RUNS:]) / before - 1) < STEADY_SHARE)
    return {"runs": len(taken), "is_steady": steady, "first_ms": taken[0]}


def latency(samples: list[float]) -> Json:
    low, p50, high, p90, p95, p99 = np.percentile(samples, [25, 50, 75, 90, 95, 99])
    return {
        "p50": float(p50), "p90": float(p90), "p95": float(p95), "p99": float(p99), "min": min(samples),
        "mean": float(np.mean(samples)), "spread": float(high - low), "samples": samples,
    }  # fmt: skip


def sampled(
    run: Callable[[], Any], options: argparse.Namespace, tell: Callable[[list[float]], None]
) -> list[float]:
    samples: list[float] = []
    told = time.perf_counter()
    end = told + options.seconds
    while len(samples) < options.least_runs or time.perf_counter() < end:
        samples.append(timed_ms(run))
        if time.perf_counter() > told + TOLD_EVERY_S:
            tell(samples)
            told = time.perf_counter()
    return samples


def runs_per_second(run: Callable[[], Any], callers: int, seconds: float) -> float:
    """Raises RunnerError where one of the callers failed, as for want of memory."""
    rates = [0.0] * callers
    failures: list[Exception] = []

    def call(number: int) -> None:
        started = now = time.perf_counter()
        count = 0
        try:
            while now < started + seconds:
                run()
                count += 1
                now = time.perf_counter()
        except Exception as error:  # onnxruntime's own classes
            failures.append(error)
        rates[number] = count / max(now - started, 1e-9)

    threads = [
        threading.Thread(target=call, args=(number,), daemon=True) for number in range(callers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RunnerError(f"With {callers} callers at once a run failed: {failures[0]}")
    return sum(rates)


def roofline(options: argparse.Namespace) -> Json:
    side, count = MATRIX_SIDE, VECTOR_FLOATS
    product = fastest_ms("MatMul", [(side, side), (side, side)], options)
    copy = fastest_ms("Relu", [(count,)], options)
    multiplied, moved = side**3 / product / 1e6, 8 * count / copy / 1e6
    return {
        "gmacs_per_s": multiplied,
        "gbytes_per_s": moved,
        "ridge_macs_per_byte": multiplied / moved,
    }


def fastest_ms(operator: str, shapes: list[Any], options: argparse.Namespace) -> float:
    session = session_of(base64.b64decode(MODELS[operator]), {}, options)
    random = np.random.default_rng(0)
    feeds = {f"x{number}": random.random(shape, np.float32) for number, shape in enumerate(shapes)}
    end = time.perf_counter() + CEILING_S
    fastest = timed_ms(lambda: session.run(None, feeds))
    while time.perf_counter() < end:
        fastest = min(fastest, timed_ms(lambda: session.run(None, feeds)))
    return fastest


# Layers


def layers(model: Model, inputs: Arrays) -> list[Json]:
    found = []
    for name, runs in model.files().items():
        with tempfile.TemporaryDirectory() as folder:
            own_arena = {
                key: value
                for key, value in model.settings(name).items()
                if key.startswith("enable_")
            }
            session = session_of(
                model.folder / name, own_arena, model.options, str(Path(folder) / "run")
            )
            feeds = inputs if model.plan is None else noise(session)
            end = time.perf_counter() + model.options.seconds
            for number in range(KERNEL_WARM_UP + KERNEL_RUNS):
                if number >= KERNEL_WARM_UP + FEWEST_RUNS and time.perf_counter() > end:
                    break
                session.run(None, feeds)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        found.append({"file": name, "runs": runs, **kernels(events)})
    return found


def noise(session: Any) -> Arrays:
    """A plan's files get noise: what they are given depends on the files before."""
    random = np.random.default_rng(0)
    return {
        value.name: random.random(value.shape).astype(TENSORS.get(value.type, value.type[7:-1]))
        for value in session.get_inputs()
    }


def kernels(events: list[Json]) -> Json:
    by_node: dict[int, list[Json]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            by_node[int(event["args"]["node_index"])].append(event)
    whole = [event["dur"] / 1e3 for event in events if event["name"] == "model_run"][
        KERNEL_WARM_UP:
    ]
    rows = [kernel(seen) for seen in by_node.values()]
    return {
        "whole_ms": float(np.median(whole)),
        "summed_ms": sum(row["p50_ms"] for row in rows),
        "kernels": rows,
    }


def kernel(seen: list[Json]) -> Json:
    told = seen[0]["args"]
    times = [event["dur"] / 1e3 for event in seen[KERNEL_WARM_UP:]]
    inputs, outputs = told.get("input_type_shape", []), told.get("output_type_shape", [])
    live = told.get("mem_bytes_requested_in_use")
    return {
        "name": seen[0]["name"][: -len("_kernel_time")],
        "operator": told["op_name"],
        "provider": told["provider"],
        "inputs": [shape for item in inputs for shape in item.values()],
        "outputs": [shape for item in outputs for shape in item.values()],
        "element_type": next((kind for item in inputs for kind in item), ""),
        "p50_ms": float(np.median(times)),
        "p90_ms": float(np.percentile(times, 90)),
        "parameter_bytes": int(told.get("parameter_size", 0)),
        "read_bytes": int(told.get("activation_size", 0)),
        "written_bytes": int(told.get("output_size", 0)),
        "live_bytes": None if live is None else int(live),
    }


# Memory and load time, each in a process of its own


def status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no " + field)


def reset_mark() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def settled_bytes() -> int:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    reset_mark()
    return status_bytes("VmRSS")


def memory_in_this_process(folder: Path, memory: str, options: argparse.Namespace) -> Json:
    empty = settled_bytes()
    model = Model(
        folder, json.loads((folder / "manifest.json").read_text(encoding="utf-8")), memory, options
    )
    inputs = read_golden(folder, "input.")
    load_peak = status_bytes("VmHWM") - empty
    loaded, peaks = settled_bytes(), []
    for _ in range(MEMORY_RUNS):
        reset_mark()
        made = model.run(inputs)
        peaks.append(status_bytes("VmHWM") - loaded)
        del made
        gc.collect()
    run_peak = max(peaks[0], peaks[-1])
    return {
        "memory": memory, "load_peak_bytes": load_peak, "loaded_bytes": loaded - empty, "run_peak_bytes": run_peak,
        "kept_bytes": status_bytes("VmRSS") - loaded,
    }  # fmt: skip


def opening_in_this_process(folder: Path, options: argparse.Namespace) -> Json:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    inputs = read_golden(folder, "input.")
    is_cold = forget_files(folder)
    started = time.perf_counter()
    model = Model(folder, manifest, "recommended", options)
    opened = time.perf_counter()
    model.run(inputs)
    ran = time.perf_counter()
    Model(folder, manifest, "recommended", options)
    warm = time.perf_counter()
    times = {"cold_ms": opened - started, "first_run_ms": ran - opened, "warm_ms": warm - ran}
    return {**{name: seconds * 1e3 for name, seconds in times.items()}, "is_cold": is_cold}


def forget_files(folder: Path) -> bool:
    """Asks the system to, so that opening them reads the disk."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def in_fresh_process(what: str, options: argparse.Namespace) -> Json:
    """Raises RunnerError, or MemoryError."""
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        str(options.bundle.resolve()),
        "--only",
        what,
    ]
    command += ["--threads", str(options.threads)]
    for provider in options.providers:
        command += ["--provider", provider]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (NO_MEMORY, KILLED):
        raise MemoryError(f"{what}: its process ran out of memory")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RunnerError(f"{what}: its process ended with code {done.returncode}: {said}")
    answer: Json = json.loads(done.stdout.splitlines()[-1])
    return answer


def memory_bytes(model: Model, found: list[Json], options: argparse.Namespace) -> Json:
    process, reasons = [], []
    for memory in MEMORY:
        try:
            process.append(in_fresh_process(memory, options))
        except (RunnerError, MemoryError) as error:  # all else was measured
            reasons.append(str(error))
    live = [
        row["live_bytes"]
        for file in found
        for row in file["kernels"]
        if row["live_bytes"] is not None
    ]
    recommended = next((one for one in process if one["memory"] == "recommended"), None)
    peak = recommended and max(
        recommended["load_peak_bytes"], recommended["loaded_bytes"] + recommended["run_peak_bytes"]
    )
    return {
        "static_peak": None if model.plan is None else model.plan["peak_bytes"],
        "runtime_peak": max(live) if live else None,
        "process_peak": peak,
        "process": process,
        "reason": " ".join(reasons),
    }


# The machine


def machine(options: argparse.Namespace) -> Json:
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": machine_cpus(),
        "runtime": f"onnxruntime {onnxruntime.__version__} {options.providers[0]}",
        "threads": options.threads,
    }


def processor() -> str:
    try:  # boards name themselves here, their processors nowhere
        return Path("/proc/device-tree/model").read_text().strip("\0 \n")
    except OSError:
        pass
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [
        line.partition(":")[2].strip()
        for line in lines
        if line.startswith(("model name", "Hardware"))
    ]
    return next(filter(None, named), platform.processor() or "unknown processor")


def condition() -> Json:
    def number(path: str) -> float | None:
        try:
            return float(Path(path).read_text()) / 1e3
        except (OSError, ValueError):
            return None

    return {
        "frequency_mhz": number("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"),
        "temperature_celsius": number("/sys/class/thermal/thermal_zone0/temp"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


# The report


class Report:
    """What is known so far, told again after each step."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.fields: Json = {"schema": SCHEMA, "complete": False}

    def tell(self, **fields: Any) -> None:
        self.fields.update(fields)
        text = json.dumps(self.fields)
        if self.options.output:
            beside = self.options.output.with_suffix(".partial")
            beside.write_text(text + "\n", encoding="utf-8")
            beside.replace(self.options.output)
        if self.options.stream or (self.fields["complete"] and not self.options.output):
            print(text, flush=True)


def measure(options: argparse.Namespace) -> None:
    folder, manifest = options.bundle, read_manifest(options.bundle)
    report = Report(options)
    golden = (GOLDEN, GOLDEN_PACKET)
    size = sum((folder / name).stat().st_size for name in own_files(manifest) if name not in golden)
    report.tell(
        bundle=folder.resolve().name,
        files=manifest["files"],
        split={"layer": manifest["split"]["layer"]} if "split" in manifest else None,
        disk_bytes=size,
        device={**machine(options), "before": condition()},
    )
    report.tell(load_ms=in_fresh_process("opening", options))  # before the files are open here
    model = Model(folder, manifest, "recommended", options)
    inputs = read_golden(folder, "input.")
    report.tell(golden=checked(folder, manifest, model.run(inputs)))
    run = partial(model.run, inputs)
    report.tell(warm_up=warm_up(run, WARM_UP_SHARE * options.seconds))
    samples = sampled(run, options, lambda taken: report.tell(latency_ms=latency(taken)))
    report.tell(
        latency_ms=latency(samples), device={**report.fields["device"], "after": condition()}
    )
    seconds = THROUGHPUT_SHARE * options.seconds
    report.tell(throughput_per_s={str(n): runs_per_second(run, n, seconds) for n in CALLERS})
    found = layers(model, inputs)
    report.tell(layers=found, kernels_ms=sum(file["runs"] * file["summed_ms"] for file in found))
    report.tell(roofline=roofline(options))
    report.tell(memory_bytes=memory_bytes(model, found, options), complete=True)


def compare(options: argparse.Namespace) -> None:
    """Pair by pair, with the order changed each time, so that what the machine does meets both."""
    report, bundles, runs = Report(options), [], []
    folders = (options.bundle, options.against)
    manifests = [read_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests):
        bundles.append({"bundle": folder.resolve().name, "files": manifest["files"]})
    device = {**machine(options), "before": condition()}
    report.tell(device=device)
    for folder, manifest, told in zip(folders, manifests, bundles):
        model, inputs = (
            Model(folder, manifest, "recommended", options),
            read_golden(folder, "input."),
        )
        told["golden"] = checked(folder, manifest, model.run(inputs))
        runs.append(partial(model.run, inputs))
    for run in runs:
        warm_up(run, WARM_UP_SHARE * options.seconds / 2)
    samples: list[list[float]] = [[], []]

    def tell(**fields: Any) -> None:
        for told, taken in zip(bundles, samples):
            told["latency_ms"] = latency(taken)
        report.tell(bundles=bundles, **fields)

    told_at = time.perf_counter()
    end = told_at + options.seconds
    while len(samples[0]) < options.least_runs or time.perf_counter() < end:
        first = len(samples[0]) % 2
        for which in (first, 1 - first):
            samples[which].append(timed_ms(runs[which]))
        if time.perf_counter() > told_at + TOLD_EVERY_S:
            tell()
            told_at = time.perf_counter()
    tell(device={**device, "after": condition()}, complete=True)


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="edgekit_runner", description="Measures an edgekit bundle here."
    )
    parser.add_argument(
        "bundle", type=Path, help="the folder that `edgekit export` wrote, for ONNX"
    )
    parser.add_argument("--against", type=Path, help="another one, to compare with in turns")
    parser.add_argument(
        "--threads", type=int, default=0, help="of one run; 0: as many as there are CPUs"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="to measure latency for")
    parser.add_argument("--least-runs", type=int, default=10, help="however long they take")
    parser.add_argument(
        "--provider", action="append", dest="providers", help="of onnxruntime; the CPU's by itself"
    )
    parser.add_argument("--output", type=Path, help="a file for the report")
    parser.add_argument(
        "--stream", action="store_true", help="print the report again whenever it grows"
    )
    parser.add_argument("--only", choices=("opening", *MEMORY), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.seconds > 0 or options.least_runs < 1:
        raise RunnerError("Give more than 0 --seconds and at least 1 of --least-runs.")
    if options.output and not options.output.absolute().parent.is_dir():
        raise RunnerError(f"The folder of {options.output} does not exist.")
    options.threads = options.threads or machine_cpus()
    options.providers = options.providers or ["CPUExecutionProvider"]
    lacking = sorted(set(options.providers) - set(onnxruntime.get_available_providers()))
    if lacking:
        has = ", ".join(onnxruntime.get_available_providers())
        raise RunnerError(f"The onnxruntime here has no {lacking[0]}; it has {has}.")
    return options


def machine_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    options = parsed()
    if options.only is None:
        (measure if options.against is None else compare)(options)
        if options.output:
            print(f"wrote {options.output}", file=sys.stderr)
    elif options.only == "opening":
        print(json.dumps(opening_in_this_process(options.bundle, options)))
    else:
        print(json.dumps(memory_in_this_process(options.bundle, options.only, options)))


def is_want_of_memory(error: Exception) -> bool:
    """onnxruntime has no class for it: C++'s own words, or those of its arena."""
    said = str(error).lower().replace("_", " ")
    return isinstance(error, MemoryError) or "bad alloc" in said or "failed to allocate" in said


if __name__ == "__main__":
    try:
        main()
    except RunnerError as error:
        sys.exit(f"edgekit_runner: {error}")
    except BrokenPipeError:  # who asked went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not is_want_of_memory(error):
            raise
        print(
            f"edgekit_runner: the model needs more memory than there is: {error}", file=sys.stderr
        )
        sys.exit(NO_MEMORY)
