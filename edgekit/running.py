"""What computes a bundle, whatever it holds: a file, a plan, or a head and its tails."""

from __future__ import annotations

from edgekit.backends.runnable import Runnable
from edgekit.bundle import Bundle
from edgekit.plan.runner import open_runnable
from edgekit.split.bundle import Halves, SplitBundle, SplitFacts


def open_whole(bundle: Bundle) -> Runnable:
    """The whole network's inputs in, its outputs out. Raises UsageError."""
    if SplitFacts.of(bundle) is not None:
        return Halves(SplitBundle(bundle))
    return open_runnable(bundle)
