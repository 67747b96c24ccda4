"""A run that was stopped anywhere, by anything, ends as one that was not."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_distillation import Pictures, all_equal, small_run, stages, weights

from edgekit.distillation import Loss, Patience, Validation
from edgekit.distillation import checkpoints as checkpoints_module
from edgekit.errors import StoppedError, TrainingError, UsageError

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["edgekit.distillation.loop", "lightning_fabric"])
ITEMS = 6 * 4 + 5 * 6  # that both stages draw


class Killing:
    """SIGKILL for this process at the n-th call."""

    def __init__(self, call: int, number: int = signal.SIGKILL) -> None:
        self.left = call
        self.number = number

    def __call__(self, *_given: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


def killed_at_item(run: Path, item: int) -> None:
    torch.set_num_threads(1)
    small_run(run, data=Pictures(on_item=Killing(item)))


def killed_in_write(run: Path, call: int) -> None:
    """After the bytes of a file are on the disk, and before it has its name."""
    torch.set_num_threads(1)
    checkpoints_module.os.fsync = Killing(call)
    small_run(run)


def in_process(work: Callable[[Path, int], None], run: Path, number: int) -> int | None:
    process = PROCESSES.Process(target=work, args=(run, number))
    process.start()
    process.join(60)
    return process.exitcode


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    return weights(small_run(tmp_path_factory.mktemp("unstopped") / "run"))


@pytest.mark.parametrize("item", range(5, ITEMS + 4, 5))  # the rehearsal draws four
def test_a_run_killed_at_any_step_ends_with_the_same_bits(
    tmp_path: Path, unstopped: dict[str, torch.Tensor], item: int
) -> None:
    run = tmp_path / "run"
    assert in_process(killed_at_item, run, item) == -signal.SIGKILL
    assert not (run / "student.safetensors").exists()
    assert all_equal(weights(small_run(run, resume=True)), unstopped)


@pytest.mark.parametrize("call", range(1, 24, 3))
def test_a_run_killed_while_it_writes_ends_with_the_same_bits(
    tmp_path: Path, unstopped: dict[str, torch.Tensor], call: int
) -> None:
    run = tmp_path / "run"
    assert in_process(killed_in_write, run, call) == -signal.SIGKILL
    assert all_equal(weights(small_run(run, resume=True)), unstopped)


def test_a_run_killed_twice_ends_with_the_same_bits(
    tmp_path: Path, unstopped: dict[str, torch.Tensor]
) -> None:
    run = tmp_path / "run"
    assert in_process(killed_at_item, run, 25) == -signal.SIGKILL
    assert in_process(resumed_and_killed, run, 20) == -signal.SIGKILL
    assert all_equal(weights(small_run(run, resume=True)), unstopped)


def resumed_and_killed(run: Path, item: int) -> None:
    torch.set_num_threads(1)
    small_run(run, data=Pictures(on_item=Killing(item)), resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(
    tmp_path: Path, unstopped: dict[str, torch.Tensor], number: int
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(StoppedError, match=r"after step 3 of 6 of stage 'features'.*--resume"):
        small_run(tmp_path, data=Pictures(on_item=Killing(4 + 9, number)))
    assert signal.getsignal(number) == before
    assert torch.load(tmp_path / "newest.pt", weights_only=True)["step"] == 3
    assert all_equal(weights(small_run(tmp_path, resume=True)), unstopped)


def test_the_workers_that_make_items_do_not_change_the_bits(
    tmp_path: Path, unstopped: dict[str, torch.Tensor]
) -> None:
    assert all_equal(weights(small_run(tmp_path, workers=2)), unstopped)


def test_a_resumed_run_logs_every_step_once(tmp_path: Path) -> None:
    small_run(tmp_path / "unstopped")
    assert in_process(killed_at_item, tmp_path / "run", 4 + 6 * 4 + 25) == -signal.SIGKILL
    with (tmp_path / "run" / "metrics.jsonl").open("a") as log:
        log.write('{"stage": "labels", "st')  # what a kill leaves of a line
    small_run(tmp_path / "run", resume=True)

    def lines(run: str) -> list[tuple[str, int, dict[str, float]]]:
        text = (tmp_path / run / "metrics.jsonl").read_text()
        records = map(json.loads, text.splitlines())
        return [(record["stage"], record["step"], record["losses"]) for record in records]

    assert lines("run") == lines("unstopped")
    assert [step for _, step, _ in lines("run")] == [2, 4, 6, 2, 4, 5]


def test_a_finished_run_called_again_trains_no_more(
    tmp_path: Path, unstopped: dict[str, torch.Tensor]
) -> None:
    small_run(tmp_path)
    seen: list[int] = []
    again = small_run(tmp_path, data=Pictures(on_item=seen.append), resume=True)
    assert all_equal(weights(again), unstopped)
    assert len(seen) == 4  # the rehearsal


def test_a_run_with_validation_and_patience_resumes_to_the_same_bits(tmp_path: Path) -> None:
    from torchmetrics.classification import MulticlassAccuracy

    def run(folder: str, **options: Any) -> dict[str, torch.Tensor]:
        validation = Validation(
            Pictures(8), {"accuracy": MulticlassAccuracy(4)}, lambda b, o: (o.output, b[1]), every=1
        )
        patient = stages(patience=Patience(validations=2))
        made = small_run(tmp_path / folder, validation=validation, stages=patient, **options)
        return weights(made)

    expected = run("unstopped")
    for item in (10, 24):
        with pytest.raises(StoppedError):
            run(f"stopped-{item}", data=Pictures(on_item=Killing(item, signal.SIGINT)))
        assert all_equal(run(f"stopped-{item}", resume=True), expected)


def test_a_folder_with_a_run_is_not_taken_for_another(tmp_path: Path) -> None:
    small_run(tmp_path)
    with pytest.raises(UsageError, match=r"holds a run; resume it"):
        small_run(tmp_path)
    with pytest.raises(UsageError, match=r"seed is 0 there, and 1 here"):
        small_run(tmp_path, resume=True, seed=1)
    longer = [stages()[0], stages(steps=9)[1]]
    with pytest.raises(UsageError, match=r"stages\[1\]\.steps is 5 there, and 9 here"):
        small_run(tmp_path, resume=True, stages=longer)
    with pytest.raises(UsageError, match=r"data\.items is 24 there, and 25 here"):
        small_run(tmp_path, resume=True, data=Pictures(25))


def test_a_run_of_another_teacher_is_not_resumed(tmp_path: Path) -> None:
    from small_distillation import teacher

    small_run(tmp_path)
    other = teacher()
    torch.nn.init.ones_(other.module[0].weight)
    with pytest.raises(UsageError, match="teacher_weights"):
        small_run(tmp_path, resume=True, teacher=other)


def test_a_damaged_checkpoint_is_named_and_the_best_one_is_offered(tmp_path: Path) -> None:
    small_run(tmp_path)
    newest = tmp_path / "newest.pt"
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"newest\.pt is truncated or corrupt.*Delete it"):
        small_run(tmp_path, resume=True)
    (tmp_path / "best.pt").write_bytes(whole)
    with pytest.raises(UsageError, match=r"Copy .*best\.pt over it"):
        small_run(tmp_path, resume=True)
    torch.save({"weight": torch.zeros(1)}, newest)
    with pytest.raises(UsageError, match="no checkpoint of a run"):
        small_run(tmp_path, resume=True)


def test_a_checkpoint_without_averages_of_statistics_is_named(tmp_path: Path) -> None:
    """As those were, that were written before BatchNorm's statistics were averaged."""
    with pytest.raises(StoppedError):
        small_run(tmp_path, data=Pictures(on_item=Killing(4 + 9, signal.SIGINT)))
    state = torch.load(tmp_path / "newest.pt", weights_only=True)
    for name in ("student.1.running_mean", "student.1.running_var"):
        del state["average"][name]
    torch.save(state, tmp_path / "newest.pt")
    with pytest.raises(UsageError, match=r"none of 'student\.1\.running_mean' and 1 more"):
        small_run(tmp_path, resume=True)


