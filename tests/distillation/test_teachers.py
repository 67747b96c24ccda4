"""diffusers' autoencoders as teachers: shapes at their points, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("diffusers", reason="diffusers is in the extra 'teachers'")

import tiny_teachers as tiny

from edgekit.distillation import taef2
from edgekit.distillation.frame_teacher import FrameByFrame
from edgekit.distillation.taps import opened
from edgekit.distillation.teachers import ADAPTERS, VideoTeacher, load_teacher
from edgekit.errors import MissingEnvironmentError, UsageError

# Frames, and finer than the latent by, at mid, up0, up1, up2, up3, of 17 frames: facts of the full-size
# networks, which narrow ones share.
GRIDS = {
    "ltx": [(3, 1), (3, 1), (5, 2), (9, 4), (17, 8)],
    "hunyuan": [(5, 1), (5, 2), (9, 4), (17, 8), (17, 8)],
    "cogvideox": [(5, 1), (9, 2), (17, 4), (17, 8), (17, 8)],
    "wan21": [(5, 1), (9, 2), (17, 4), (17, 8), (17, 8)],
    "wan22": [(5, 1), (9, 2), (17, 4), (17, 8), (17, 8)],
}
STRIDES = {
    "ltx": (8, 32),
    "hunyuan": (4, 8),
    "cogvideox": (4, 8),
    "wan21": (4, 8),
    "wan22": (4, 16),
}


def features(teacher: VideoTeacher, latent: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    tapped = teacher.tapped(teacher.points)
    with opened(tapped) as tap, torch.no_grad():
        return tapped.forward(tapped.module, {"latent": latent}), tap.take()


@pytest.mark.parametrize("name", GRIDS)
def test_latents_and_features_have_the_grids_of_the_full_size_network(name: str) -> None:
    teacher = VideoTeacher(getattr(tiny, name)())
    time, space = STRIDES[name]
    assert teacher.frame_stride == time
    torch.manual_seed(1)
    with torch.no_grad():
        posterior = teacher.encode(torch.rand(1, 3, 17, 32, 32) * 2 - 1)
    assert posterior.mean.shape[2:] == (16 // time + 1, 32 // space, 32 // space)
    assert (posterior.deviation > 0).all()
    video, found = features(teacher, posterior.mean)
    assert video.shape == (1, 3, 17, 32, 32)
    grids = [(value.shape[2], value.shape[3] * space // 32) for value in found.values()]
    assert dict(zip(found, grids)) == dict(zip(["mid", "up0", "up1", "up2", "up3"], GRIDS[name]))


@pytest.mark.parametrize("name", ["ltx", "hunyuan", "cogvideox"])
def test_a_clip_is_decoded_in_one_piece(name: str) -> None:
    network = getattr(tiny, name)()
    teacher = VideoTeacher(network)
    channels = 8 if name == "ltx" else 4
    latent = torch.randn(1, channels, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        inner = network.post_quant_conv(latent) if name == "hunyuan" else latent
        expected = network.decoder(inner)
        expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(features(teacher, latent)[0], expected)


def test_a_posterior_is_that_of_diffusers() -> None:
    network: Any = tiny.hunyuan()
    network.use_framewise_encoding = False
    video = torch.rand(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = network.encode(video).latent_dist
        found = VideoTeacher(network).encode(video)
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.deviation, expected.std)


@pytest.mark.parametrize("make", [tiny.ltx, tiny.wan21, tiny.hunyuan, tiny.cogvideox])
def test_the_encoder_can_be_watched_with_gradients(make: Callable[[], nn.Module]) -> None:
    encoder = VideoTeacher(make()).watched_encoder()
    seen: dict[str, torch.Size] = {}
    for name, point in encoder.points.items():
        point.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.shape}))
    video = torch.rand(1, 3, 9, 32, 32).requires_grad_(True)
    encoder(video).sum().backward()
    assert video.grad is not None
    assert float(video.grad.abs().max()) > 0
    assert len(seen) >= 4


def test_a_teacher_has_no_gradients_and_stays_in_eval_mode() -> None:
    network = tiny.ltx().train()
    VideoTeacher(network)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("frames", "is_fine"), [(9, True), (17, True), (1, True), (16, False), (0, False)]
)
def test_a_clip_must_be_whole_latents(frames: int, is_fine: bool) -> None:
    teacher = VideoTeacher(tiny.ltx())
    if is_fine:
        teacher.require_frames(frames)
        return
    with pytest.raises(UsageError, match=rf"has {frames} frames, and this teacher takes 8·n \+ 1"):
        teacher.require_frames(frames)


def test_later_ltx_decoders_are_refused() -> None:
    with pytest.raises(UsageError, match=r"conditioned on a time step.*0\.9\.0"):
        VideoTeacher(tiny.ltx(timestep_conditioning=True))


def test_pictures_are_taught_frame_by_frame() -> None:
    torch.manual_seed(0)
    encoder, decoder = taef2.encoder().eval(), taef2.decoder().eval()
    teacher = VideoTeacher(FrameByFrame(encoder, decoder))
    video = torch.rand(1, 3, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        latent = teacher.encode(video).mean
        expected = torch.stack([decoder(encoder((frame + 1) / 2)) for frame in video.unbind(2)], 2)
    assert latent.shape == (1, 32, 3, 2, 3)
    made, found = features(teacher, latent)
    torch.testing.assert_close((made + 1) / 2, expected)
    assert {name: value.shape[1:] for name, value in found.items()} == {
        "mid": (64, 3, 2, 3), "up0": (64, 3, 4, 6), "up1": (64, 3, 8, 12)
    }  # fmt: skip


class DCAE_HF(nn.Module):  # noqa: N801
    """What the adapter uses of Open-Sora's class, which is in no package index: names, not its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.time_compression_ratio = 4
        self.use_temporal_tiling = self.use_spatial_tiling = True
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList([nn.AvgPool3d((4, 32, 32))])
        self.decoder = nn.Module()
        self.decoder.project_in = nn.Conv3d(3, 8, 1)
        scales = [(1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1)]
        self.decoder.stages = nn.ModuleList(nn.Upsample(scale_factor=scale) for scale in scales)
        self.decoder.project_out = nn.Conv3d(8, 3, 1)

    def encode(self, video: Tensor) -> Tensor:
        assert not self.use_temporal_tiling
        return torch.cat([self.encoder.stages[0](one) for one in video.split(1)])

    def decode(self, latent: Tensor) -> Tensor:
        return torch.cat([self.decode_one(one) for one in latent.split(1)])

    def decode_one(self, latent: Tensor) -> Tensor:
        x = self.decoder.project_in(latent)
        for stage in reversed(self.decoder.stages):
            x = stage(x)
        return self.decoder.project_out(x)


