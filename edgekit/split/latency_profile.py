"""How long a device takes for the layers of a network: a JSON file.

    {"format": "edgekit-latency-profile", "version": 1, "device": "a phone", "model": "mobilenet-v2",
     "input": [1, 3, 224, 224], "layers": [{"name": "features.0", "ms": 0.52}, ...], "power_w": {"compute": 3, "send": 1.5, "idle": 0.4}}

`layers` follow each other; each lasts from the end of the one before to its own end, and the last one to
the end of the network. A plan of another `model` or `input` than those named refuses it. In their place `slower` may stand: how many times as long as here. `power_w` may
be left out. `edgekit split plan --save-profile` writes such a file on the machine that it runs on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import MissingEnvironmentError, UsageError, first_line
from edgekit.split.candidates import Power

FORMAT = "edgekit-latency-profile"
VERSION = 1


@dataclass(frozen=True)
class LatencyProfile:
    device: str
    model: str | None = None
    layers: Mapping[str, float] | None = None
    """Milliseconds by name, in order of execution."""
    slower: float | None = None
    """Than the machine that plans."""
    power: Power | None = None
    input_shape: tuple[int, ...] | None = None
    """That `model` was measured with."""

    @property
    def total_ms(self) -> float:
        return sum((self.layers or {}).values())

    def require_of(self, model: str, input_shape: tuple[int, ...]) -> None:
        """Raises UsageError if it says that it measured something else."""
        again = "there with --save-profile"
        if self.model not in (None, model):
            raise UsageError(
                f"The profile of {self.device} measured {self.model}, not {model}; measure {model} {again}."
            )
        if self.input_shape not in (None, input_shape):
            was, now = (
                "x".join(map(str, shape)) for shape in (self.input_shape or (), input_shape)
            )
            raise UsageError(
                f"The profile of {self.device} measured {model} with the input {was}, not {now}; plan with "
                f"that --size, or measure this one {again}."
            )

    def write(self, path: Path) -> None:
        """Raises MissingEnvironmentError."""
        layers = [{"name": name, "ms": round(ms, 5)} for name, ms in (self.layers or {}).items()]
        data = {
            "format": FORMAT, "version": VERSION, "device": self.device, "model": self.model, "layers": layers,
            **({} if self.input_shape is None else {"input": list(self.input_shape)}),
        }  # fmt: skip
        try:
            path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise MissingEnvironmentError(f"{path} cannot be written: {error.strerror}.") from error

    @classmethod
    def read(cls, path: Path) -> LatencyProfile:
        """Raises UsageError for a file that is missing or no profile."""
        try:
            data = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise UsageError(f"The profile {path} cannot be read: {reason}.") from error
        if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (
            FORMAT,
            VERSION,
        ):
            raise UsageError(
                f"{path} is no latency profile of version {VERSION} (its format must be {FORMAT!r})."
            )
        try:
            profile = cls(
                str(data["device"]), _name(data.get("model")), _layers(data.get("layers")),
                _time("slower", data["slower"]) if "slower" in data else None, _power(data.get("power_w")),
                _shape(data.get("input")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"The profile {path} is damaged: {first_line(error)}.") from error
        if (profile.layers is None) == (profile.slower is None):
            raise UsageError(f"The profile {path} needs either 'layers' or 'slower'.")
        return profile


def _layers(listed: Any) -> dict[str, float] | None:
    if listed is None:
        return None
    found = {str(layer["name"]): _time("ms", layer["ms"]) for layer in listed}
    if not found or len(found) != len(listed):
        raise ValueError("its layers are none, or two have one name")
    return found


def _name(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError(f"its model is no name, but {value!r}")
    return value


def _shape(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(size) is int and size > 0 for size in value):
        raise TypeError(f"its input is no shape, but {value!r}")
    return tuple(value)


def _power(data: Any) -> Power | None:
    if data is None:
        return None
    return Power(**{name: _time(name, watts) for name, watts in data.items()})


def _time(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"'{name}' is {value!r} and must be a number from 0")
    return float(value)
