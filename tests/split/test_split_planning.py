"""What a plan says of a way is what head, packet and tail do, and who cannot be measured gets a sentence."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from split_models import CLASSES, SIDE, entropy
from torch import Tensor, nn

from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract, Logits
from edgekit.model import Model, model_of_module
from edgekit.split.candidates import Link
from edgekit.split.early_exit import EarlyExit, ExitHead
from edgekit.split.latency_profile import LatencyProfile
from edgekit.split.of_network import codec_of
from edgekit.split.packet import Placement, read_packet, write_packet
from edgekit.split_measuring import PlanOptions
from edgekit.split_pictures import Pictures, inputs_of, required_contract
from edgekit.split_planning import SplitPlan, split_plan
from edgekit.zoo.split.attach import split_at

OPTIONS = PlanOptions(Link(1e6, 30), runs=1, within_points=1)
PLACEMENTS = (Placement(1080, 1920, 0, 0, SIDE, SIDE), Placement(16, 16, -1, -1, 16, 16))


class Greens(nn.Module):
    """Class 1 where green is above 0.2, which 8 bits of a range of 255 do not tell from 0 below 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.last = nn.Linear(3, 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.diag(torch.tensor([255.0, 1, 1]))[..., None, None])
            self.last.weight.copy_(torch.tensor([[0.0, 0, 0], [0, 1, 0]]))
            self.last.bias.copy_(torch.tensor([0.2, 0]))

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.first(image).mean((2, 3)))


class OneActivationTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.act = nn.ReLU()
        self.second = nn.Conv2d(4, 4, 3, 2, 1)
        self.third = nn.Conv2d(4, 4, 3, 2, 1)
        self.last = nn.Linear(4, 2)

    def forward(self, image: Tensor) -> Tensor:
        early = self.act(self.second(self.act(self.first(image))))
        return self.last(self.third(early).mean((2, 3)))


def model_of(network: nn.Module, classes: int) -> Model:
    contract = ImageContract(SIDE, SIDE, 1, "RGB", (0.0,) * 3, (1.0,) * 3, Logits(classes))
    made = model_of_module(network.eval(), torch.rand(1, 3, SIDE, SIDE), "tiny")
    recipe: Any = SimpleNamespace(contract=contract)
    return replace(made, recipe=recipe)


def pictures_of(*greens: float) -> Pictures:
    made = []
    for number, green in enumerate(greens):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = 255, round(255 * green)
        pixels[number % SIDE, 0, 2] = 200
        made.append(pixels)
    places = tuple(PLACEMENTS[number % 2] for number in range(len(made)))
    return Pictures(tuple(map(str, greens)), tuple(made), None, 0.0, places)


def ways(plan: SplitPlan) -> dict[str, Any]:
    return {item.name: item for item in plan.candidates}


def test_a_cut_loses_what_its_eight_bits_lose_and_takes_the_bytes_that_are_sent():
    model, pictures = model_of(Greens(), 2), pictures_of(0.1, 0.3, 1.0)
    plan = split_plan(model, pictures, OPTIONS)
    way = ways(plan)["cut at first"]
    network = split_at(model.module, "first", model.example_inputs[0])
    codec = codec_of(network)
    head, tail = network.head_for_device(), network.tail_for_server()
    right, sizes = [], []
    for image, place in zip(
        inputs_of(pictures.pixels, required_contract(model)), pictures.placements, strict=True
    ):
        packet = write_packet(codec, head(image)[0].numpy(), None, place)
        made = tail(torch.from_numpy(read_packet(codec, packet).values)[None])
        right.append(int(made.argmax()) == int(model.module(image).argmax()))
        sizes.append(len(packet))
    assert right == [True, False, True]
    assert way.accuracy == pytest.approx(np.mean(right))
    assert way.bytes_mean == np.mean(sizes)
    assert sizes[0] > sizes[1] > len(write_packet(codec, head(image)[0].numpy()))
    assert "every split loses more than 1 points of accuracy" in plan.to_json()["verdict"]
    assert plan.table().endswith(plan.to_json()["verdict"])


def test_a_layer_that_cannot_be_cut_is_named_and_the_others_are_measured():
    plan = split_plan(model_of(OneActivationTwice(), 2), None, OPTIONS)
    assert "cut at third" in ways(plan)
    assert any("cannot be cut there: act;" in note for note in plan.notes)


def test_an_exit_stands_before_every_split_of_a_bottleneck():
    network = entropy()
    model = model_of(network, CLASSES)
    pictures = pictures_of(0.1, 0.3, 0.6, 1.0)
    early = EarlyExit("head.encoder", ExitHead(5, CLASSES), 0.0)
    found = ways(split_plan(model, pictures, OPTIONS, exits=[early]))
    kept = {name for name in found if name.startswith("tiny keep")}
    assert len(kept) == 4
    for name in {"local", *kept}:
        assert found[f"exit at head.encoder, else {name}"].exit_rate == 1
    other = EarlyExit("head.encoder", ExitHead(5, CLASSES + 1), 0.0)
    with pytest.raises(UsageError, match="knows 8 classes, and tiny 7: it was trained for another"):
        split_plan(model, pictures, OPTIONS, exits=[other])
    narrow = EarlyExit("head.encoder", ExitHead(4, CLASSES), 0.0)
    with pytest.raises(UsageError, match="takes 4 channels, and this network has 5 there"):
        split_plan(model, pictures, OPTIONS, exits=[narrow])


def test_a_profile_of_another_network_is_refused():
    with pytest.raises(UsageError, match="measured net, not tiny"):
        split_plan(model_of(Greens(), 2), None, OPTIONS, LatencyProfile("phone", "net", {"a": 1.0}))
