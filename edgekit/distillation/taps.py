"""What a network gives in training: its output, and what its named inner modules compute."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from edgekit.data_folder import suggestion
from edgekit.errors import UsageError

Batch = Any
"""What the data set's items become when they are stacked: a tensor, a tuple or a dict of tensors."""
Forward = Callable[[nn.Module, Batch], Any]


def on_first(module: nn.Module, batch: Batch) -> Any:
    """The module's output for the batch if that is a tensor, or for its first tensor."""
    if isinstance(batch, Tensor):
        return module(batch)
    if isinstance(batch, Sequence) and batch:
        return module(batch[0])
    raise UsageError(
        f"A batch is a {type(batch).__name__}, so that what goes into {type(module).__name__} is not "
        "known; give forward=lambda module, batch: module(batch['...'])."
    )


def nearest_path(path: str, known: Sequence[str]) -> str:
    """A suggestion: the path most like it, or the outermost ones, of which there are not hundreds."""
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    return suggestion(path, near or [one for one in known if "." not in one])


@dataclass(frozen=True)
class Tapped:
    """A network, the places in it that are looked at, and how it runs on a batch."""

    module: nn.Module
    taps: Mapping[str, str] = field(default_factory=dict)
    """Names of taps, and the path of the module, such as "body.3", whose output each one is. Of a
    module that runs several times it is the last output."""
    projections: Mapping[str, nn.Module] = field(default_factory=dict)
    """By name of a tap: what its output goes through before losses see it. A projection trains with
    the student and is not part of the result."""
    forward: Forward = on_first

    def __post_init__(self) -> None:
        known = {name: module for name, module in self.module.named_modules() if name}
        kind = type(self.module).__name__
        for tap, path in self.taps.items():
            if path not in known:
                raise UsageError(
                    f"Tap '{tap}': {kind} has no module '{path}'; {nearest_path(path, list(known))}"
                )
        for tap in self.projections:
            if tap not in self.taps:
                raise UsageError(
                    f"There is a projection for '{tap}', which is no tap of {kind}; "
                    f"{suggestion(tap, list(self.taps) or ['no taps'])}"
                )
            if "." in tap:
                raise UsageError(
                    f"The tap '{tap}' has a projection, so its name cannot hold a dot."
                )


@dataclass(frozen=True)
class Outputs:
    """What a network gave for one batch. `outputs["name"]` is a tap."""

    output: Any = None
    taps: Mapping[str, Any] = field(default_factory=dict)
    whose: str = "student"

    def __getitem__(self, tap: str) -> Tensor:
        """Raises UsageError for a tap that does not exist, did not run, or is not a tensor."""
        if tap not in self.taps:
            there = suggestion(tap, list(self.taps)) if self.taps else "it has no taps."
            raise UsageError(
                f"A loss asks for the tap '{tap}' of the {self.whose}, which has none of that name, or "
                f"whose module did not run in this stage; {there}"
            )
        value = self.taps[tap]
        if not isinstance(value, Tensor):
            raise UsageError(
                f"The tap '{tap}' of the {self.whose} is a {type(value).__name__}, not a tensor; "
                "tap a module inside it."
            )
        return value


class Tap:
    """Collects the outputs of named modules while it is open."""

    def __init__(self, module: nn.Module, taps: Mapping[str, str]) -> None:
        self._seen: dict[str, Any] = {}
        self._handles = [
            module.get_submodule(path).register_forward_hook(self._collect(name))
            for name, path in taps.items()
        ]

    def _collect(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._seen[name] = output

        return keep

    def take(self) -> dict[str, Any]:
        """What was seen since the last call; nothing is held on to."""
        seen, self._seen = self._seen, {}
        return seen

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


@contextmanager
def opened(network: Tapped) -> Iterator[Tap]:
    """The hooks are gone when the block is left, however that is."""
    tap = Tap(network.module, network.taps)
    try:
        yield tap
    finally:
        tap.close()
