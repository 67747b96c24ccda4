"""The runner on a device: copied there, started, listened to, and removed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.bundle import MANIFEST, Bundle
from edgekit.data_folder import data_folder
from edgekit.errors import LinkError, MissingEnvironmentError, UsageError
from edgekit.plan.choose import in_units
from edgekit.profiling.devices.link import Link, last_line
from edgekit.profiling.of_bundle import CPU, ProfileOptions
from edgekit.profiling.opened import device_files, require_measurable
from edgekit.profiling.report_file import parse_report
from edgekit.profiling.result import Profile

RUNNER = "edgekit_runner.py"
PREFIX = "edgekit-"
"""Of folders on a device."""
SAID_BY_RUNNER = "edgekit_runner: "
NO_FOLDER, NO_RUNTIME, NO_MEMORY = 90, 91, 92
KILLED = 128 + 9
SPARE_BYTES = 1 << 20
"""For the runner, and its report."""
STEPS = {
    "device": "opening", "load_ms": "golden", "golden": "latency", "latency_ms": "latency",
    "throughput_per_s": "layers", "layers": "ceilings", "roofline": "memory",
    "bundles": "pairs of runs",
}  # fmt: skip
"""What the runner does next, by the field that it told at last."""


def runner_file() -> Path:
    return data_folder("export") / "board" / RUNNER


def bundle_files(bundle: Bundle) -> dict[str, Path]:
    """Those that the runner reads, by their paths below the bundle's name."""
    names = [MANIFEST, *device_files(bundle)]
    return {f"{bundle.path.resolve().name}/{name}": bundle.path / name for name in names}


def runner_arguments(bundle: Bundle, options: ProfileOptions) -> list[str]:
    return [RUNNER, f"./{bundle.path.resolve().name}", *runner_options(options)]


def runner_options(options: ProfileOptions) -> list[str]:
    timing = options.timing
    words = [
        "--threads", str(options.threads), "--seconds", f"{timing.seconds:g}",
        "--least-runs", str(timing.least_runs),
    ]  # fmt: skip
    return words if options.provider == CPU else [*words, "--provider", options.provider]


def measure_over(
    link: Link, bundle: Bundle, options: ProfileOptions, progress: Callable[[str], None]
) -> Profile:
    """A measurement that broke off after its first samples is a Profile that says so.

    Raises UsageError, MissingEnvironmentError or LinkError.
    """
    require_measurable(bundle)
    words = runner_arguments(bundle, options)
    ended = run_there(link, bundle_files(bundle), words, progress)
    reason = reason_of(link, ended, needed="latency_ms")
    found = parse_report(ended.told, f"What {link.name} told", bundle)
    return replace(found, incomplete=reason) if reason else found


def run_there(
    link: Link, files: dict[str, Path], words: list[str], progress: Callable[[str], None]
) -> Ended:
    """The runner with these arguments, in a folder of these files.

    Nothing stays on the device, even if the link breaks: the script there cleans up after itself.
    """
    progress("connecting")
    link.connect()
    folder = _new_folder(link, sum(path.stat().st_size for path in files.values()))
    try:
        progress("copying")
        link.push({RUNNER: runner_file(), **files}, folder)
        return _run(link, words, folder, progress)
    finally:
        _command(link, f"rm -rf {shlex.quote(folder)}")


def new_folder(link: Link) -> str:
    """The command that makes one on the device and prints its name."""
    return f"mktemp -d {shlex.quote(link.temporary)}/{PREFIX}XXXXXX"


def found_folder(link: Link, said: str) -> str:
    """What was said from the folder's name on; "" for none. It will be removed with all that is in it, so that
    nothing else that a login shell prints may be taken for it."""
    name = re.search(rf"^{re.escape(f'{link.temporary}/{PREFIX}')}\w{{6}}$", said, re.MULTILINE)
    return said[name.start() :] if name else ""