def test_a_run_is_not_resumed_by_another_number_of_processes(tmp_path: Path) -> None:
    small_run(tmp_path)
    state = torch.load(tmp_path / "newest.pt", weights_only=True)
    torch.save({**state, "world_size": 2}, tmp_path / "newest.pt")
    with pytest.raises(UsageError, match=r"made by 2 processes and 1 would resume it"):
        small_run(tmp_path, resume=True)


def test_what_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    calls: list[int] = []

    def breaking(batch: Any, student: Any, teacher: Any) -> torch.Tensor:
        calls.append(1)  # the first is the rehearsal's
        return student.output.mean() * (float("inf") if len(calls) == 1 + 5 else 1.0)

    losses = [Loss("fine", lambda b, s, t: s.output.square().mean()), Loss("bad", breaking)]
    with pytest.raises(TrainingError, match=r"'bad' is -?inf at step 5 of stage 'features'"):
        small_run(tmp_path, stages=stages(losses=losses, trains=("*",))[:1])
    assert torch.load(tmp_path / "newest.pt", weights_only=True)["step"] == 4


def test_a_gradient_that_is_not_finite_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    calls: list[int] = []

    def rooted(batch: Any, student: Any, teacher: Any) -> torch.Tensor:
        """At the third step the root of 0, whose gradient is not finite."""
        calls.append(1)  # the first is the rehearsal's
        error = student.output.square().mean()
        return (error * 0).sqrt() if len(calls) == 1 + 3 else error

    losses = [Loss("rooted", rooted)]
    with pytest.raises(TrainingError, match=r"'student\.6\.weight' is not finite after step 3"):
        small_run(
            tmp_path,
            stages=stages(losses=losses, trains=("6",), clip_norm=None)[:1],
            save_every=1,
        )
    saved = torch.load(tmp_path / "newest.pt", weights_only=True)
    assert saved["step"] == 2
    assert all(value.isfinite().all() for value in saved["network"].values())
