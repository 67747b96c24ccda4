"""coremltools without the messages it logs on every import."""

from __future__ import annotations

import logging
from types import ModuleType

EXPECTED = (
    # The macOS runtime proxies are absent off macOS by design: only `predict` needs them.
    "No module named 'coremltools.libcoremlpython'",
    # "not tested with" notices; the versions that edgekit supports are pinned by edgekit itself.
    "has not been tested with coremltools",
    "is not supported. Minimum required version",
    "scikit-learn version",
)


def unexpected(record: logging.LogRecord) -> bool:
    """False for a record that says nothing about the user's model."""
    message = record.getMessage()
    return not any(part in message for part in EXPECTED)


def import_coremltools() -> ModuleType:
    """Import coremltools; every other warning and error that it logs stays visible."""
    logger = logging.getLogger("coremltools")
    if unexpected not in logger.filters:
        logger.addFilter(unexpected)
    import coremltools

    module: ModuleType = coremltools
    return module
