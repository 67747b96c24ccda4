from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT, raise_signal
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_distillation import Pictures, all_equal, small_run, stages, student, teacher, weights
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

import edgekit
from edgekit.distillation import (
    AdamW,
    Cosine,
    Linear,
    Loss,
    Patience,
    Sgd,
    Stage,
    Tapped,
    Validation,
)
from edgekit.distillation.averaging import Average
from edgekit.distillation.loop import Distilled, distill
from edgekit.errors import StoppedError, TrainingError


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def accuracy(every: int = 2) -> Validation:
    metrics = {"accuracy": MulticlassAccuracy(4)}
    return Validation(Pictures(8), metrics, lambda batch, found: (found.output, batch[1]), every)


def test_edgekit_distill_is_the_loop() -> None:
    assert edgekit.distill is distill


def test_a_run_leaves_all_that_tells_what_it_was(tmp_path: Path) -> None:
    model, folder = small_run(tmp_path / "run", validation=accuracy())
    assert folder == tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "recipe.json", "versions.json", "metrics.jsonl", "curves.png", "student.safetensors",
        "newest.pt", "best.pt", "after-features.safetensors", "after-labels.safetensors",
    }  # fmt: skip
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["seed"] == 0
    assert [stage["name"] for stage in recipe["stages"]] == ["features", "labels"]
    assert recipe["stages"][0]["optimiser"] == {
        "is": "MuonAndAdamW", "learning_rate": 0.01, "betas": [0.9, 0.95],
    }  # fmt: skip
    (session,) = json.loads((folder / "versions.json").read_text())
    assert {"torch", "lightning-fabric", "python"} <= session["versions"].keys()
    picture = np.asarray(Image.open(folder / "curves.png"))
    assert (picture != 255).mean() > 0.005
    saved = load_file(folder / "student.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in weights_of(model).items())


def weights_of(model: edgekit.Model) -> dict[str, Tensor]:
    return dict(model.module.state_dict())


def test_the_model_is_the_student_alone_in_eval_mode_with_what_it_takes(tmp_path: Path) -> None:
    given = student()
    model, _ = small_run(tmp_path, student=given)
    assert not model.module.training
    assert model.module is not given.module
    assert model.module.state_dict().keys() == given.module.state_dict().keys()
    assert [tuple(value.shape) for value in model.example_inputs] == [(1, 3, 8, 8)]
    assert model(*model.example_inputs).shape == (1, 4)


def test_hooks_are_gone_after_the_run_and_after_a_failure(tmp_path: Path) -> None:
    def hooks(network: nn.Module) -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())

    own, taught = student(), teacher()
    taught.module.train()
    taught.module[0].eval()
    small_run(tmp_path / "run", student=own, teacher=taught)
    assert [module.training for module in taught.module] == [False, True, True, True, True]
    broken = stages(losses=[Loss("nan", lambda b, s, t: s.output.mean() * math.nan)], trains=("*",))
    with pytest.raises(TrainingError):
        small_run(tmp_path / "broken", student=own, teacher=taught, stages=broken)
    assert hooks(own.module) == hooks(taught.module) == 0


def test_the_teacher_is_left_as_it_was(tmp_path: Path) -> None:
    taught = teacher()
    before = copy.deepcopy(taught.module.state_dict())
    small_run(tmp_path, teacher=taught)
    assert all(torch.equal(before[key], value) for key, value in taught.module.state_dict().items())


def test_a_stage_moves_only_what_it_trains_and_frozen_statistics_rest(tmp_path: Path) -> None:
    own = student()
    start = copy.deepcopy(own.module.state_dict())
    small_run(tmp_path, student=own)
    first, second = (
        load_file(tmp_path / f"after-{stage}.safetensors") for stage in ("features", "labels")
    )
    assert torch.equal(first["6.weight"], start["6.weight"])
    assert not torch.equal(first["0.weight"], start["0.weight"])
    assert not torch.equal(first["1.running_mean"], start["1.running_mean"])
    assert not torch.equal(second["6.weight"], first["6.weight"])
    for frozen in ("1.weight", "1.running_mean", "1.num_batches_tracked"):
        assert torch.equal(second[frozen], first[frozen]), frozen


