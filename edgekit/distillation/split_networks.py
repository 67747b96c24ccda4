"""Train a split network on a folder of pictures; its teacher is the backbone with weights of its own.

    edgekit distill efficientnet-lite0-split --data pictures/ --teacher efficientnet-lite0-57934424.pth

Pictures need no labels: classes are those that the teacher finds, and a validation measures how often the
tail finds the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from edgekit.checkpoint import load_weights
from edgekit.contract import Size
from edgekit.distillation.from_files import FromFiles
from edgekit.distillation.loop import Distilled
from edgekit.distillation.numbers_file import read_numbers
from edgekit.distillation.pictures import FROM_THE_MIDDLE, Cut, Pictures
from edgekit.distillation.run_folder import STUDENT
from edgekit.distillation.split_stages import HeadDistillation, TailTuning, run_on, train_split
from edgekit.distillation.stage import Validation
from edgekit.distillation.taps import Batch, Outputs
from edgekit.errors import UsageError
from edgekit.image_contract import ImageContract
from edgekit.model import model_of_recipe
from edgekit.recipe import Recipe, find_recipe
from edgekit.zoo.families import backbone_of
from edgekit.zoo.split.family import SplitConfig, split_network
from edgekit.zoo.split.network import MAIN


@dataclass(frozen=True)
class Numbers:
    """models/distillation/split.toml, for one model."""

    distillation: HeadDistillation
    tuning: TailTuning


def numbers_of(model: str, path: Path | None, steps: int | None) -> Numbers:
    """`steps` are those of both stages together, shared as the file shares them. Raises UsageError."""

    def of_model(table: dict[str, Any]) -> dict[str, Any]:
        own = table.get("models", {}).get(model, {})
        return {
            name: table.get(name, {}) | own.get(name, {}) for name in ("distillation", "tuning")
        }

    numbers = read_numbers(Numbers, "split", path, of_model)
    return numbers if steps is None else _scaled(numbers, steps)


def _scaled(numbers: Numbers, steps: int) -> Numbers:
    first, second = numbers.distillation.steps, numbers.tuning.steps
    tuned = min(max(1, round(steps * second / (first + second))), steps - 1)
    if tuned < 1:
        raise UsageError("A split network trains in two stages; take 2 steps or more.")
    return Numbers(
        replace(numbers.distillation, steps=steps - tuned), replace(numbers.tuning, steps=tuned)
    )


@dataclass(frozen=True)
class OnPictures:
    """Runs a network on batches of uint8 pictures N 3 H W, as they are or under "picture"."""

    contract: ImageContract
    tail: str = MAIN

    def __call__(self, module: nn.Module, batch: Batch) -> Any:
        pictures = batch["picture"] if isinstance(batch, dict) else batch
        return run_on(module, self.images(pictures), self.tail)

    def images(self, pictures: Tensor) -> Tensor:
        pixels = pictures.float() / 255
        pixels = pixels if self.contract.order == "RGB" else pixels.flip(1)
        mean, std = (
            pixels.new_tensor(row)[:, None, None] for row in (self.contract.mean, self.contract.std)
        )
        return (pixels - mean) / std


class Taught(Dataset[Mapping[str, Tensor]]):
    """Pictures with the classes that a network finds in them."""

    @torch.no_grad()
    def __init__(self, pictures: Pictures, network: nn.Module, run: OnPictures) -> None:
        self._pictures = pictures
        network.eval()
        found = [run(network, pictures[i][None]).argmax(1) for i in range(len(pictures))]
        self._labels = torch.cat(found)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        return {"picture": self._pictures[index], "label": self._labels[index]}


class Agreement:
    """The share of pictures in which both find the same class."""

    higher_is_better = True

    def __init__(self) -> None:
        self.reset()

    def update(self, found: Tensor, expected: Tensor) -> None:
        self._same += int((found == expected).sum())
        self._all += len(found)

    def compute(self) -> Tensor:
        return torch.tensor(self._same / max(1, self._all))

    def reset(self) -> None:
        self._same = self._all = 0

    def to(self, _device: Any) -> Agreement:
        return self


def classes_found_and_expected(batch: Batch, student: Outputs) -> tuple[Tensor, Tensor]:
    found: Tensor = student.output.argmax(1)
    expected: Tensor = batch["label"]
    return found, expected


def train(asked: FromFiles) -> Distilled:
    """Both stages. Raises UsageError for what cannot be used."""
    recipe = find_recipe(asked.model)
    numbers = numbers_of(recipe.name, asked.numbers, asked.steps)
    run = OnPictures(_contract(recipe))
    config = SplitConfig(**recipe.architecture)
    torch.manual_seed(asked.seed)
    backbone = backbone_of(config)
    load_weights(backbone, asked.teacher)
    network = split_network(config, backbone.eval())
    pictures = Pictures(asked.data, run.contract.height, Cut(), on_damage=asked.on_damage)
    distilled = train_split(
        network, backbone, config.ends, pictures, numbers.distillation, numbers.tuning,
        run=asked.run, images=run, label=None, validation=_validation(asked, backbone, run),
        seed=asked.seed, resume=asked.resume, workers=asked.workers, hardware=asked.hardware,
        progress=asked.progress,
    )  # fmt: skip
    weights = distilled.folder / STUDENT
    return Distilled(model_of_recipe(recipe, weights, Size()), distilled.folder)


def _contract(recipe: Recipe) -> ImageContract:
    contract = recipe.contract
    if not isinstance(contract, ImageContract) or contract.height != contract.width:
        raise UsageError(
            f"{recipe.name} takes no square images, and training cuts squares; give its recipe an [image] "
            "table with the same height and width."
        )
    return contract


def _validation(asked: FromFiles, teacher: nn.Module, run: OnPictures) -> Validation | None:
    if asked.validation is None:
        return None
    pictures = Pictures(
        asked.validation, run.contract.height, FROM_THE_MIDDLE, on_damage=asked.on_damage
    )
    metrics: Any = {"agreement": Agreement()}
    return Validation(
        Taught(pictures, teacher, run), metrics, classes_found_and_expected, every=1000
    )
