"""Video autoencoders of diffusers, and Open-Sora's DC-AE, as frozen teachers.

A teacher gives the posterior of its latent for a clip, and for a latent its decoder's features at named
points: "mid" behind the middle block, "up0", "up1", ... behind each up block. What differs between the
classes is one `Adapter` each.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.distillation.frame_teacher import ENDS, load_frame_teacher
from edgekit.distillation.inheritance import ltx_decoder_weights, plain_weights
from edgekit.distillation.taps import Batch, Tapped
from edgekit.errors import MissingEnvironmentError, UsageError, first_line

LOG_VARIANCE = (-30.0, 20.0)  # what diffusers clamps a posterior's to


@dataclass(frozen=True)
class Posterior:
    """Of a latent, N C t h w: mean and standard deviation."""

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class Adapter:
    """How one class of autoencoders is used."""

    frame_stride: Callable[[Any], int]
    """Frames per latent, after the first one where `has_lead_frame`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Attributes that make it take a clip in one piece: blended or later pieces have other features."""
    has_lead_frame: bool = True
    points: Mapping[str, str] | None = None
    """Paths by name; None: the middle and up blocks where diffusers has them."""
    encoder_stages: str = "encoder.down_blocks"
    pieces_axis: int = 2
    """Along which the pieces lie, where blocks run several times: time, or the items of a batch."""
    encode: Callable[[Any, Tensor], Posterior] | None = None
    decode: Callable[[Any, Tensor], Tensor] | None = None
    weights_for_student: Callable[[nn.Module], dict[str, Tensor]] = plain_weights
    refuse: Callable[[Any], str] = lambda _network: ""
    """Why this one cannot teach, or ""."""


def _refused_ltx(network: Any) -> str:
    if network.config.timestep_conditioning or any(network.config.decoder_inject_noise):
        return (
            "its decoder is conditioned on a time step or adds noise, as from LTX-Video 0.9.1 on; Turbo-VAED's "
            "teacher is that of 0.9.0"
        )
    return ""


def _no_deviation(network: Any, video: Tensor) -> Posterior:
    mean = network.encode(video)
    return Posterior(mean, torch.zeros_like(mean))  # it is no VAE


ADAPTERS: Mapping[str, Adapter] = {
    "AutoencoderKLLTXVideo": Adapter(
        lambda network: int(network.temporal_compression_ratio),
        weights_for_student=ltx_decoder_weights,
        refuse=_refused_ltx,
    ),
    "AutoencoderKLHunyuanVideo": Adapter(
        lambda network: int(network.temporal_compression_ratio),
        # 17 frames would be cut into overlapping pieces of 16, which are blended.
        {"use_framewise_encoding": False, "use_framewise_decoding": False},
    ),
    "AutoencoderKLCogVideoX": Adapter(
        lambda network: int(network.config.temporal_compression_ratio),
        # As Turbo-VAED's code has it: with diffusers' 2, the features are those of two latents each.
        {"num_latent_frames_batch_size": 8},
    ),
    # 2.1, and 2.2 with its residual blocks and patches. It decodes latent by latent.
    "AutoencoderKLWan": Adapter(lambda network: 2 ** sum(network.config.temperal_downsample)),
    # Open-Sora 2's, from its own package. Stages count from the output: 5 is at the latent's resolution.
    "DCAE_HF": Adapter(
        lambda network: int(network.time_compression_ratio),
        {"use_temporal_tiling": False, "use_spatial_tiling": False},
        has_lead_frame=False,
        pieces_axis=0,
        encoder_stages="encoder.stages",
        points={"mid": "decoder.project_in", "up0": "decoder.stages.5", "up1": "decoder.stages.4"},
        encode=_no_deviation,
        decode=lambda network, latent: network.decode(latent),
    ),
    # Of pictures: a latent for each frame.
    "FrameByFrame": Adapter(
        lambda _network: 1,
        encoder_stages="encoder",
        points={point: f"seen.{point}" for point in ENDS},
        encode=_no_deviation,
        decode=lambda network, latent: network.decode(latent),
    ),
}


class Watched(nn.Module):
    """An autoencoder's way from latents to video or back, with what it holds at named points.

    Modules `points.NAME` give the features at the points, whole, for others to tap: an autoencoder may
    return tuples from its blocks, or run them once for every few frames.
    """

    def __init__(
        self,
        network: nn.Module,
        paths: Mapping[str, str],
        run: Callable[[Tensor], Tensor],
        pieces_axis: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.points = nn.ModuleDict({name: nn.Identity() for name in paths})
        self._run = run
        self._pieces_axis = pieces_axis
        self._seen: dict[str, list[Tensor]] | None = None
        for name, path in paths.items():
            network.get_submodule(path).register_forward_hook(self._collect(name))

    def _collect(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if self._seen is not None:
                self._seen[name].append(output[0] if isinstance(output, tuple) else output)

        return keep

    def forward(self, x: Tensor) -> Tensor:
        self._seen = {name: [] for name in self.points}
        try:
            made = self._run(x)
            for name, point in self.points.items():
                point(torch.cat(self._seen[name], dim=self._pieces_axis))
        finally:
            self._seen = None
        return made


class VideoTeacher:
    """An autoencoder, frozen."""

    def __init__(self, network: nn.Module) -> None:
        """Raises UsageError for a class without an adapter, or a network that cannot teach."""
        kind = type(network).__name__
        if kind not in ADAPTERS:
            raise UsageError(
                f"There is no adapter for teachers of the class {kind}; there are {', '.join(ADAPTERS)}."
            )
        self._adapter = ADAPTERS[kind]
        if reason := self._adapter.refuse(network):
            raise UsageError(f"This {kind} cannot teach: {reason}.")
        self.network: Any = network.eval().requires_grad_(False)
        for name, value in self._adapter.settings.items():
            setattr(network, name, value)
        paths = self._adapter.points or _points(network)
        self.decoder = Watched(network, paths, self._decode, self._adapter.pieces_axis)
        self.frame_stride = self._adapter.frame_stride(network)
        self.has_lead_frame = self._adapter.has_lead_frame

    @property
    def points(self) -> list[str]:
        return list(self.decoder.points)

    def tapped(self, points: list[str]) -> Tapped:
        """For `distill`: it decodes what a batch has as "latent"."""
        return Tapped(self.decoder, {name: f"points.{name}" for name in points}, forward=on_latent)

    def require_frames(self, frames: int) -> None:
        """Raises UsageError for a clip that is not a whole number of latents."""
        lead = int(self.has_lead_frame)
        if frames < 1 or (frames - lead) % self.frame_stride:
            raise UsageError(
                f"A clip has {frames} frames, and this teacher takes {self.frame_stride}·n"
                f"{' + 1' if lead else ''} of them."
            )

    def encode(self, video: Tensor) -> Posterior:
        """Of a video N 3 T H W in [-1, 1]; with gradients, where the video has them."""
        if self._adapter.encode is not None:
            return self._adapter.encode(self.network, video)
        found = self.network.encode(video).latent_dist
        return Posterior(found.mean, (0.5 * found.logvar.clamp(*LOG_VARIANCE)).exp())

    def watched_encoder(self) -> Watched:
        """Video N 3 T H W in [-1, 1] to the latent's mean, with a point behind each of its stages."""
        stages = self.network.get_submodule(self._adapter.encoder_stages)
        paths = {
            str(index): f"{self._adapter.encoder_stages}.{name}"
            for index, (name, _) in enumerate(stages.named_children())
        }
        axis = self._adapter.pieces_axis
        return Watched(self.network, paths, lambda video: self.encode(video).mean, axis)

    def _decode(self, latent: Tensor) -> Tensor:
        if self._adapter.decode is not None:
            return self._adapter.decode(self.network, latent)
        video: Tensor = self.network.decode(latent).sample
        return video

    def weights_for_student(self) -> dict[str, Tensor]:
        """Of the decoder, under the names that Turbo-VAED's student has for the same."""
        return self._adapter.weights_for_student(self.network.get_submodule("decoder"))


