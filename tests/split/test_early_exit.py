"""A linear exit learns what an early layer already knows, and leaves only where it is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from split_models import entropy
from torch import Tensor, nn

from edgekit.errors import UsageError
from edgekit.split.early_exit import NEVER, EarlyExit, ExitHead, ExitOptions, front_of, train_exit


class Sums(nn.Module):
    """Class 1 where the red channel is brighter than the green one: `early` keeps what tells them apart."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv2d(3, 4, 1)
        self.blind = nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            self.early.weight.copy_(torch.eye(4, 3)[:, :, None, None])
            self.early.bias.zero_()

    def forward(self, image: Tensor) -> Tensor:
        means = self.early(image).mean((2, 3))
        red, green = means[:, 0], means[:, 1]
        return 20 * torch.stack([green - red, red - green], 1)


def pictures(count: int, margin: float) -> list[Tensor]:
    """Half of each class, apart by `margin`; noise elsewhere."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for number in range(count):
        image = torch.rand(1, 3, 4, 4, generator=generator) * 0.05
        image[:, number % 2] += margin
        made.append(image)
    return made


def test_what_the_layer_knows_leaves_there_and_is_right(tmp_path: Path):
    network, images = Sums().eval(), pictures(60, 0.5)
    trained = train_exit(network, "early", images)
    assert (trained.rate, trained.accuracy, trained.held_out) == (1.0, 1.0, 12)
    assert "100% leave at early" in trained.sentence()
    answers = trained.exit.answers(network, images)
    with torch.inference_mode():
        wanted = [int(network(image).argmax()) for image in images]
    assert answers.classes.tolist() == wanted
    assert (answers.confidence >= trained.exit.threshold).mean() > 0.8  # of those trained on, too
    path = tmp_path / "exit.safetensors"
    trained.exit.write(path)
    read = EarlyExit.read(path)
    assert (read.layer, read.threshold) == ("early", trained.exit.threshold)
    again = read.answers(network, images)
    assert np.array_equal(again.confidence, answers.confidence)


def test_an_exit_of_a_split_network_sits_in_its_head():
    network = entropy()
    images = [image.repeat(1, 1, 4, 4) for image in pictures(10, 0.5)]
    trained = train_exit(network, "head.encoder.0", images, options=ExitOptions(steps=1))
    assert trained.exit.head.linear.in_features == 5
    with torch.inference_mode():
        wanted = network.head.encoder[0](images[0])
        assert torch.equal(front_of(network, "head.encoder.0")(images[0]), wanted)


def test_what_nothing_can_know_never_leaves():
    labels = torch.randint(0, 2, (60,), generator=torch.Generator().manual_seed(0)).tolist()
    network = Sums().eval()
    truth_is_noise = train_exit(network, "early", pictures(60, 0.0), labels, ExitOptions(within_points=-40))  # fmt: skip
    assert truth_is_noise.exit.threshold == NEVER
    assert truth_is_noise.rate == 0
    assert "will never be taken" in truth_is_noise.sentence()


def test_what_cannot_be_trained_or_read_gets_a_sentence(tmp_path: Path):
    with pytest.raises(UsageError, match="10 pictures or more, not 3"):
        train_exit(Sums(), "early", pictures(3, 0.5))
    with pytest.raises(UsageError, match="no layer 'erly'"):
        train_exit(Sums(), "erly", pictures(20, 0.5))
    with pytest.raises(UsageError, match="gives a tensor of 2 axes"):
        train_exit(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), "0", pictures(20, 0.5))
    with pytest.raises(UsageError, match="belongs to a classifier"):
        train_exit(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), "0", pictures(20, 0.5))
    for wrong in (2, -1):
        with pytest.raises(UsageError, match=f"label {wrong} is no class .* has 0 to 1"):
            train_exit(Sums(), "early", pictures(20, 0.5), [0] * 19 + [wrong])
    with pytest.raises(UsageError, match="takes 3 channels, and this network has 4 there"):
        EarlyExit("early", ExitHead(3, 2), 0.5).answers(Sums(), pictures(1, 0.5))
    for content in (b"", b"x" * 100):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(UsageError, match="cannot be read"):
            EarlyExit.read(tmp_path / "bad")