def _new_folder(link: Link, needed_bytes: int) -> str:
    """On the device, which is seen to have Python, onnxruntime and room enough."""
    python = shlex.quote(link.python)
    done = _command(
        link,
        f"folder=$({new_folder(link)}) || exit {NO_FOLDER}\n"
        f"{python} -c 'import numpy, onnxruntime' || {{ rmdir $folder; exit {NO_RUNTIME}; }}\n"
        "echo $folder\ndf -Pk $folder | tail -n 1",
    )
    said = last_line(done.stderr)
    if broken := link.failure(done.returncode, done.stderr):
        raise LinkError(f"{link.name} cannot be reached: {broken}.")
    if done.returncode == NO_RUNTIME:
        raise MissingEnvironmentError(
            f"{link.python} on {link.name} does not run onnxruntime ({said}); install it there (pip install "
            "numpy onnxruntime), or name another Python at the end of --device."
        )
    folder, _, left = found_folder(link, done.stdout).partition("\n")
    if done.returncode or not folder:
        raise MissingEnvironmentError(f"{link.name} gives no folder to work in: {said}.")
    free = left.split()
    free_bytes = 1024 * int(free[3]) if len(free) > 3 and free[3].isdigit() else None
    if free_bytes is not None and free_bytes < needed_bytes + SPARE_BYTES:
        _command(link, f"rmdir {shlex.quote(folder)}")
        raise MissingEnvironmentError(
            f"The bundle has {in_units(needed_bytes)} and {link.temporary} on {link.name} only "
            f"{in_units(free_bytes)} left; make room there, or export a smaller model."
        )
    return folder


def _run(link: Link, words: list[str], folder: str, progress: Callable[[str], None]) -> Ended:
    where = shlex.quote(folder)
    words = [link.python, *words, "--stream"]
    script = (
        f"trap 'rm -rf {where}' EXIT\ntrap 'exit 1' HUP INT TERM\n"
        # What onnxruntime's profiler writes goes with the rest, even if the runner is killed.
        f"cd {where} && TMPDIR={where} {shlex.join(words)}"
    )
    with tempfile.TemporaryFile() as errors:
        running = subprocess.Popen(
            link.command(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        assert running.stdout is not None
        try:
            told = ""
            for line in running.stdout:
                text = line.decode(errors="replace").strip()
                if fields := _fields(text):
                    told = text
                    progress(next((STEPS[name] for name in reversed(fields) if name in STEPS), ""))
            code = running.wait()
        finally:
            running.kill()
            running.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    return Ended(code, said, told)


@dataclass(frozen=True)
class Ended:
    """A runner, of itself or not."""

    code: int
    said: str
    """On stderr, at last."""
    told: str
    """The last whole report."""


def reason_of(link: Link, ended: Ended, needed: str) -> str:
    """Why the runner did not come to its end, as a clause; "" if it did.

    Raises UsageError, MissingEnvironmentError or LinkError if it had not told the field `needed` by then.
    """
    reason = _reason(link, ended)
    if reason and needed not in _fields(ended.told):
        told = f"Nothing was measured on {link.name}: {reason}."
        if ended.code != NO_MEMORY and last_line(ended.said).startswith(SAID_BY_RUNNER):
            raise UsageError(told)
        lost = link.failure(ended.code, ended.said)
        raise LinkError(told) if lost else MissingEnvironmentError(told)
    return reason


def _reason(link: Link, ended: Ended) -> str:
    if ended.code == 0 and ended.told:
        return ""
    if broken := link.failure(ended.code, ended.said):
        return f"the connection was lost ({broken})"
    if ended.code == KILLED:
        return "the runner was killed there, as systems do that are out of memory"
    if ended.code == NO_MEMORY:
        return "the model needs more memory than the device has; export a smaller one, or with --memory-budget"
    said = last_line(ended.said)
    if said.startswith(SAID_BY_RUNNER):
        return said.removeprefix(SAID_BY_RUNNER)
    return f"the runner ended with code {ended.code} ({said})"


def _fields(text: str) -> list[str]:
    """Of a report, in the order they were told; none for a line that is no whole one."""
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return list(data) if isinstance(data, dict) and "schema" in data else []


def _command(link: Link, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        link.command(script), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
