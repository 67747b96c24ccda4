"""The contract of video decoders: which sizes exist, and what a pipeline did to a latent's values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit.contract import Size, TensorSpec
from edgekit.errors import UsageError

if TYPE_CHECKING:
    # numpy takes 0.1 s to import and every verb reads recipes.
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

PIPELINE_INPUT = "pipeline_latent"
"""The name under which `run` takes latents as a diffusion pipeline holds them."""


@dataclass(frozen=True)
class VideoLatent:
    """How a latent N C T h w and its video N 3 F H W belong together."""

    channels: int
    stride: int
    """Pixels per latent cell."""
    frame_stride: int
    """Frames per latent step."""
    lead_frame: bool
    """The first latent step is one frame: F = frame_stride·(T-1)+1, else frame_stride·T."""
    low: float
    high: float
    """Range of the video's values."""

    def specs(self, height: int, width: int, frames: int) -> tuple[TensorSpec, TensorSpec]:
        """Contracts of the latent and of the video for a picture size in pixels.

        Raises:
            UsageError: no latent gives that height, width or number of frames.
        """
        for side, pixels in (("height", height), ("width", width)):
            if pixels < self.stride or pixels % self.stride:
                near = max(self.stride, round(pixels / self.stride) * self.stride)
                raise UsageError(
                    f"The {side} {pixels} is no multiple of the latent stride {self.stride}; "
                    f"the nearest that is: {near}."
                )
        steps = self._steps(frames)
        latent = (1, self.channels, steps, height // self.stride, width // self.stride)
        meaning = "raw latent of the teacher's encoder"
        return (
            TensorSpec("latent", latent, axes="NCTHW", meaning=meaning),
            TensorSpec(
                "video", (1, 3, frames, height, width), axes="NCTHW", low=self.low, high=self.high,
                meaning="RGB frames, not clamped: a few values pass low and high",
            ),
        )  # fmt: skip

    def frames(self, steps: int) -> int:
        """Frames of the video for so many latent steps."""
        lead = 1 if self.lead_frame else 0
        return self.frame_stride * (steps - lead) + lead

    def _steps(self, frames: int) -> int:
        lead = 1 if self.lead_frame else 0
        steps = round((frames - lead) / self.frame_stride) + lead
        possible = max(1, steps)
        nearest = self.frames(possible)
        if nearest != frames:
            form = f"{self.frame_stride}·n+1" if lead else f"a multiple of {self.frame_stride}"
            raise UsageError(
                f"The decoder cannot produce {frames} frames, only {form}; the nearest is {nearest}."
            )
        return possible


@dataclass(frozen=True)
class LatentScaling:
    """raw = pipeline · std / divisor + mean: what a teacher's pipeline undoes before its decoder."""

    divisor: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    missing: str = ""
    """What the recipe lacks and where it is to be had, if it lacks something."""

    def with_statistics(self, statistics: LatentScaling) -> LatentScaling:
        """With the means and deviations that the recipe lacks.

        Raises:
            UsageError: it lacks none, and others would scale wrongly.
        """
        if not self.missing:
            raise UsageError(
                "This model's recipe has its whole latent scaling; leave --statistics away."
            )
        return replace(self, mean=statistics.mean, std=statistics.std, missing="")

    def to_raw(self, latent: Floats) -> Floats:
        """Raw latents of pipeline latents N C T h w.

        Raises:
            UsageError: the statistics are not known here.
        """
        if self.missing:
            raise UsageError(
                f"Pipeline latents need a scaling that is not in the recipe: {self.missing}, or scale them "
                "yourself and give the input 'latent'."
            )
        if latent.ndim != 5:
            raise UsageError(
                f"A pipeline latent has five axes, N C T H W, and {latent.ndim} were given."
            )
        import numpy as np

        def per_channel(values: tuple[float, ...]) -> Floats:
            if len(values) != latent.shape[1]:
                raise UsageError(
                    f"The latent has {latent.shape[1]} channels and its statistics have {len(values)}."
                )
            return np.asarray(values, dtype=np.float32).reshape(1, -1, 1, 1, 1)

        raw = latent / np.float32(self.divisor)
        if self.std:
            raw = raw * per_channel(self.std)
        if self.mean:
            raw = raw + per_channel(self.mean)
        return np.asarray(raw, dtype=np.float32)

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LatentScaling:
        lists = {name: tuple(data[name]) for name in ("mean", "std") if name in data}
        return cls(**{**data, **lists})


@dataclass(frozen=True)
class VideoContract:
    """A latent goes in, a video comes out."""

    latent: VideoLatent
    scaling: LatentScaling
    height: int
    """Default picture size in pixels."""
    width: int
    frames: int

    def specs(
        self, height: int | None, width: int | None, frames: int | None
    ) -> tuple[TensorSpec, tuple[TensorSpec, ...]]:
        """Latent and video for a size in pixels; None takes the default. Raises UsageError."""
        latent, video = self.latent.specs(
            self.height if height is None else height,
            self.width if width is None else width,
            self.frames if frames is None else frames,
        )
        return latent, (video,)

    def size_of(self, given: tuple[int, ...]) -> Size:
        """The size at which the latent has this shape. Raises UsageError."""
        if len(given) != 5:
            raise UsageError(f"An input of shape {given} is no latent N C T H W.")
        _, _, steps, rows, columns = given
        return Size(
            rows * self.latent.stride, columns * self.latent.stride, self.latent.frames(steps)
        )

    def check(self, architecture: Mapping[str, Any]) -> None:
        """Raises ValueError if there is no such latent, or the network takes another one."""
        for field in ("channels", "stride", "frame_stride"):
            if getattr(self.latent, field) < 1:
                raise ValueError(f"'{field}' must be at least 1")
        built_for = architecture.get("latent_channels", self.latent.channels)
        if built_for != self.latent.channels:
            raise ValueError(
                f"the architecture takes {built_for} latent channels and the latent has "
                f"{self.latent.channels}"
            )

    def declared(self) -> dict[str, object]:
        """What tensor shapes do not say, for manifests."""
        return {"latent_scaling": self.scaling.to_json()}
