"""What cannot work is said before the first step, in a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_distillation import Pictures, small_run, stages, student, teacher
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from edgekit.distillation import (
    Loss,
    Match,
    Outputs,
    Patience,
    SoftLabels,
    Stage,
    Tapped,
    Validation,
)
from edgekit.errors import UsageError


def test_a_path_that_is_like_no_other_gets_the_outermost_ones_listed() -> None:
    with pytest.raises(UsageError, match=r"there are body, head\.$"):
        Tapped(net(), {"features": "xyz"})


def net() -> nn.Module:
    return nn.ModuleDict(
        {"body": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "head": nn.Linear(2, 2)}
    )


def test_a_tap_that_does_not_exist_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"has no module 'bod\.1'; did you mean 'body\.1'\?"):
        Tapped(net(), {"features": "bod.1"})


def test_a_projection_belongs_to_a_tap() -> None:
    with pytest.raises(UsageError, match=r"'feature', .*did you mean 'features'"):
        Tapped(net(), {"features": "body"}, {"feature": nn.Linear(2, 4)})
    with pytest.raises(UsageError, match="cannot hold a dot"):
        Tapped(net(), {"a.b": "body"}, {"a.b": nn.Linear(2, 4)})


def test_taps_of_other_shapes_need_a_projection(tmp_path: Path) -> None:
    bare = Tapped(student().module, student().taps)
    unprojected = stages(trains=("0",))[:1]
    with pytest.raises(UsageError, match=r"'features' the student has .*2x4x4x4 .*2x8x4x4; give"):
        small_run(tmp_path, student=bare, stages=unprojected)


def test_logits_of_other_classes_are_refused(tmp_path: Path) -> None:
    taught = teacher()
    taught.module[4] = nn.Linear(8, 5)
    with pytest.raises(UsageError, match=r"At the output the student has the shape 2x4 and .* 2x5"):
        small_run(tmp_path, teacher=taught)


def test_a_tap_that_a_loss_asks_for_and_nobody_has(tmp_path: Path) -> None:
    wrong = stages(losses=[Loss("features", Match("feature"))])[:1]
    with pytest.raises(UsageError, match=r"'feature' of the student, .*did you mean 'features'"):
        small_run(tmp_path, stages=wrong)
    with pytest.raises(UsageError, match="of the teacher, of which there is none"):
        small_run(tmp_path, teacher=None)


def test_a_mistake_in_the_last_stage_shows_before_the_first_trains(tmp_path: Path) -> None:
    wrong = [stages()[0], stages(losses=[Loss("soft", Match("logits"))])[1]]
    seen: list[int] = []
    with pytest.raises(UsageError, match="'logits'"):
        small_run(tmp_path / "run", stages=wrong, data=Pictures(on_item=seen.append))
    assert seen == [0, 1, 0, 1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "empty"),
        (DataLoader(Pictures()), "is a DataLoader; give its data set"),
        (iter([]), "no length"),
        (None, "has no data"),
        (type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(())})(), "no length"),
    ],
)
def test_data_that_cannot_be_trained_on(tmp_path: Path, data: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        small_run(tmp_path, data=data)


def test_items_of_several_shapes_train_one_by_one_and_are_refused_together(tmp_path: Path) -> None:
    items = [torch.rand(3, side, side) for side in (8, 12, 16)]
    loss = Loss("mean", lambda b, s, t: s.output.mean())

    def run(folder: str, batch_size: int) -> None:
        stage = Stage("one", [loss], 3, trains=("6",), batch_size=batch_size)
        own = student(norm=False)
        small_run(tmp_path / folder, student=own, teacher=None, data=items, stages=[stage])

    run("alone", 1)
    with pytest.raises(UsageError, match=r"cannot be stacked to a batch .*unless batch_size is 1"):
        run("together", 3)


def test_items_that_are_dicts_need_a_forward(tmp_path: Path) -> None:
    items = [{"picture": torch.zeros(3, 8, 8)}] * 4
    with pytest.raises(UsageError, match=r"A batch is a dict, .* give forward=lambda"):
        small_run(tmp_path, data=items)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trains": ("projction",)}, r"at 'projction'; did you mean 'projection'\?"),
        ({"frozen": ("*",)}, "freezes all that it trains"),
        ({"trains": ("0", "6")}, "trains '6', and none of its losses depends on that"),
        ({"steps": 0}, "steps 0; it must be a whole number"),
        ({"batch_size": 2.5}, "batch_size 2.5"),
        ({"losses": []}, "no losses"),
        ({"losses": [Loss("a", Match("features"))] * 2}, "two losses named 'a'"),
        (
            {"losses": [Loss("a", lambda b, s, t: s.output)]},
            r"gives \(2, 4\); it must be one number",
        ),
        ({"ema": 1.0}, "ema 1.0"),
        ({"patience": Patience()}, "patience, which needs a validation"),
    ],
)
def test_a_stage_that_cannot_be_trained(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        small_run(tmp_path, stages=stages(**changes)[:1])


def test_stages_have_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Two stages are named 'features'"):
        small_run(tmp_path, stages=[stages()[0], stages()[0]])
    with pytest.raises(UsageError, match="no stages"):
        small_run(tmp_path, stages=[])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"save_every": 0}, "save_every is 0"),
        ({"log_every": 0}, "log_every"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        small_run(tmp_path, **options)


def test_a_teacher_does_not_learn(tmp_path: Path) -> None:
    taught = Tapped(teacher().module, {"features": "1"}, {"features": nn.Conv2d(8, 4, 1)})
    with pytest.raises(UsageError, match="The teacher has projections"):
        small_run(tmp_path, teacher=taught)


def test_a_teacher_that_is_a_function_returns_outputs(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"returns a Tensor; it must return Outputs\(output, taps\)"
    ):
        small_run(tmp_path, teacher=lambda batch: batch[0])


def test_a_tap_that_is_no_tensor() -> None:
    with pytest.raises(UsageError, match=r"'state' of the student is a tuple, not a tensor"):
        Outputs(None, {"state": (1, 2)})["state"]


def test_a_student_whose_forward_never_runs_has_no_known_inputs(tmp_path: Path) -> None:
    def outer_part(module: nn.Module, batch: Any) -> torch.Tensor:
        return module[0](batch[0])

    loss = Loss("mean", lambda b, s, t: s.output.mean())
    stage = Stage("outer", [loss], 2, trains=("0",), forward=outer_part)
    own = student()
    with pytest.raises(UsageError, match="does not call the module itself"):
        small_run(tmp_path / "a", student=Tapped(own.module, forward=outer_part), stages=[stage])
    model, _ = small_run(tmp_path / "b", student=own, stages=[stage])
    assert model.example_inputs[0].shape == (1, 3, 8, 8)


def test_a_validation_without_a_direction_or_with_a_wrong_name() -> None:
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassAccuracy

    def validation(watch: str, **metrics: Any) -> Validation:
        return Validation(Pictures(), metrics, lambda b, s: (s.output, b[1]), watch=watch)

    with pytest.raises(UsageError, match=r"watches 'acuracy'; did you mean 'accuracy'"):
        validation("acuracy", accuracy=MulticlassAccuracy(4))
    with pytest.raises(UsageError, match="higher_is_better is None"):
        validation("", mean=MeanMetric())
    with pytest.raises(UsageError, match="no metrics"):
        validation("")


def test_a_validation_that_cannot_be_measured_shows_before_the_first_step(tmp_path: Path) -> None:
    from torchmetrics.image import PeakSignalNoiseRatio

    swapped = Validation(
        Pictures(8), {"psnr": PeakSignalNoiseRatio(1.0)}, lambda b, s: (s.output, b[0])
    )
    with pytest.raises(UsageError, match=r"metric 'psnr' of the validation cannot compare"):
        small_run(tmp_path / "run", validation=swapped)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        small_run(tmp_path / "file" / "run")


def test_soft_labels_of_equal_logits_are_zero_and_of_others_are_not() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    loss = SoftLabels(3.0)
    same = loss(None, Outputs(logits), Outputs(logits))
    other = loss(None, Outputs(logits), Outputs(logits.flip(1)))
    soft = [(values / 3).softmax(1) for values in (logits, logits.flip(1))]
    expected = 9 * (soft[1] * (soft[1] / soft[0]).log()).sum()
    assert float(same) == 0.0
    torch.testing.assert_close(other, expected)
