"""Weights from safetensors and torch checkpoints into a model, without running pickled code."""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from edgekit.errors import UsageError
from edgekit.hub import download_official
from edgekit.weight_matching import MatchedWeights, entries, holds_tensor, match_weights

__all__ = [
    "MatchedWeights",
    "download_official",
    "load_weights",
    "match_weights",
    "read_checkpoint",
]

_CONVERSION = (
    "load it where you trust it, with the program that wrote it, and keep only its tensors: "
    "safetensors.torch.save_file(state_dict, 'weights.safetensors')"
)


def load_weights(module: nn.Module, path: Path) -> MatchedWeights:
    """Fill every parameter and persistent buffer of the module from the file, or change nothing."""
    own = module.state_dict()
    matched = match_weights(
        read_checkpoint(path),
        {key: tensor.shape for key, tensor in own.items()},
        path,
        integer_keys={key for key, tensor in own.items() if not tensor.is_floating_point()},
    )
    module.load_state_dict(matched.state, strict=True)
    return matched


def read_checkpoint(path: Path) -> Mapping[str, object]:
    """The file's content as it was saved: a flat state dict, or a training run's nested one.

    The format is told by the content, not by the suffix. Every refusal is a UsageError.
    """
    size, head = _size_and_head(path)
    if head[:2] == b"PK":
        content = _read_torch_zip(path)
    elif head[8:9] == b"{":
        content = _read_safetensors(path, size)
    elif head[:1] == b"\x80":
        content = _read_torch_pickle(path, head)
    elif head.startswith(b"version https://git-lfs"):
        raise UsageError(
            f"The weights file {path} is a Git LFS pointer of {size} bytes, not the weights; "
            "fetch the file itself with 'git lfs pull'."
        )
    else:
        raise UsageError(
            f"The weights file {path} is neither a safetensors file nor a torch checkpoint "
            f"(it begins with {head[:8]!r}); check the path or download it again."
        )
    if not isinstance(content, Mapping):
        raise UsageError(
            f"The weights file {path} holds a {type(content).__name__} instead of tensors by name; "
            "save the model's state_dict() to it."
        )
    if not holds_tensor(content):
        raise UsageError(
            f"The weights file {path} holds no tensors ({entries(content)}); "
            "give a file that was saved from a state dict."
        )
    return content


def _size_and_head(path: Path) -> tuple[int, bytes]:
    if path.is_dir():
        raise UsageError(
            f"The weights path {path} is a directory; "
            "name the .safetensors, .pth or .pt file inside it."
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(64)
    except FileNotFoundError:
        raise UsageError(f"The weights file {path} does not exist; check its path.") from None
    except OSError as error:
        raise UsageError(
            f"The weights file {path} cannot be read ({error.strerror}); "
            "check its path and permissions."
        ) from error
    if size == 0:
        raise UsageError(f"The weights file {path} is empty; copy or download it again.")
    return size, head


def _read_safetensors(path: Path, size: int) -> object:
    try:
        return load_file(path)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that torch does not have
        raise UsageError(
            f"The safetensors file {path} is truncated or corrupt at {size} bytes "
            f"({str(error).removeprefix('Error while deserializing header: ')}); "
            "copy or download it again."
        ) from error


def _read_torch_zip(path: Path) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            damaged = _damaged_member(archive)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
        raise _corrupt(path, error) from error
    if damaged is not None:
        raise _corrupt(path, f"the checksum of {damaged} does not match")
    if not any(member.endswith("/data.pkl") for member in members):
        raise UsageError(
            f"The weights file {path} is a zip archive without a torch checkpoint inside; "
            "unpack it and give the weights file that it holds."
        )
    if any(member.endswith("/constants.pkl") for member in members):
        raise UsageError(
            f"The weights file {path} is a TorchScript program, and edgekit reads tensors only; "
            f"{_CONVERSION}."
        )
    return _torch_load(path, mapped=True)


def _damaged_member(archive: zipfile.ZipFile) -> str | None:
    """The first member whose bytes changed. torch.load itself does not look at the checksums."""
    for member in archive.infolist():
        if member.CRC == 0:  # torch.serialization.set_crc32_options(False) writes none
            continue
        try:
            with archive.open(member) as stream:
                while stream.read(1 << 22):
                    pass
        except zipfile.BadZipFile:
            return member.filename
    return None


def _read_torch_pickle(path: Path, head: bytes) -> object:
    # torch.save writes protocol 2, and the restricted reader knows no newer one.
    if head[1:2] != b"\x02":
        raise UsageError(
            f"The weights file {path} is a plain Python pickle, and edgekit never executes "
            f"pickled code; {_CONVERSION}."
        )
    return _torch_load(path, mapped=False)


def _torch_load(path: Path, *, mapped: bool) -> object:
    try:
        if path.suffix == ".safetensors":  # for this suffix torch.load itself goes by the name
            with path.open("rb") as stream:
                return torch.load(stream, map_location="cpu", weights_only=True)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise _corrupt(path, "its pickle cannot be decoded") from error
        raise UsageError(
            f"The weights file {path} holds Python objects other than tensors ({named[1]}), and "
            f"edgekit never executes pickled code; {_CONVERSION}."
        ) from error
    except Exception as error:  # a damaged pickle raises whatever the objects it builds raise
        raise _corrupt(path, error) from error


def _corrupt(path: Path, reason: object) -> UsageError:
    first_line = (str(reason).splitlines() or [type(reason).__name__])[0].rstrip(".")
    return UsageError(
        f"The torch checkpoint {path} is truncated or corrupt at {path.stat().st_size} bytes "
        f"({first_line[:120]}); copy or download it again."
    )