def test_open_soras_autoencoder_is_used_by_its_own_names() -> None:
    teacher = VideoTeacher(DCAE_HF())
    teacher.require_frames(16)
    with pytest.raises(UsageError, match="takes 4·n of them"):
        teacher.require_frames(17)
    video, found = features(teacher, teacher.encode(torch.zeros(2, 3, 8, 64, 64)).mean)
    assert video.shape == (2, 3, 8, 64, 64)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "mid": (2, 8, 2, 2, 2), "up0": (2, 8, 2, 2, 2), "up1": (2, 8, 4, 4, 4)
    }  # fmt: skip


def test_a_saved_teacher_loads_to_the_same_outputs(tmp_path: Path) -> None:
    network: Any = tiny.ltx()
    network.save_pretrained(tmp_path / "vae")
    latent = torch.randn(1, 8, 2, 2, 2)
    loaded = load_teacher(tmp_path)  # the folder of a pipeline
    assert torch.equal(features(loaded, latent)[0], features(VideoTeacher(network), latent)[0])


def write_config(folder: Path, text: str) -> Path:
    (folder / "config.json").write_text(text)
    return folder


def test_what_is_no_teacher_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder of a teacher.*save_pretrained"):
        load_teacher(tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        load_teacher(write_config(tmp_path, "{"))
    with pytest.raises(
        UsageError, match=r"names the class AutoencoderKL, for which.*AutoencoderKLWan"
    ):
        load_teacher(write_config(tmp_path, json.dumps({"_class_name": "AutoencoderKL"})))
    with pytest.raises(UsageError, match="no adapter for teachers of the class Linear"):
        VideoTeacher(nn.Linear(1, 1))
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_teacher(write_config(tmp_path, json.dumps({"_class_name": "AutoencoderKLWan"})))


def test_a_missing_package_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    write_config(tmp_path, json.dumps({"_class_name": "AutoencoderKLWan"}))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingEnvironmentError, match=r"edgekit-vision\[teachers\]"):
        load_teacher(tmp_path)
    write_config(tmp_path, json.dumps({"model_name": "dc-ae-f32t4c128"}))
    with pytest.raises(MissingEnvironmentError, match="Open-Sora's own package"):
        load_teacher(tmp_path)


def test_every_adapter_of_diffusers_names_a_class_of_it() -> None:
    import diffusers

    named = [name for name in ADAPTERS if name.startswith("Autoencoder")]
    assert len(named) == 4
    assert all(hasattr(diffusers, name) for name in named)
