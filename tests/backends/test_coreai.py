from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.backends.coreai.packages import coreai_module
from edgekit.backends.registry import backend_for
from edgekit.backends.runnable import Array, Runnable
from edgekit.contract import TensorSpec
from edgekit.errors import ConversionError, MissingEnvironmentError, UsageError
from edgekit.parity.bisect import first_divergence
from edgekit.program.capture import capture
from edgekit.program.program import Program
from edgekit.target import find_target

BACKEND = backend_for("coreai")
TARGET = find_target("coreai")


def installed() -> bool:
    try:
        coreai_module("coreai_torch")
    except MissingEnvironmentError:
        return False
    return True


needs_coreai = pytest.mark.skipif(
    not installed(), reason="coreai-torch is not installed (extra coreai)"
)


class Picture(nn.Module):
    """The layers of a small decoder, and weights large enough to be stored beside the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4, 32, 3, padding=1)
        self.norm = nn.GroupNorm(4, 32)
        self.widen = nn.Conv2d(32, 128, 1)
        self.last_norm = nn.LayerNorm(32)
        self.leave = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.widen(F.silu(self.norm(self.enter(x)))), 2)
        x = self.last_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return torch.sigmoid(self.leave(x))


class Video(nn.Module):
    """3-D convolution, nearest growth in time, frames folded into channels at rank 7."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(4, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.interpolate(x, scale_factor=(2.0, 1.0, 1.0), mode="nearest"))
        n, _, t, h, w = x.shape
        x = x.reshape(n, 3, 2, 2, t, h, w).permute(0, 1, 4, 5, 2, 6, 3)
        return torch.sigmoid(x.reshape(n, 3, t, 2 * h, 2 * w))


