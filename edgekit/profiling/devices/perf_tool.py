"""onnxruntime's own `onnxruntime_perf_test` on a device without Python: a report of its samples."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from edgekit.bundle import Bundle
from edgekit.errors import LinkError, MissingEnvironmentError, UsageError
from edgekit.profiling.devices.link import Link, last_line
from edgekit.profiling.devices.remote import found_folder, new_folder
from edgekit.profiling.of_bundle import CPU, ProfileOptions
from edgekit.profiling.opened import require_measurable
from edgekit.profiling.report_file import parse_report
from edgekit.profiling.result import Profile

TOOL = "onnxruntime_perf_test"
RESULT = "result.csv"
"""The tool appends a line for each run: model, seconds, highest working set, processor share, number."""
FACTS_FOLLOW = "edgekit-facts:"
"""A login shell may greet first."""
FACTS = (
    f"echo {FACTS_FOLLOW}; uname -m; uname -sr; nproc || echo 1; "
    "getprop ro.product.model 2>/dev/null || echo unknown"
)


def is_perf_tool(program: str) -> bool:
    return PurePosixPath(program).name == TOOL


def measure_by_tool(
    link: Link, bundle: Bundle, options: ProfileOptions, progress: Callable[[str], None]
) -> Profile:
    """Of a bundle of one file; its inputs are random. Raises UsageError, MissingEnvironmentError or LinkError."""
    require_measurable(bundle)
    if (bundle.path / "plan.json").is_file():
        raise UsageError(
            f"{bundle.path.name} is a plan of several files, which {TOOL} does not run; use a device with Python."
        )
    if options.provider != CPU:
        raise UsageError(f"{TOOL} is run with {CPU} only; leave --provider away.")
    progress("connecting")
    link.connect()
    told = _run(link, new_folder(link), "gives no folder to work in")
    folder = found_folder(link, told).strip()
    if not folder:
        raise MissingEnvironmentError(f"{link.name} gives no folder to work in: {last_line(told)}.")
    where = shlex.quote(folder)
    try:
        progress("copying")
        link.push({bundle.model_file.name: bundle.model_file}, folder)
        said = _run(link, FACTS, "says nothing of itself").partition(FACTS_FOLLOW)[2]
        architecture, system, cpus, model = [*said.strip("\n").split("\n"), "", "", "", ""][:4]
        progress("latency")
        words = [
            link.python,
            "-e",
            "cpu",
            "-m",
            "duration",
            "-t",
            f"{max(1, round(options.timing.seconds))}",
            "-I",
        ]
        words += ["-x", str(options.threads)] if options.threads else []
        command = f"{shlex.join(words)} {shlex.quote(bundle.model_file.name)} {RESULT}"
        told = _run(link, f"cd {where} && {command} >&2 && cat {RESULT}", f"does not run {TOOL}")
    finally:
        subprocess.run(link.command(f"rm -rf {where}"), capture_output=True, check=False)
    report: dict[str, Any] = {
        "schema": 1,
        "bundle": bundle.path.resolve().name,
        "files": dict(bundle.manifest["files"]),
        "device": {
            "processor": model.strip(), "architecture": architecture.strip(), "system": system.strip(),
            "cpus": int(cpus) if cpus.strip().isdigit() else 1, "runtime": f"{TOOL} {CPU}", "threads": options.threads,
        },
        "latency_ms": {"samples": _samples_ms(told, link)},
    }  # fmt: skip
    return parse_report(json.dumps(report), f"What {link.name} told", bundle)


def _samples_ms(told: str, link: Link) -> list[float]:
    rows = [line.split(",") for line in told.splitlines() if line.count(",") >= 4]
    try:
        samples = [1e3 * float(row[-4]) for row in rows]
    except ValueError:
        samples = []
    if not samples:
        raise MissingEnvironmentError(
            f"{TOOL} on {link.name} gave no times; try a newer build of it."
        )
    return samples


def _run(link: Link, script: str, fault: str) -> str:
    done = subprocess.run(
        link.command(script), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if broken := link.failure(done.returncode, done.stderr):
        raise LinkError(f"{link.name} cannot be reached: {broken}.")
    if done.returncode:
        raise MissingEnvironmentError(f"{link.name} {fault}: {last_line(done.stderr)}.")
    return done.stdout
