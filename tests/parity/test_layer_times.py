"""Per-layer times of onnxruntime's profile, and where one tensor crosses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekit.model import model_of_module
from edgekit.parity.layer_times import layer_times
from edgekit.prepared import captured_model


class Residual(nn.Module):
    """Behind `inner` two tensors cross; `light` costs a hundredth of `heavy`."""

    def __init__(self) -> None:
        super().__init__()
        self.light = nn.Sequential(nn.Conv2d(3, 8, 1, stride=4), nn.BatchNorm2d(8), nn.ReLU6())
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.heavy = nn.Sequential(
            nn.Conv2d(8, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 64, 3)
        )
        self.last = nn.Linear(64, 4)

    def forward(self, image: Tensor) -> Tensor:
        found = self.light(image)
        found = found + self.inner(found)
        return self.last(self.heavy(found).mean((2, 3)))


def test_layers_are_timed_where_one_tensor_crosses_and_add_up_to_the_whole():
    model = model_of_module(Residual().eval(), torch.randn(1, 3, 64, 64))
    program = captured_model(model).program
    image = model.example_inputs[0].numpy()
    times = layer_times(program, {program.inputs[0].name: image}, runs=5)
    found = {cut.layer: cut for cut in times.cuts}
    assert "light" in found
    assert "heavy" in found
    assert "inner" not in found
    assert found["light"].shape == (1, 8, 16, 16)
    assert 0 < found["light"].head_ms < 0.3 * found["heavy"].head_ms
    assert found["heavy"].head_ms <= times.total_ms
    assert sum(times.by_layer.values()) == pytest.approx(times.total_ms)
    assert next(iter(times.by_layer)) == "light"