class TwoWays(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left - 2 * right, (left * right).mean(dim=1)


MODULES = {"picture": (Picture, (1, 4, 8, 8)), "video": (Video, (1, 4, 2, 6, 6))}


def program_of(name: str) -> tuple[Program, dict[str, Array], Array]:
    """The program, an input, and what torch computes."""
    torch.manual_seed(0)
    kind, shape = MODULES[name]
    module, x = kind().eval(), torch.randn(shape)
    with torch.no_grad():
        expected = module(x)
    outputs = (TensorSpec("video", tuple(expected.shape), low=0.0, high=1.0),)
    program = capture(module, (x,), (TensorSpec("latent", shape),), outputs).program
    return program, {"latent": x.numpy()}, expected.numpy()


def written(tmp_path: Path, name: str, *, half: bool) -> Path:
    path = tmp_path / f"{name}.aimodel"
    BACKEND.write(program_of(name)[0], path, TARGET, half=half)
    return path


def psnr(expected: Array, found: Array) -> float:
    error = np.mean((expected.astype(np.float64) - found) ** 2)
    return float(-10 * np.log10(max(error, 1e-30)))


def files_of(asset: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(asset.iterdir())}


@needs_coreai
@pytest.mark.parametrize(("half", "least"), [(False, 120.0), (True, 55.0)], ids=["fp32", "fp16"])
@pytest.mark.parametrize("name", MODULES)
def test_apples_runtime_computes_what_torch_computes(
    tmp_path: Path, name: str, half: bool, least: float
) -> None:
    _, inputs, expected = program_of(name)
    file = BACKEND.load(written(tmp_path, name, half=half))
    (result,) = file.run(inputs).values()
    assert result.dtype == np.float32
    assert psnr(expected, result) > least
    assert file.reference.startswith("Core AI runtime ")
    assert file.reference.endswith(" CPU")


@needs_coreai
def test_inputs_and_outputs_go_by_name(tmp_path: Path) -> None:
    left, right = torch.randn(2, 3), torch.randn(2, 3)
    names = (TensorSpec("left", (2, 3)), TensorSpec("right", (2, 3)))
    results = (TensorSpec("difference", (2, 3)), TensorSpec("mean", (2,)))
    path = tmp_path / "two.aimodel"
    program = capture(TwoWays(), (left, right), names, results).program
    BACKEND.write(program, path, TARGET, half=False)
    found = BACKEND.load(path).run({"right": right.numpy(), "left": left.numpy()})
    assert list(found) == ["difference", "mean"]
    np.testing.assert_allclose(found["difference"], (left - 2 * right).numpy(), rtol=1e-5)
    np.testing.assert_allclose(found["mean"], (left * right).mean(dim=1).numpy(), rtol=1e-5)


@needs_coreai
def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Names drawn at random and hashes with a seed differ between processes only."""
    write_both = (
        "import sys; from pathlib import Path; from test_coreai import written; "
        "[written(Path(sys.argv[1]), name, half=half)"
        " for name, half in (('picture', False), ('video', True))]"
    )
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", write_both, str(other)],
        check=True,
        cwd=Path(__file__).parent,
    )
    for name, half in (("picture", False), ("video", True)):
        mine = files_of(written(tmp_path, name, half=half))
        assert files_of(other / f"{name}.aimodel") == mine
        assert set(mine) == {"main.hash", "main.mlirb", "metadata.json"}


@needs_coreai
def test_the_contract_stands_in_the_metadata(tmp_path: Path) -> None:
    path = written(tmp_path, "picture", half=False)
    data = json.loads((path / "metadata.json").read_text())
    assert "creationDate" not in data
    (latent,) = json.loads(data["creatorDefinedMetadata"]["edgekit.inputs"])
    assert TensorSpec.from_json(latent) == TensorSpec("latent", (1, 4, 8, 8))


@needs_coreai
def test_no_folder_of_this_machine_is_named_in_the_file(tmp_path: Path) -> None:
    files = files_of(written(tmp_path, "picture", half=False))
    assert not any(str(Path(__file__).parent.parent).encode() in data for data in files.values())


@needs_coreai
def test_describe_counts_weights_and_ranks(tmp_path: Path) -> None:
    facts = BACKEND.describe(written(tmp_path, "picture", half=True))
    assert facts.kind.startswith("Core AI asset for iOS 27")
    assert facts.inputs == ("latent float32 1x4x8x8",)
    assert facts.outputs == ("video float32 1x3x32x32",)
    assert facts.operators["conv2d"] == 3
    parameters = sum(value.numel() for value in Picture().parameters())
    assert facts.weight_bytes["float16"] == pytest.approx(2 * parameters, rel=0.05)
    assert facts.max_rank == 5


@needs_coreai
def test_the_trace_ends_with_the_output_and_agrees_with_the_program(tmp_path: Path) -> None:
    program, inputs, expected = program_of("picture")
    file = BACKEND.load(written(tmp_path, "picture", half=False))
    *inner, (name, kind, value) = file.trace(inputs)
    assert (name, kind) == ("video", "output")
    np.testing.assert_allclose(value, expected, atol=1e-5)
    assert any(np.array_equal(seen, value) for _, _, seen in inner)
    assert all(np.isfinite(seen).all() for _, _, seen in inner)
    assert len({name for name, _, _ in inner}) == len(inner)
    assert first_divergence(program, file, inputs, 1e-3) is None


@needs_coreai
def test_the_trace_leads_bisection_to_a_changed_layer(tmp_path: Path) -> None:
    program, inputs, _ = program_of("picture")
    torch.manual_seed(0)
    changed = Picture().eval()
    with torch.no_grad():
        changed.widen.weight.neg_()
    x = torch.from_numpy(inputs["latent"])
    other = capture(changed, (x,), program.inputs, program.outputs).program
    file = BACKEND.load(written(tmp_path, "picture", half=False))
    found = first_divergence(other, file, inputs, 1e-3)
    assert found is not None
    assert found.value == "video"
    assert found.last_agreeing == "silu"
    assert "conv2d_1" in found.unseen


@needs_coreai
def test_it_runs_inside_an_event_loop_as_a_notebook_has_it(tmp_path: Path) -> None:
    import asyncio

    _, inputs, _ = program_of("video")
    file: Runnable = BACKEND.load(written(tmp_path, "video", half=False))

    async def cell() -> dict[str, Array]:
        return file.run(inputs)

    assert list(asyncio.run(cell())) == ["video"]


@needs_coreai
def test_writing_and_running_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, inputs, _ = program_of("video")
    BACKEND.load(written(tmp_path, "video", half=False)).run(inputs)
    assert capfd.readouterr() == ("", "")


@needs_coreai
def test_an_asset_opens_every_time_wherever_its_bytes_lie_in_memory(tmp_path: Path) -> None:
    path = written(tmp_path, "picture", half=True)
    for _ in range(20):
        BACKEND.load(path)


@needs_coreai
def test_a_wrong_shape_and_a_missing_input_are_named(tmp_path: Path) -> None:
    file = BACKEND.load(written(tmp_path, "video", half=False))
    with pytest.raises(UsageError, match=r"needs the input 'latent'"):
        file.run({})
    with pytest.raises(UsageError, match=r"'latent' of video.aimodel has shape"):
        file.run({"latent": np.zeros((1, 4, 2, 6, 5), np.float32)})


@needs_coreai
def test_a_missing_and_a_truncated_asset_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no Core AI asset at .*nothing\.aimodel"):
        BACKEND.load(tmp_path / "nothing.aimodel")
    path = written(tmp_path, "video", half=False)
    program = path / "main.mlirb"
    program.write_bytes(program.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"video\.aimodel is not a readable Core AI asset"):
        BACKEND.load(path)
    with pytest.raises(UsageError, match=r"video\.aimodel is not a readable Core AI asset"):
        BACKEND.describe(path)


class Angles(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@needs_coreai
def test_an_operator_that_coreai_lacks_is_named() -> None:
    x = torch.randn(3)
    program = capture(Angles(), (x,)).program
    assert BACKEND.unsupported_operators(program) == ["aten.special_bessel_j0.default"]
    assert BACKEND.unsupported_operators(program_of("video")[0]) == []


@needs_coreai
def test_a_refused_graph_is_one_sentence_and_leaves_no_asset(tmp_path: Path) -> None:
    program = capture(Angles(), (torch.randn(3),)).program
    with pytest.raises(
        ConversionError, match=r"coreai-torch refused the graph: .*special_bessel_j0"
    ):
        BACKEND.write(program, tmp_path / "angles.aimodel", TARGET, half=False)
    assert not list(tmp_path.iterdir())


def test_without_the_package_every_door_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_of("picture")[0]
    for name in ("coreai_torch", "coreai_torch._aten_to_core", "coreai.authoring"):
        monkeypatch.setitem(sys.modules, name, None)  # what makes an import fail
    for door in (
        lambda: BACKEND.unsupported_operators(program),
        lambda: BACKEND.write(program, tmp_path / "a.aimodel", TARGET, half=False),
        lambda: BACKEND.load(tmp_path / "a.aimodel"),
        lambda: BACKEND.describe(tmp_path / "a.aimodel"),
    ):
        with pytest.raises(
            MissingEnvironmentError, match=r"pip install 'edgekit-vision\[coreai\]'"
        ) as caught:
            door()
        assert caught.value.exit_code == 4
