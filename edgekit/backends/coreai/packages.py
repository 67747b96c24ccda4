"""The optional Core AI packages, imported by name and without their chatter."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from edgekit.errors import MissingEnvironmentError

RUNTIME_CHATTER = b"ODIE [default]: Loading function"


def coreai_module(name: str) -> ModuleType:
    """Import `coreai_torch`, `coreai.runtime` and the like.

    Raises MissingEnvironmentError where the packages are absent or not made for this machine.
    """
    try:
        with warnings.catch_warnings():
            # It takes 2.13.0+cpu for newer than 2.13.0 and warns.
            warnings.filterwarnings("ignore", "coreai-torch has only been validated")
            return importlib.import_module(name)
    except ImportError as error:
        raise MissingEnvironmentError(
            f"Core AI files need the package coreai-torch, which cannot be imported ({error}); "
            "pip install 'edgekit-vision[coreai]' installs it on x86_64 Linux with glibc 2.34 "
            "and on macOS 26 or later."
        ) from error


@contextmanager
def quiet_runtime() -> Iterator[None]:
    """Hold back the line that the runtime writes to the standard error for every function.

    It is written below Python, so the descriptor itself is diverted; other lines are passed on.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as diverted:
        os.dup2(diverted.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            diverted.seek(0)
            for line in diverted:
                if not line.startswith(RUNTIME_CHATTER):
                    os.write(2, line)
