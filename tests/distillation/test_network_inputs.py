"""Arrays of a folder as a network's inputs, and what a pruned network learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import edgekit
from edgekit.array_files import array_files, read_item, window
from edgekit.distillation.network_inputs import Windows
from edgekit.distillation.recovery import match_outputs
from edgekit.distillation.taps import Outputs
from edgekit.errors import UsageError
from edgekit.folder_inputs import inputs_in

SHAPE = (4, 2, 3, 3)


def test_windows_are_cut_from_latents_of_all_three_kinds(tmp_path: Path) -> None:
    latent = np.arange(4 * 5 * 6 * 7, dtype=np.float16).reshape(1, 4, 5, 6, 7)
    np.save(tmp_path / "a.npy", latent[0])
    np.savez(tmp_path / "b.npz", latent=latent, frames=np.zeros(3))
    save_file({"mean": torch.from_numpy(latent[0])}, tmp_path / "c.safetensors")
    files = array_files(tmp_path)
    assert len(files) == 3
    expected = torch.from_numpy(latent[0, :, 1:3, 1:4, 2:5]).float()
    for file in files:
        assert torch.equal(window(read_item(file, SHAPE), SHAPE, at_random=False), expected)
    torch.manual_seed(0)
    drawn = Windows(array_files(tmp_path), SHAPE)
    assert len({float(drawn[0][0, 0, 0, 0]) for _ in range(20)}) > 5


def test_latents_that_do_not_fit_are_named(tmp_path: Path) -> None:
    for name, array, said in (
        ("small.npy", np.zeros((4, 1, 3, 3)), "windows of"),
        ("other.npy", np.zeros((5, 2, 3, 3)), "windows of"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        np.save(folder / name, array)
        with pytest.raises(UsageError, match=said):
            Windows(array_files(folder), SHAPE)
    np.savez(tmp_path / "b.npz", frames=np.zeros(3))
    with pytest.raises(UsageError, match="no array 'latent'"):
        Windows(array_files(tmp_path), SHAPE)
    with pytest.raises(UsageError, match="no folder"):
        array_files(tmp_path / "absent")
    with pytest.raises(UsageError, match="is a file; give the folder that it is in"):
        array_files(Path(__file__))


def test_damaged_arrays_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", latent=np.zeros(SHAPE))
    half = (tmp_path / "whole.npz").read_bytes()[:100]
    for name, content in (("empty.npy", b""), ("half.npz", half), ("none.safetensors", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=f"{name} cannot be read"):
            read_item(tmp_path / name, SHAPE)
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    with pytest.raises(UsageError, match=r"words.npy cannot be read"):
        read_item(tmp_path / "words.npy", SHAPE)


def test_latents_become_batches_of_a_decoder(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((32, 3, 8, 8), np.float16))
    model = edgekit.load("turbo-vaed-mini", height=32, width=32, frames=2)
    (batch,) = inputs_in(tmp_path, model).batches(4, 2)
    assert batch.shape == (1, 32, 2, 4, 4)
    assert model(batch).shape == (1, 3, 2, 32, 32)


def test_equal_outputs_match_and_classes_count_as_probabilities() -> None:
    maps = [torch.ones(1, 2, 3, 3), torch.ones(1, 2, 2, 2)]
    assert match_outputs(None, Outputs(maps), Outputs(maps)) == 0
    zeros = [torch.zeros_like(one) for one in maps]
    assert match_outputs(None, Outputs(zeros), Outputs(maps)) == 1
    logits, others = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    alone = torch.tensor(2.0)
    found = match_outputs(None, Outputs(others), Outputs(logits))
    assert found > alone
    with pytest.raises(UsageError, match="shape"):
        match_outputs(None, Outputs(logits[:, :1]), Outputs(logits))
