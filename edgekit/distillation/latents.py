"""What a teacher's encoder makes of clips, computed once and kept on the disk.

A file per clip, DIGEST.safetensors, in a folder per teacher: the digest is that of the clip's pixels, so that
a clip which is cut in another way is another one, and a cache serves any run that cuts the same. Where clips
say what they are cut from (`source`: file, size, time of change, place), clips.jsonl keeps the digest of
each, and a run that is resumed decodes none that it has.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgekit.distillation.batches import Refusing, unless_refused
from edgekit.distillation.run_folder import fingerprint
from edgekit.distillation.teachers import VideoTeacher
from edgekit.errors import MissingEnvironmentError, UsageError, first_line


class LatentClips(Dataset[dict[str, Tensor]]):
    """Items {"pixels": uint8 T 3 H W, "latent": C t h w, drawn from the teacher's posterior}.

    `clips` gives the same clip for an index each time.
    """

    def __init__(self, clips: Any, cache: Path, *, sampled: bool = True) -> None:
        """
        Args:
            sampled: else the posterior's mean.
        """
        self.clips = clips
        self.frames: int = clips.frames
        self._cache = cache
        self._sampled = sampled
        self.made_by = {"sampled": sampled, "of": getattr(clips, "made_by", None)}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pixels = self.clips[index]
        path = _path(self._cache, pixels)
        try:
            kept = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UsageError(
                f"The latent of clip {index} cannot be read from {path} ({first_line(error)}); delete that file, "
                "and begin again with what encodes the clips."
            ) from error
        latent = kept["mean"]
        if self._sampled:
            latent = latent + kept["deviation"] * torch.randn_like(latent)
        return {"pixels": pixels, "latent": latent}


@torch.no_grad()
def encode_clips(
    clips: Any,
    teacher: VideoTeacher,
    cache: Path,
    *,
    workers: int = 0,
    progress: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Encode the clips that the cache lacks, on the device of the teacher; returns the teacher's folder in it.

    Processes that torchrun started each begin at a share of their own, and find the others' done. A clip
    whose file is as it was, and whose latent is kept, is not decoded.
    """
    teacher.require_frames(clips.frames)
    folder = cache / fingerprint(teacher.network)
    folder.mkdir(parents=True, exist_ok=True)
    device = next(teacher.network.parameters()).device
    first = len(clips) * int(os.environ.get("RANK", 0)) // int(os.environ.get("WORLD_SIZE", 1))
    known = _Known(folder, clips)
    left = [index for index in (*range(first, len(clips)), *range(first)) if not known.has(index)]
    loader = DataLoader(Refusing(clips), batch_size=None, sampler=left, num_workers=workers)
    for number, (index, found) in enumerate(zip(left, loader, strict=True), start=1):
        pixels = unless_refused(found)
        path = _path(folder, pixels)
        if not path.exists():
            video = as_video(pixels[None].to(device))
            posterior = teacher.encode(video)
            kept = {"mean": posterior.mean[0], "deviation": posterior.deviation[0]}
            # Several processes may write the same; each one under a name of its own until it is whole.
            partial = path.with_suffix(f".{os.getpid()}.partial")
            whole = {name: value.float().cpu().contiguous() for name, value in kept.items()}
            _write(whole, partial, path)
        known.note(index, path)
        progress(f"encoding clip {number} of {len(left)}")
    return folder


def _write(whole: dict[str, Tensor], partial: Path, path: Path) -> None:
    """By way of `partial`, of which nothing is left if it fails."""
    try:
        save_file(whole, partial)
        partial.replace(path)
    except (OSError, SafetensorError) as error:  # the second is how safetensors reports a full disk
        with suppress(OSError):
            partial.unlink()
        raise MissingEnvironmentError(
            f"The latent of a clip cannot be written to {path.parent}: {first_line(error)}. Those that are "
            "written are kept; make room there, and run the same again."
        ) from error


class _Known:
    """Which file has the latent of a clip, by what the clip is cut from; a line of JSON each in clips.jsonl."""

    def __init__(self, folder: Path, clips: Any) -> None:
        self._folder = folder
        self._source_of: Callable[[int], str | None] = getattr(clips, "source", lambda _index: None)
        self._names: dict[str, str] = {}
        self._log = folder / "clips.jsonl"
        told = self._log.read_text("utf-8", errors="replace") if self._log.exists() else ""
        for line in told.splitlines():
            try:
                self._names |= json.loads(line)
            except (ValueError, TypeError):  # a kill cut it short: that clip is decoded again
                continue

    def has(self, index: int) -> bool:
        name = self._names.get(str(self._source_of(index)))
        return name is not None and (self._folder / name).exists()

    def note(self, index: int, path: Path) -> None:
        source = self._source_of(index)
        if source is not None:
            # Short lines that are appended: processes that write at the same time do not mix them.
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({source: path.name}) + "\n")


def as_video(pixels: Tensor) -> Tensor:
    """uint8 N T 3 H W to N 3 T H W in [-1, 1]."""
    return pixels.transpose(1, 2).float() / 127.5 - 1


def _path(folder: Path, pixels: Tensor) -> Path:
    digest = hashlib.sha256(str(tuple(pixels.shape)).encode())
    digest.update(pixels.contiguous().numpy().tobytes())
    return folder / f"{digest.hexdigest()[:32]}.safetensors"
