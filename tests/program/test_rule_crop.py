"""Crops that stay in onnxruntime's blocked layout."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgekit.backends.onnx.write import OnnxOptions, write
from edgekit.program.capture import capture
from edgekit.program.program import Program
from edgekit.program.rule import rewrite
from edgekit.program.rules.crop_in_blocked_layout import CropInBlockedLayout


class Shrinking(nn.Module):
    """A residual branch whose convolution has no padding, and the crop of what it is added to."""

    def __init__(
        self, channels: int = 16, rows: tuple[int, int] = (1, 1), columns: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 1)
        kernel = sum(rows) + 1, sum(columns) + 1
        self.branch = nn.Conv2d(channels, channels, kernel)
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        height, width = x.shape[-2:]
        (top, bottom), (left, right) = self.rows, self.columns
        return x[..., top : height - bottom, left : width - right] + self.branch(x)


def rewritten(module: nn.Module, x: Tensor) -> tuple[Program, list[str]]:
    program, _ = rewrite(capture(module, (x,)).program, [CropInBlockedLayout()])
    nodes = program.exported.graph.nodes
    return program, [str(n.target).split(".")[1] for n in nodes if n.op == "call_function"]


sides = st.integers(0, 6)


@settings(deadline=None, max_examples=30)
@given(rows=st.tuples(sides, sides), columns=st.tuples(sides, sides))
def test_the_cropped_image_has_the_same_bits(
    rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    module, x = Shrinking(16, rows, columns), torch.randn(2, 3, 15, 16)
    program, operators = rewritten(module, x)
    assert torch.equal(program.exported.module()(x), module(x))
    if any(rows + columns):
        assert ("slice" in operators) == ("max_pool2d" in operators)
        assert ("slice" in operators) != (operators.count("conv2d") == 3)
    else:
        assert operators.count("conv2d") == 2


@pytest.mark.parametrize(
    ("rows", "columns", "kernel", "dilation"),
    [((4, 4), (0, 0), [3, 1], [4, 1]), ((0, 5), (2, 4), [2, 4], [5, 2]), ((0, 5), (3, 3), [2, 3], [5, 3])],
)  # fmt: skip
def test_taps_span_what_is_cropped(
    rows: tuple[int, int], columns: tuple[int, int], kernel: list[int], dilation: list[int]
) -> None:
    program, operators = rewritten(Shrinking(16, rows, columns), torch.randn(1, 3, 15, 16))
    if max(kernel) > 3:
        assert operators.count("max_pool2d") == 1
        return
    crop = next(
        node
        for node in program.exported.graph.nodes
        if node.op == "call_function" and len(node.args) > 6 and node.args[6] == 16
    )
    assert list(crop.args[1].meta["val"].shape[2:]) == kernel
    assert list(crop.args[5]) == dilation


def test_a_crop_that_plain_operators_read_stays_a_slice() -> None:
    class Read(Shrinking):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.first(x))
            return torch.cumsum(x[..., 1:-1, 1:-1], -1)

    _, operators = rewritten(Read(), torch.randn(1, 3, 8, 8))
    assert operators == ["conv2d", "relu", "slice", "slice", "cumsum"]


def test_channels_that_fill_no_block_stay_as_they_are() -> None:
    _, operators = rewritten(Shrinking(12), torch.randn(1, 3, 8, 8))
    assert operators.count("slice") == 2


def test_a_slice_of_channels_is_no_crop() -> None:
    class Half(Shrinking):
        def forward(self, x: Tensor) -> Tensor:
            return self.branch(torch.relu(self.first(x))[:, :16])

    _, operators = rewritten(Half(16), torch.randn(1, 3, 8, 8))
    assert "slice" in operators or operators.count("conv2d") == 2
    assert operators.count("conv2d") == 2


def test_onnxruntime_reorders_nothing_around_the_crop(tmp_path: Path) -> None:
    """The reason for the rule, on machines where onnxruntime has the layout at all."""

    def reorders(program: Program, name: str) -> int:
        write(program, tmp_path / f"{name}.onnx", OnnxOptions())
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}-optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            str(tmp_path / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        content = (tmp_path / f"{name}-optimised.onnx").read_bytes()
        return content.count(b"ReorderInput") + content.count(b"ReorderOutput")

    class Ending(Shrinking):
        """Ends in a convolution, as outputs leave the layout anyway."""

        def __init__(self) -> None:
            super().__init__(16, (2, 2), (2, 2))
            self.last = nn.Conv2d(16, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(super().forward(x))

    module, x = Ending(), torch.randn(1, 3, 16, 16)
    plain = reorders(capture(module, (x,)).program, "plain")
    if plain == 0:
        pytest.skip("onnxruntime has no blocked layout on this machine")
    assert reorders(rewritten(module, x)[0], "rewritten") < plain
