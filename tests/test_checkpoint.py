from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_decoder import EXPECTED, Decoder, equal, official_extras, prefixed, weights
from torch import nn

from edgekit.checkpoint import load_weights, match_weights, read_checkpoint
from edgekit.errors import UsageError


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


# Reading


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_safetensors_are_recognised_whatever_the_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    save_file(weights(), path)
    found = match_weights(read_checkpoint(path), EXPECTED, path)
    assert equal(found.state, weights())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_both_torch_formats_are_recognised_whatever_the_suffix(
    tmp_path: Path, zipped: bool, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(OrderedDict(weights()), path, _use_new_zipfile_serialization=zipped)
    assert equal(match_weights(read_checkpoint(path), EXPECTED, path).state, weights())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere.pth")


def test_a_directory_is_refused_and_the_file_inside_asked_for(tmp_path: Path) -> None:
    assert "is a directory; name the" in refusal(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.touch()
    assert "is empty" in refusal(path)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "pickle", "safetensors"])
def test_a_truncated_file_is_named_in_the_error(tmp_path: Path, kind: str, part: float) -> None:
    path = tmp_path / "w.pth"
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        torch.save(weights(), path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "truncated or corrupt" in refusal(path)


def test_a_changed_byte_in_a_torch_zip_is_found_although_torch_does_not_look(
    tmp_path: Path,
) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(10_000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    assert "checksum of w/data/0 does not match" in refusal(path)


def test_a_torch_zip_saved_without_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert equal(match_weights(read_checkpoint(path), EXPECTED, path).state, weights())


class Command:
    """What a malicious file does: unpickling it calls a function of its choice."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle 0", "pickle 2", "pickle 4"])
def test_code_in_a_pickle_is_refused_and_not_executed(tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "executed", tmp_path / "w.pth"
    content = {"conv.weight": torch.ones(2), "x": Command(mark)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(content["x"], protocol=int(form[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    message = refusal(path)
    assert not mark.exists()
    if form != "pickle 0":  # no program saves weights so: it is reported as an unknown format
        assert "never executes pickled code" in message
        assert "safetensors.torch.save_file" in message
    pickle.loads(pickle.dumps(content["x"]))
    assert mark.exists(), "the file of this test would be harmless anyway"


@pytest.mark.parametrize("zipped", [True, False])
def test_the_refused_object_is_named(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "w.pth"
    content = {"a": torch.ones(1), "args": argparse.Namespace(lr=1)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert "argparse.Namespace" in refusal(path)


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(nn.Linear(2, 2), path)
    assert "never executes pickled code" in refusal(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}, "ema": None}])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: dict[str, object]) -> None:
    path = tmp_path / "w.pth"
    torch.save(content, path)
    assert "holds no tensors" in refusal(path)


def test_a_lone_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(torch.ones(3), path)
    assert "holds a Tensor instead of tensors by name" in refusal(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "neither a safetensors file nor a torch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"x", "neither"),
    ],
)
def test_other_formats_are_told_apart(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert words in refusal(path)


def test_an_ordinary_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/w.pth", b"x")
    assert "zip archive without a torch checkpoint" in refusal(path)


def test_a_checkpoint_that_contains_itself_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    content: dict[str, object] = {}
    content["state_dict"] = content
    torch.save(content, path)
    assert "holds no tensors" in refusal(path)


# Loading


def test_a_module_computes_with_the_loaded_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(prefixed("decoder.", weights(5)) | official_extras(), path)
    module = Decoder()
    matched = load_weights(module, path)
    assert equal(dict(module.state_dict()), weights(5))
    assert matched.wrapping == "plain state dict, prefix decoder."


def test_counting_buffers_stay_integers(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    source, target = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    source.num_batches_tracked += 7
    torch.save(source.state_dict(), path)
    load_weights(target, path)
    assert target.num_batches_tracked == 7
    assert target.num_batches_tracked.dtype == torch.int64


def test_a_refused_file_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    state = weights(5)
    state["conv_out.conv.bias"][0] = torch.nan
    torch.save(state, path)
    module = Decoder()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(UsageError):
        load_weights(module, path)
    assert equal(dict(module.state_dict()), before)
