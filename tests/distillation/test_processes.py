"""Two processes, started by torchrun, train as one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_distillation import Pictures, even_stages, small_run, student

from edgekit.distillation import Hardware, Sgd
from edgekit.errors import UsageError

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from small_distillation import Pictures, even_stages, small_run, student
from test_processes import NORMED
from edgekit.distillation import Hardware, Sgd
from edgekit.errors import StoppedError
torch.set_num_threads(1)
folder = Path(sys.argv[1])
def run(name, strategy="auto", norm=False, changes={}, **options):
    small_run(folder / name, student=student(dropout=0.0, norm=norm), stages=even_stages(**changes),
              hardware=Hardware("cpu", strategy=strategy), **options)
run("ddp")
run("accumulated", changes=dict(accumulate=2))
run("sharded", "fsdp")
run("normed", norm=True, changes=NORMED)
run("normed-sharded", "fsdp", norm=True, changes=NORMED)
class Stop(Exception): pass
class Stopping:  # at an item of the third step of the second stage, in both
    left = 2 * 2 + 4 * 4 + 2 * 4 + 1
    def __call__(self, _item):
        self.left -= 1
        if self.left == 0: self.stop()
    def stop(self):
        raise Stop
class Asking(Stopping):  # the second process alone
    def stop(self):
        if os.environ["RANK"] == "1": os.kill(os.getpid(), signal.SIGTERM)
for name, strategy, norm, how, raised in (
    ("ddp", "auto", {}, Stopping, Stop),
    ("sharded", "fsdp", {}, Stopping, Stop),
    ("normed", "auto", dict(norm=True, changes=NORMED), Stopping, Stop),
    ("normed-sharded", "fsdp", dict(norm=True, changes=NORMED), Stopping, Stop),
    ("asked", "auto", dict(log_every=1000), Asking, StoppedError),
):
    options = dict(strategy=strategy, **norm)
    try:
        run(f"{name}-resumed", data=Pictures(on_item=how()), save_every=1, **options)
        raise SystemExit("not stopped")
    except raised as error:
        (folder / f"{name}-said-{os.environ['RANK']}").write_text(str(error))
    torch.distributed.barrier()
    run(f"{name}-resumed", resume=True, **options)
"""
NORMED: dict[str, Any] = {"trains": ("*",), "optimiser": Sgd(0.05)}
"""Changes of the stages so that BatchNorm trains. Not by Adam: a bias in front of it has no gradient but what
rounding leaves, by whose sign Adam would step."""


def torchrun(script: Path, *words: str) -> tuple[int, str]:
    """Exit code and stderr. Its own session, so that none of its processes outlives the test."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))
    process = subprocess.Popen(
        [*command, *words],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, said


def losses(run: Path) -> list[tuple[str, int, dict[str, float]]]:
    """With their sum, and the gradient's length where it is cut."""
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    kept = ("loss", "gradient_norm")
    return [
        (r["stage"], r["step"], r["losses"] | {name: r[name] for name in kept if name in r})
        for r in records
    ]


def assert_as(run: Path, expected: Path) -> None:
    for (*place, found), (*there, whole) in zip(losses(run), losses(expected), strict=True):
        assert place == there
        assert found == pytest.approx(whole, abs=1e-6)
    theirs = load_file(expected / "student.safetensors")
    for name, value in load_file(run / "student.safetensors").items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    code, said = torchrun(script, str(folder))
    assert code == 0, said[-3000:]
    torch.set_num_threads(1)
    small_run(folder / "one", student=student(dropout=0.0, norm=False), stages=even_stages())
    small_run(folder / "normed-one", student=student(dropout=0.0), stages=even_stages(**NORMED))
    return folder


@pytest.mark.parametrize("run", ["ddp", "accumulated", "sharded"])
def test_losses_and_weights_equal_those_of_one_process(runs: Path, run: str) -> None:
    assert_as(runs / run, runs / "one")


@pytest.mark.parametrize("run", ["normed", "normed-sharded"])
def test_batch_norm_sees_the_batch_of_all_processes(runs: Path, run: str) -> None:
    """Its moving statistics are among the weights that are compared, and are averaged as those are."""
    assert_as(runs / run, runs / "normed-one")


def test_one_process_that_is_asked_to_stop_stops_all_after_the_same_step(runs: Path) -> None:
    said = {(runs / f"asked-said-{rank}").read_text() for rank in (0, 1)}
    assert len(said) == 1
    assert said.pop().startswith("Stopped after step 3 of 4 of stage 'second'")
    expected = load_file(runs / "ddp" / "student.safetensors")
    resumed = load_file(runs / "asked-resumed" / "student.safetensors")
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


@pytest.mark.parametrize("run", ["ddp", "sharded", "normed", "normed-sharded"])
def test_two_processes_resume_to_the_same_bits(runs: Path, run: str) -> None:
    expected = load_file(runs / run / "student.safetensors")
    resumed = load_file(runs / f"{run}-resumed" / "student.safetensors")
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_parts_of_a_batch_one_after_another_are_the_batch(runs: Path, tmp_path: Path) -> None:
    for parts in (2, 4):
        run = tmp_path / str(parts)
        small_run(
            run, student=student(dropout=0.0, norm=False), stages=even_stages(accumulate=parts)
        )
        assert_as(run, runs / "one")


def test_the_log_says_how_many_processes_there_were(runs: Path) -> None:
    (session,) = json.loads((runs / "ddp" / "versions.json").read_text())
    assert session["processes"] == 2
    assert session["device"] == "cpu"


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"batches of 8, which 1 process times accumulate=3 .* 3\."
    ):
        small_run(tmp_path, stages=even_stages(accumulate=3))


@pytest.mark.parametrize("hardware", [{"accelerator": "tpu9"}, {"strategy": "telepathy"}])
def test_hardware_that_is_not_there_is_named(tmp_path: Path, hardware: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(hardware.values()))):
        small_run(tmp_path, hardware=Hardware(**hardware), data=Pictures(2))
