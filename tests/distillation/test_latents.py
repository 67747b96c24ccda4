"""Latents of clips are computed once, and clips whose latents are kept are not even decoded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from tiny_teachers import brightening, write_video
from torch import Tensor, nn

from edgekit.distillation import clips_on_demand, latents
from edgekit.distillation.clips_on_demand import Augmentation, VideoClips
from edgekit.distillation.fixed import Fixed
from edgekit.distillation.latents import LatentClips, encode_clips
from edgekit.distillation.teachers import Posterior
from edgekit.errors import MissingEnvironmentError


class Averaging:
    """A teacher whose latents are means of 8x8 pixels; counts what it encodes."""

    def __init__(self) -> None:
        self.network = nn.Linear(1, 1)
        nn.init.ones_(self.network.weight)
        nn.init.zeros_(self.network.bias)
        self.encoded = 0

    def require_frames(self, frames: int) -> None:
        assert frames == 4

    def encode(self, video: Tensor) -> Posterior:
        self.encoded += 1
        mean = nn.functional.avg_pool3d(video, (1, 8, 8))
        return Posterior(mean, torch.zeros_like(mean))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files, one for each clip that is decoded."""
    files: list[Path] = []
    read = clips_on_demand.read_frames_at

    def counted(file: Path, *given: Any) -> Any:
        files.append(file)
        return read(file, *given)

    monkeypatch.setattr(clips_on_demand, "read_frames_at", counted)
    return files


@pytest.fixture
def films(tmp_path: Path) -> Path:
    for name, seed in (("a.mkv", 0), ("b.mkv", 1)):
        write_video(tmp_path / "films" / name, brightening(12, seed=seed))
    return tmp_path / "films"


def fixed_clips(films: Path) -> Fixed:
    return Fixed(VideoClips(films, 4, 64, Augmentation()), seed=0, variants=2)


def encode(films: Path, teacher: Any) -> Path:
    return encode_clips(fixed_clips(films), teacher, films.parent / "latents")


def test_a_second_run_decodes_no_clip_whose_file_is_as_it_was(
    films: Path, decoded: list[Path]
) -> None:
    teacher = Averaging()
    encode(films, teacher)
    assert len(decoded) == 2 * 2 * 3  # variants of three clips of two films
    assert teacher.encoded == len(decoded)
    decoded.clear()
    encode(films, teacher)
    assert decoded == []
    films.rename(films.with_name("moved"))
    encode(films.with_name("moved"), teacher)
    assert decoded == []


def test_a_file_that_changed_is_decoded_and_encoded_only_if_its_pixels_did(
    films: Path, decoded: list[Path]
) -> None:
    teacher = Averaging()
    encode(films, teacher)
    first = teacher.encoded
    decoded.clear()
    os.utime(films / "a.mkv", (1, 1))
    encode(films, teacher)
    assert set(decoded) == {films / "a.mkv"}
    assert teacher.encoded == first
    write_video(films / "b.mkv", brightening(12, seed=2))
    decoded.clear()
    encode(films, teacher)
    assert set(decoded) == {films / "b.mkv"}
    assert teacher.encoded == 2 * first - first // 2


def test_what_is_lost_of_the_cache_is_made_again(films: Path, decoded: list[Path]) -> None:
    teacher = Averaging()
    folder = encode(films, teacher)
    first = teacher.encoded
    next(folder.glob("*.safetensors")).unlink()
    (folder / "clips.jsonl").open("a").write('[3]\n{"cut sho')
    decoded.clear()
    encode(films, teacher)
    assert len(decoded) == 1
    assert teacher.encoded == first + 1
    (folder / "clips.jsonl").unlink()
    encode(films, teacher)
    assert teacher.encoded == first + 1
    item = LatentClips(fixed_clips(films), folder)[5]
    means = nn.functional.avg_pool3d(item["pixels"].transpose(0, 1)[None].float(), (1, 8, 8))[0]
    torch.testing.assert_close(item["latent"], means / 127.5 - 1, rtol=0, atol=1e-5)


def test_a_full_disk_is_one_sentence_and_leaves_no_half_of_a_file(
    films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_whole: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    teacher = Averaging()
    with monkeypatch.context() as patch:
        patch.setattr(latents, "save_file", full)
        with pytest.raises(
            MissingEnvironmentError, match=r"cannot be written to .*No space left.*; make room"
        ):
            encode(films, teacher)
    (folder,) = (films.parent / "latents").iterdir()
    assert list(folder.iterdir()) == []
    encode(films, teacher)
    assert len(list(folder.glob("*.safetensors"))) == teacher.encoded - 1


def test_clips_that_do_not_say_what_they_are_cut_from_are_looked_at_each_time(
    tmp_path: Path,
) -> None:
    class Noise:
        frames, drawn = 4, 0

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Tensor:
            self.drawn += 1
            generator = torch.Generator().manual_seed(index)
            return torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8, generator=generator)

    teacher, noise = Averaging(), Noise()
    clips: Any = teacher
    for _ in range(2):
        encode_clips(Fixed(noise, seed=0), clips, tmp_path)
    assert (noise.drawn, teacher.encoded) == (6, 3)
