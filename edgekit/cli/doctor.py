"""edgekit doctor"""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict, dataclass

import typer

from edgekit.cli.output import Json, print_json
from edgekit.report import aligned

EXTRAS = {
    "huggingface_hub": "hub",
    "av": "train",
    "lightning-fabric": "train",
    "torchmetrics": "train",
    "diffusers": "teachers",
    "coreai-torch": "coreai",
    "pycocotools": "detection",
}


@dataclass(frozen=True)
class Check:
    what: str
    found: str
    passed: bool
    remedy: str = ""


def doctor(json: Json = False) -> None:
    """Check that what edgekit needs is installed."""
    checks = [_python(), *_packages(), _blob_writer(), _symbol_coder()]
    healthy = all(check.passed for check in checks)
    if json:
        print_json({"passed": healthy, "checks": [asdict(check) for check in checks]})
    else:
        rows = [("", "what", "found", "what to do")]
        rows += [("ok" if c.passed else "FAIL", c.what, c.found, c.remedy) for c in checks]
        print(aligned(rows))
    raise typer.Exit(0 if healthy else 4)


def _python() -> Check:
    found = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("python 3.11-3.13", found, fits, "" if fits else "coremltools has no other wheels")


def _packages() -> list[Check]:
    """Every dependency of the distribution against the range that it states."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    checks: dict[str, Check] = {}
    for line in requires("edgekit-vision") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and requirement.name not in EXTRAS:
            continue
        wanted = f"{requirement.name} {requirement.specifier}".strip()
        optional = EXTRAS.get(requirement.name)
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            install = (
                f"pip install 'edgekit-vision[{optional}]'" if optional else f"pip install '{line}'"
            )
            found = f"not installed (optional: {optional})" if optional else "not installed"
            checks[wanted] = Check(wanted, found, optional is not None, install)
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        checks[wanted] = Check(wanted, found, fits, "" if fits else f"pip install '{line}'")
    return list(checks.values())


def _blob_writer() -> Check:
    """coremltools wheels without native code import but fail when they save (coremltools#2695)."""
    from edgekit.backends.coreml.quiet import import_coremltools

    what = "coremltools can write weights"
    try:
        import_coremltools()
        from coremltools.libmilstoragepython import _BlobStorageWriter  # noqa: F401
    except ImportError as error:
        remedy = "use Python 3.11-3.13 on x86_64 Linux or macOS, where its wheel is complete"
        return Check(what, str(error), False, remedy)
    return Check(what, "yes", True)


def _symbol_coder() -> Check:
    """Built by the system's compiler; without one, split heads are coded in Python."""
    from edgekit.split.coder import why_not_native

    reason = why_not_native()
    found = "built" if not reason else "not built (optional: split)"
    return Check("coder of split heads in C", found, True, reason)
