"""Split networks train as published: what moves, what is frozen, and what falls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from edgekit.distillation.from_files import FromFiles
from edgekit.distillation.hardware import Hardware
from edgekit.distillation.loop import distill, silent
from edgekit.distillation.run_folder import read_metrics
from edgekit.distillation.split_networks import numbers_of, train
from edgekit.distillation.split_stages import (
    VARIANTS,
    HeadDistillation,
    OnImages,
    TailTuning,
    head_stage,
    student_of,
    teacher_of,
    train_split,
    tuning_stage,
)
from edgekit.distillation.stage import select
from edgekit.errors import UsageError
from edgekit.recipe import find_recipe
from edgekit.split.of_network import codec_of
from edgekit.zoo.families import build_network
from edgekit.zoo.split.attach import attach
from edgekit.zoo.split.bottleneck import Bottleneck
from edgekit.zoo.split.network import SplitNetwork, SplitTail

CUT, POINT = "features.2", "features.3"
DISTILLED = HeadDistillation(40, (POINT,), beta=0.01, batch_size=8, learning_rate=1e-2)
TUNED = TailTuning(12, batch_size=8, learning_rate=1e-2)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
        )  # fmt: skip
        self.classes = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.features(x).mean((2, 3)))


class Images(torch.utils.data.Dataset[Mapping[str, Tensor]]):
    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        label = index % 4
        image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(index)) + label
        return {"image": image, "label": torch.tensor(label)}


def bottleneck(channels: int = 3) -> Bottleneck:
    encoder = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, channels, 1))
    decoder = nn.Sequential(nn.Conv2d(channels, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
    return Bottleneck(encoder, decoder, channels)


def split(quantiser: str = "entropy", least_kept: int | None = 1) -> tuple[SplitNetwork, nn.Module]:
    torch.manual_seed(0)
    backbone = Backbone().eval()
    made = attach(backbone, bottleneck(), ends=CUT, quantiser=quantiser, least_kept=least_kept)
    return made, backbone


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(before: Mapping[str, Tensor], after: nn.Module) -> set[str]:
    now = after.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, now[name])}


def losses(folder: Path) -> list[dict[str, float]]:
    return [record["losses"] for record in read_metrics(folder) if "losses" in record]


def trained(network: SplitNetwork, backbone: nn.Module, run: Path, **changes: Any) -> SplitNetwork:
    distillation = replace(DISTILLED, **changes.pop("distillation", {}))
    tuning = replace(TUNED, **changes.pop("tuning", {}))
    done = train_split(
        network, backbone, CUT, Images(), distillation, tuning, run=run,
        hardware=Hardware("cpu"), **changes,
    )  # fmt: skip
    module = done.model.module
    assert isinstance(module, SplitNetwork)
    return module


def test_losses_fall_the_teacher_stays_and_the_result_has_tables(tmp_path: Path) -> None:
    network, backbone = split()
    taught, before = state(backbone), state(network)
    made = trained(network, backbone, tmp_path, tuning={"variant": "kd-frozen"})
    assert not moved(taught, backbone)
    falling = losses(tmp_path / "distil")
    assert falling[-1]["bottleneck"] < 0.9 * falling[0]["bottleneck"]
    assert set(falling[0]) >= {"bottleneck", "features_3", "bits", "quantiles"}
    tuned = losses(tmp_path / "tune")
    assert set(tuned[0]) >= {"classes", "teacher"}
    assert codec_of(made).channels == 3
    changed = moved(before, made)
    assert "tails.main.decoder.0.weight" in changed
    assert "head.encoder.0.weight" in changed


def test_while_the_head_is_distilled_the_teachers_layers_behind_it_are_frozen(
    tmp_path: Path,
) -> None:
    network, backbone = split()
    before = state(network)
    distill(
        student_of(network, (POINT,)), teacher_of(backbone, CUT, (POINT,)), Images(),
        [head_stage(network, DISTILLED)], run=tmp_path, hardware=Hardware("cpu"),
    )  # fmt: skip
    changed = moved(before, network)
    assert not {name for name in changed if ".rest." in name}  # statistics of norms included
    assert {"head.quantiser.matrices.0", "head.quantiser.quantiles"} <= changed


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_of_tuning_moves_the_tail_and_only_the_unfrozen_the_head(
    variant: Any, tmp_path: Path
) -> None:
    network, backbone = split("dynamic", least_kept=None)
    stage = tuning_stage(replace(TUNED, variant=variant))
    assert [loss.name for loss in stage.losses] == (
        ["classes", "teacher"] if variant.startswith("kd") else ["classes"]
    )
    before = state(network)
    distill(
        student_of(network, ()), teacher_of(backbone, CUT, ()), Images(), [stage],
        run=tmp_path, hardware=Hardware("cpu"), log_every=4,
    )  # fmt: skip
    changed = moved(before, network)
    assert {"tails.main.rest.classes.weight", "tails.main.decoder.0.weight"} <= changed
    assert bool({name for name in changed if name.startswith("head.")}) == (
        not variant.endswith("-frozen")
    )
    falling = losses(tmp_path)
    assert falling[-1]["classes"] < falling[0]["classes"]


def test_a_frozen_prior_rounds_while_the_tail_is_tuned() -> None:
    network, _ = split()
    select(network, tuning_stage(replace(TUNED, variant="kd-frozen")))
    assert not network.head.quantiser.training
    assert network.drop.training
    with torch.no_grad():
        values = network.values(torch.rand(1, 3, 16, 16), keep=3)
    medians = network.head.quantiser.medians[:, None, None]
    torch.testing.assert_close(values - medians, (values - medians).round())


def test_a_higher_price_of_bits_buys_fewer_of_them(tmp_path: Path) -> None:
    bits = []
    for beta in (0.0, 3.0):
        network, backbone = split(least_kept=None)
        trained(network, backbone, tmp_path / str(beta), distillation={"beta": beta, "steps": 40})
        bits.append(losses(tmp_path / str(beta) / "distil")[-1]["bits"])
    assert bits[1] < 0.95 * bits[0]


def test_a_second_tail_trains_and_leaves_the_head_and_the_first_tail(tmp_path: Path) -> None:
    network, backbone = split()
    first = trained(network, backbone, tmp_path / "first")
    torch.manual_seed(9)
    other = Backbone().eval()
    second = attach(other, bottleneck(), ends=CUT, quantiser="entropy").tails["main"]
    assert isinstance(second, SplitTail)
    first.tails["other"] = second
    before = state(first)
    made = trained(
        first, other, tmp_path / "second", images=OnImages(tail="other"),
        distillation={"trains_head": False, "beta": 0.0},
    )  # fmt: skip
    changed = moved(before, made)
    assert changed
    assert all(name.startswith("tails.other.") for name in changed)
    assert codec_of(made).digest == codec_of(first).digest


def test_a_price_that_nothing_would_pay_is_refused() -> None:
    network, _ = split("dynamic")
    with pytest.raises(UsageError, match="rate of a dynamic quantiser does not change"):
        head_stage(network, DISTILLED)
    with pytest.raises(UsageError, match="no variant 'kd-freezed'"):
        TailTuning(1, variant="kd-freezed")  # type: ignore[arg-type]


def test_a_recipe_trains_from_pictures_without_labels_and_goes_on(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(6):
        Image.new("RGB", (40, 36), (40 * index, 128, 255 - 40 * index)).save(
            pictures / f"{index}.png"
        )
    backbone = find_recipe("mcunet-vww1").path.read_text()
    small = tmp_path / "small.toml"
    lines = [line for line in backbone.splitlines() if not line.startswith("    [")]
    rows = "    [3, 0, 8, 1, 1],\n    [3, 2, 8, 2, 1],\n    [3, 2, 16, 2, 1],"
    text = "\n".join(lines).replace("blocks = [", f"blocks = [\n{rows}")
    small.write_text(text.replace("= 80", "= 32").replace('aliases = ["mcunet-vww5"]\n', ""))
    image = text[text.index("[image]") :].replace("= 80", "= 32")
    own = tmp_path / "small-split.toml"
    own.write_text(
        'name = "small-split"\nfamily = "split"\nsummary = ""\nsource = ""\nparameters = 0\n'
        f'[architecture]\nbackbone = "{small}"\nencoder = "mobile"\nchannels = 4\n'
        f'ends = "features.3"\nleast_kept = 1\n[weights]\n{image}'
    )
    torch.manual_seed(0)
    weights = tmp_path / "teacher.safetensors"
    save_file(build_network(find_recipe(str(small))).state_dict(), weights)
    asked = FromFiles(
        data=pictures, teacher=weights, run=tmp_path / "run", progress=silent,
        hardware=Hardware("cpu"), validation=pictures, steps=6, workers=0, model=str(own),
    )  # fmt: skip
    done = train(asked)
    assert isinstance(done.model.module, SplitNetwork)
    assert codec_of(done.model.module).channels == 4
    found = [r["validation"] for r in read_metrics(done.folder) if "validation" in r]
    assert 0 <= found[-1]["agreement"] <= 1
    again = train(replace(asked, resume=True))
    assert not moved(state(done.model.module), again.model.module)


def test_the_published_numbers_are_read_and_scaled_and_mistakes_named(tmp_path: Path) -> None:
    numbers = numbers_of("resnet-50-entropic-student", None, 300)
    assert (numbers.distillation.steps, numbers.tuning.steps) == (200, 100)
    assert (numbers.tuning.batch_size, numbers.distillation.drops) == (128, (0.5, 0.8))
    assert numbers_of("resnet-50-bottlefit", None, None).distillation.points == (
        "layer3",
        "layer4",
    )
    with pytest.raises(UsageError, match="2 steps or more"):
        numbers_of("resnet-50-bottlefit", None, 1)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[distillation]\nsteps = 3\n[models]\n")
    with pytest.raises(UsageError, match=r"'tuning.steps' is missing"):
        numbers_of("x", wrong, None)
    wrong.write_text("[distillation]\nsteps = 3\n[tuning]\nstep = 3\n[models]\n")
    with pytest.raises(UsageError, match=r"does not hold the numbers .*'tuning.step' is unknown"):
        numbers_of("x", wrong, None)