class Scalar(nn.Module):
    """A network of one number, whose output is that number for every item."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias.expand(len(x))


def seen_biases(tmp_path: Path, **stage: Any) -> list[float]:
    """The number at each step, by a loss that pushes it up steadily, and the average at the end."""
    network, seen = Scalar(), []

    def steady(batch: Any, found: Any, target: Any) -> Tensor:
        seen.append(network.bias.item())
        return -0.5 * found.output.mean()

    made = Stage("only", [Loss("steady", steady)], **stage)
    model, _ = distill(network, None, torch.zeros(8, 1), [made], run=tmp_path)
    return [*seen[1:], network.bias.item(), model.module.bias.item()]  # the rehearsal's left out


def test_the_rate_follows_its_schedule(tmp_path: Path) -> None:
    """AdamW moves a number with a steady gradient by the rate, step by step."""
    steps, warmup = 20, 4
    *seen, _ = seen_biases(
        tmp_path,
        steps=steps,
        optimiser=AdamW(1e-2, weight_decay=0.0),
        rate=Cosine(warmup),
        ema=None,
    )
    expected = [
        1e-2 * min(1, (k + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * k / steps))
        for k in range(steps)
    ]
    np.testing.assert_allclose(np.diff(seen), expected, rtol=1e-3)


def exponential_mean(values: Sequence[Any], decay: float) -> Any:
    """Of what there was at first and after each step; the first steps forget faster."""
    mean, *after = values
    for step, value in enumerate(after):
        kept = min(decay, (1 + step) / (10 + step))
        mean = kept * mean + (1 - kept) * value
    return mean


def test_the_result_is_the_exponential_mean_of_the_weights(tmp_path: Path) -> None:
    *seen, result = seen_biases(tmp_path, steps=6, optimiser=Sgd(0.1, momentum=0.0), ema=0.3)
    assert seen[-1] == pytest.approx(result)  # the stage leaves its average in the student
    assert result == pytest.approx(exponential_mean([*seen[:-1], seen[-2] + 0.05], 0.3), rel=1e-5)


def test_an_average_soon_forgets_what_it_began_with() -> None:
    """BatchNorm's variances begin at 1 and can be a hundredth: a plain mean is theirs for thousands of steps."""
    value = torch.ones(1)
    average = Average({"variance": value}, decay=0.999)
    value.fill_(0.01)
    for step in range(100):
        average.update(step)
    assert average.state()["variance"].item() == pytest.approx(0.01, rel=1e-3)