def on_latent(module: nn.Module, batch: Batch) -> Any:
    return module(batch["latent"])


def load_teacher(folder: Path) -> VideoTeacher:
    """From a folder as diffusers saves one (config.json, safetensors), or a pipeline's with `vae/`.

    A folder of TAEF2's two files gives a teacher that works frame by frame. Raises UsageError, and
    MissingEnvironmentError without diffusers or, for DC-AE, without Open-Sora.
    """
    if (folder / "taef2_encoder.pth").is_file():
        return VideoTeacher(load_frame_teacher(folder))
    if (folder / "vae" / "config.json").is_file():
        folder = folder / "vae"
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = str(config.get("_class_name", "DCAE_HF" if "model_name" in config else "unnamed"))
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UsageError(
            f"{folder} is no folder of a teacher: its config.json cannot be read ({reason}). It is what "
            "save_pretrained of diffusers writes."
        ) from error
    if kind not in ADAPTERS:
        raise UsageError(
            f"{path} names the class {kind}, for which there is no adapter; there are {', '.join(ADAPTERS)}."
        )
    is_open_sora = kind == "DCAE_HF"
    package = "opensora.models.dc_ae.ae_model_zoo" if is_open_sora else "diffusers"
    try:
        made: Any = getattr(importlib.import_module(package), kind)
    except (ImportError, AttributeError) as error:
        how = (
            "Open-Sora's own package (github.com/hpcaitech/Open-Sora)"
            if is_open_sora
            else "diffusers; install it with: pip install 'edgekit-vision[teachers]'"
        )
        raise MissingEnvironmentError(f"A teacher of the class {kind} needs {how}.") from error
    try:
        # The other way needs `accelerate`, and saves memory that training needs anyway.
        how_loaded = {} if is_open_sora else {"low_cpu_mem_usage": False}
        network = made.from_pretrained(str(folder), **how_loaded)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise UsageError(
            f"The teacher in {folder} cannot be loaded: {first_line(error)}."
        ) from error
    return VideoTeacher(network.float())


def _points(network: nn.Module) -> dict[str, str]:
    blocks = network.get_submodule("decoder.up_blocks")
    return {"mid": "decoder.mid_block"} | {
        f"up{index}": f"decoder.up_blocks.{index}" for index, _ in enumerate(blocks.children())
    }
