"""Errors that a user can act on. Each message is one sentence; each class has its exit code."""

from __future__ import annotations

from typing import ClassVar


class EdgekitError(Exception):
    """Base of all errors that the command line shows as a sentence instead of a traceback."""

    exit_code: ClassVar[int] = 1


class ConversionError(EdgekitError):
    """A model could not be turned into the requested file."""

    exit_code = 1


class UsageError(EdgekitError):
    """A name, option, file or size that the user gave cannot be used."""

    exit_code = 2


class TrainingError(EdgekitError):
    """A training run cannot go on: a loss is not a number any more."""

    exit_code = 1


class StoppedError(EdgekitError):
    """The user stopped long work, which was saved and can be resumed."""

    exit_code = 130


class ParityError(EdgekitError):
    """A written file does not compute what the model computes."""

    exit_code = 3


class PacketError(EdgekitError):
    """A packet of symbols is damaged, cut too early, or made for another head."""

    exit_code = 1


class MissingEnvironmentError(EdgekitError):
    """Something outside the project is missing: a package, the network, disk space."""

    exit_code = 4


class LinkError(MissingEnvironmentError):
    """The other end of a split cannot be reached, went away, or has no time: compute here instead."""


def first_line(error: BaseException) -> str:
    """What an exception of other people's code says, to be quoted: one line without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def kind_and_line(error: BaseException) -> str:
    """ "KeyError: 'width'", or the kind alone of an exception that says nothing."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def is_out_of_memory(error: BaseException) -> bool:
    """torch has no class of its own for this on the CPU."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)