def test_statistics_are_averaged_with_the_weights_that_they_belong_to(tmp_path: Path) -> None:
    """With the latest statistics and averaged weights, a trained detector found no box at all."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    norm, seen = network[1], [network[1].running_mean.clone()]

    def noting(_batch: Any, found: Any, _target: Any) -> Tensor:
        seen.append(norm.running_mean.clone())
        return found.output.square().mean()

    stage = Stage("only", [Loss("noting", noting)], steps=5, optimiser=Sgd(0.1), ema=0.3)
    model, _ = distill(network, None, torch.randn(8, 1, 6, 6), [stage], run=tmp_path)
    *_, first = seen[:1]
    after = seen[-5:]  # without the rehearsal's
    mean = exponential_mean([first, *after], 0.3)
    assert not torch.allclose(mean, after[-1], rtol=1e-3)
    torch.testing.assert_close(model.module[1].running_mean, mean)
    assert model.module[1].num_batches_tracked == 5


def test_without_an_average_the_result_is_the_last_weights(tmp_path: Path) -> None:
    *_, result = seen_biases(tmp_path, steps=4, optimiser=Sgd(0.1, momentum=0.0), ema=None)
    assert result == pytest.approx(4 * 0.05)


def test_longer_gradients_are_cut(tmp_path: Path) -> None:
    *seen, _ = seen_biases(
        tmp_path, steps=3, optimiser=Sgd(1.0, momentum=0.0), clip_norm=0.125, ema=None
    )
    np.testing.assert_allclose(np.diff(seen), 0.125, rtol=1e-4)
    (record,) = records(tmp_path)
    assert record["gradient_norm"] == pytest.approx(0.5)  # before the cut


def test_a_loss_weighs_what_its_schedule_says(tmp_path: Path) -> None:
    network, seen = Scalar(), []

    def steady(batch: Any, found: Any, target: Any) -> Tensor:
        seen.append(network.bias.item())
        return found.output.mean()

    stage = Stage(
        "only", [Loss("steady", steady, -2.0, Linear(0.0, 1.0))], 5, ema=None,
        optimiser=Sgd(1.0, momentum=0.0),
    )  # fmt: skip
    distill(network, None, torch.zeros(8, 1), [stage], run=tmp_path, log_every=5)
    np.testing.assert_allclose(np.diff([*seen[1:], network.bias.item()]), [0, 0.5, 1, 1.5, 2])
    (record,) = records(tmp_path)
    assert record["weights"] == {"steady": -2.0}  # the last step's
    minimised = [-2.0 * step / 4 * value for step, value in enumerate(seen[1:])]
    assert record["loss"] == pytest.approx(np.mean(minimised))
    assert record["losses"]["steady"] == pytest.approx(np.mean(seen[1:]))


def test_lines_of_metrics_hold_terms_and_what_the_loop_costs(tmp_path: Path) -> None:
    data = Pictures()
    data.frames = 3
    lines: list[str] = []
    small_run(tmp_path, data=data, progress=lines.append)
    found = records(tmp_path)
    assert [(r["stage"], r["step"]) for r in found] == [
        *(("features", step) for step in (2, 4, 6)),
        *(("labels", step) for step in (2, 4, 5)),
    ]
    for record in found:
        terms = {"features"} if record["stage"] == "features" else {"soft", "hard"}
        assert record["losses"].keys() == record["weights"].keys() == terms
        assert 0 <= record["data_wait"] <= 1
        assert record["frames_per_second"] > 0
        assert 100 << 20 < record["peak_memory_bytes"] < 64 << 30
    assert "features 2/6  loss" in lines[0]
    assert "frames/s" in lines[0]


def test_a_loop_that_waits_for_data_says_so(tmp_path: Path) -> None:
    import time

    lines: list[str] = []
    slow = Pictures(on_item=lambda _index: time.sleep(0.02))
    small_run(tmp_path, data=slow, progress=lines.append)
    assert "give it more workers" in lines[0]
    assert records(tmp_path)[0]["data_wait"] > 0.5


def test_patience_ends_a_stage_and_goes_back_to_the_best(tmp_path: Path) -> None:
    class Told(MulticlassAccuracy):
        """Values as they are told, whatever is measured."""

        values = iter([0.5, 0.9, 0.7, 0.8, 0.6])

        def compute(self) -> Tensor:
            return torch.tensor(next(self.values))

    validation = Validation(
        Pictures(8), {"told": Told(4)}, lambda batch, found: (found.output, batch[1]), every=2
    )
    patient = stages(steps=40, patience=Patience(validations=3))[1:]
    own = student()
    model, _ = small_run(tmp_path, student=own, stages=patient, validation=validation)
    assert [r["step"] for r in records(tmp_path) if "validation" in r] == [2, 4, 6, 8, 10]
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["step"] == 4
    moved = {f"student.{n}.{kind}" for n in (0, 6) for kind in ("weight", "bias")}
    assert best["average"].keys() == moved | {"student.1.running_mean", "student.1.running_var"}
    for name, value in best["average"].items():
        found = model.module.state_dict()[name.removeprefix("student.")]
        assert torch.equal(found, value), name


def test_a_measure_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    class Undefined(MulticlassAccuracy):
        def compute(self) -> Tensor:
            return torch.tensor(math.nan)

    nothing = Validation(Pictures(8), {"x": Undefined(4)}, lambda b, s: (s.output, b[1]), every=1)
    patient = stages(patience=Patience(validations=2))
    small_run(tmp_path, stages=patient, validation=nothing)
    assert not (tmp_path / "best.pt").exists()
    measured = [(r["stage"], r["validation"]) for r in records(tmp_path) if "validation" in r]
    assert measured == [(stage, {"x": None}) for stage in ("features", "labels") for _ in range(2)]


def test_validation_measures_the_average_and_leaves_no_trace(tmp_path: Path) -> None:
    with_it = small_run(tmp_path / "with", validation=accuracy(every=1))
    without = small_run(tmp_path / "without")
    assert all(torch.equal(weights(without)[key], value) for key, value in weights(with_it).items())
    measured = [
        r["validation"]["accuracy"] for r in records(tmp_path / "with") if "validation" in r
    ]
    assert len(measured) == 11
    state = load_file(tmp_path / "with" / "after-features.safetensors")
    own = student().module.eval()
    own.load_state_dict(state)
    from edgekit.distillation.batches import seed_everything

    seed_everything(0, 3)
    metric = MulticlassAccuracy(4)
    batch = next(iter(torch.utils.data.DataLoader(Pictures(8), 8)))
    assert measured[5] == pytest.approx(float(metric(own(batch[0]), batch[1])))


def test_outputs_computed_before_can_stand_for_the_teacher(tmp_path: Path) -> None:
    from edgekit.distillation import Outputs

    taught = teacher().module.eval()
    pictures = torch.rand(8, 3, 8, 8)
    with torch.no_grad():
        known = taught[:2](pictures)
    items = [{"picture": p, "features": f} for p, f in zip(pictures, known, strict=True)]
    own = student(dropout=0.0)
    fed = Tapped(own.module, own.taps, own.projections, lambda net, batch: net(batch["picture"]))
    recorded = small_run(
        tmp_path / "recorded", student=fed, data=items, stages=stages()[:1],
        teacher=lambda batch: Outputs(None, {"features": batch["features"]}, "teacher"),
    )  # fmt: skip
    live = small_run(
        tmp_path / "live", student=student(dropout=0.0), data=list(zip(pictures, [0] * 8)),
        stages=stages()[:1],
    )  # fmt: skip
    for name, value in weights(live).items():
        torch.testing.assert_close(weights(recorded)[name], value)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_trains_and_resumes(tmp_path: Path, precision: Any) -> None:
    from edgekit.distillation import Hardware

    def run(folder: str, **options: Any) -> Distilled:
        hardware = Hardware("cpu", precision=precision)
        return small_run(tmp_path / folder, hardware=hardware, validation=accuracy(), **options)

    expected = weights(run("unstopped"))
    assert {value.dtype for value in expected.values()} == {torch.float32, torch.int64}
    for item in (
        4 + 4 * 4 + 1,
        4 + 6 * 4 + 2 * 6 + 1,
    ):  # in either stage, of which the rehearsal draws 2
        left = iter(range(item - 1, -1, -1))
        stopping = Pictures(on_item=lambda _, left=left: next(left, 1) or raise_signal(SIGINT))
        with pytest.raises(StoppedError):
            run(f"stopped-{item}", data=stopping)
        assert all_equal(weights(run(f"stopped-{item}", resume=True)), expected)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    longer = stages(steps=150, rate=Linear(1.0, 0.1), optimiser=AdamW(2e-2))[:1]
    small_run(tmp_path, stages=longer, log_every=10)
    found = records(tmp_path)
    assert found[-1]["loss"] < 0.3 * found[0]["loss"]
