"""A critic in the loop: its weight, its learning, its part in a checkpoint."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_distillation import Pictures, all_equal, weights
from test_processes import torchrun
from torch import Tensor, nn

from edgekit.distillation import AdamW, Adversary, Loss, Sgd, Stage, Tapped
from edgekit.distillation.adversary import Contest
from edgekit.distillation.loop import Distilled, distill
from edgekit.distillation.network import Apprentice
from edgekit.distillation.patch_critic import PatchCritic
from edgekit.distillation.run_folder import read_metrics
from edgekit.distillation.taps import opened
from edgekit.errors import StoppedError, UsageError


def student() -> Tapped:
    torch.manual_seed(3)
    return Tapped(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)))


def critic() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))


def pair(batch: Any, made: Any) -> tuple[Tensor, Tensor]:
    return made.output, batch[0]


def squared(batch: Any, made: Any, teacher: Any) -> Tensor:
    return (made.output - batch[0]).square().mean()


def stage(**changes: Any) -> Stage:
    adversary = Adversary(critic(), pair, "2.weight", optimiser=AdamW(1e-2))
    given = {
        "optimiser": AdamW(1e-2, eps=1e-8),
        "batch_size": 4,
        "ema": None,
        "adversary": adversary,
    }
    return Stage("contest", [Loss("squared", squared)], **{"steps": 6, **given, **changes})  # type: ignore[arg-type]


def run(folder: Path, *stages: Stage, **options: Any) -> Distilled:
    given: dict[str, Any] = {"data": Pictures(), "save_every": 4, "log_every": 1, **options}
    return distill(student(), None, stages=list(stages or (stage(),)), run=folder, **given)


def logged(distilled: Distilled) -> list[dict[str, Any]]:
    return read_metrics(distilled.folder)


def test_the_first_step_is_that_of_a_slow_reference(tmp_path: Path) -> None:
    own = stage(steps=1)
    assert own.adversary is not None
    drawn: list[Tensor] = []

    def remembered(batch: Any, made: Any, teacher: Any) -> Tensor:
        drawn.append(batch[0].clone())
        return squared(batch, made, teacher)

    found = run(tmp_path, replace(own, losses=[Loss("squared", remembered)]))
    network, opponent, real = student().module, critic(), drawn[-1]

    made = network(real)
    loss, against = (made - real).square().mean(), -opponent(made).mean()
    last = network[2].weight
    ratio = torch.autograd.grad(loss, last, retain_graph=True)[0].norm()
    ratio = ratio / (torch.autograd.grad(against, last, retain_graph=True)[0].norm() + 1e-4)
    (loss + 0.05 * ratio.detach() * against).backward()
    AdamW(1e-2, eps=1e-8).build(dict(network.named_parameters()))[0].step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found.model.module.state_dict()[name], value)

    record = logged(found)[0]
    hinge = torch.relu(1 - opponent(real)).mean() + torch.relu(1 + opponent(made)).mean()
    against, hinge, ratio = against.detach(), hinge.detach(), ratio.detach()
    assert record["losses"]["adversarial"] == pytest.approx(float(against), rel=1e-4)
    assert record["losses"]["critic"] == pytest.approx(float(hinge) / 2, rel=1e-4)
    assert record["weights"]["adversarial"] == pytest.approx(0.05 * float(ratio), rel=1e-4)
    total = record["losses"]["squared"] + 0.05 * float(ratio) * float(against)
    assert record["loss"] == pytest.approx(total, rel=1e-4)


def test_the_critic_learns_and_the_given_one_stays(tmp_path: Path) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 1, 1))
    still = Adversary(plain, pair, "2.weight", optimiser=AdamW(2e-2), weight=0.0)
    before = {name: value.clone() for name, value in still.critic.state_dict().items()}
    found = logged(run(tmp_path, stage(steps=60, adversary=still, optimiser=AdamW(0.0))))
    losses = [record["losses"]["critic"] for record in found]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert all_equal(dict(still.critic.state_dict()), before)


def test_what_is_frozen_in_a_critic_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contests: list[Contest] = []
    settle = Contest.settle_gradients
    monkeypatch.setattr(
        Contest, "settle_gradients", lambda own: (contests.append(own), settle(own))
    )
    half = critic()
    half[0].requires_grad_(False)
    run(
        tmp_path, stage(steps=2, adversary=Adversary(half, pair, "2.weight", optimiser=AdamW(1e-2)))
    )
    learned = contests[-1].critic
    assert torch.equal(learned[0].weight, half[0].weight)
    assert not torch.equal(learned[3].weight, half[3].weight)


def test_parts_of_a_batch_add_up_for_the_critic(tmp_path: Path) -> None:
    plain = Adversary(nn.Conv2d(3, 1, 3), pair, "2.weight", optimiser=AdamW(1e-2, eps=1e-8))
    runs = [run(tmp_path / str(n), stage(adversary=plain, accumulate=n, steps=1)) for n in (1, 2)]
    one, other = (logged(found)[0]["losses"]["critic"] for found in runs)
    assert one == pytest.approx(other, rel=1e-5)


def test_a_stopped_contest_resumes_to_the_same_bits(tmp_path: Path) -> None:
    expected = weights(run(tmp_path / "unstopped"))
    drawn: list[int] = []

    def stopping(index: int) -> None:
        drawn.append(index)
        if len(drawn) == 2 + 9:  # two for the rehearsal, then four a step
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedError, match="after step 3"):
        run(tmp_path / "run", data=Pictures(on_item=stopping))
    saved = torch.load(tmp_path / "run" / "newest.pt", weights_only=True)
    assert set(saved["critic"]) == set(critic().state_dict())
    assert len(saved["optimisers"]) == 2
    assert all_equal(weights(run(tmp_path / "run", resume=True)), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"adversary": Adversary(critic(), pair, "3.weight")},
            r"'3.weight', which is no parameter",
        ),
        ({"trains": ("0",)}, "which the stage freezes"),
        (
            {"adversary": Adversary(critic().requires_grad_(False), pair, "2.weight")},
            "it cannot learn",
        ),
        ({"losses": [Loss("critic", squared)]}, "a loss named 'critic'; that name is taken"),
        (
            {"losses": [Loss("constant", lambda b, s, t: b[0].mean())]},
            "on which not all of the losses depend",
        ),
    ],
)
def test_an_adversary_that_cannot_work_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run(tmp_path, replace(stage(), **changes))


def test_sharding_is_refused() -> None:
    class ModelParallelStrategy:
        """Stands for Lightning's, of this name, which needs processes."""

    tapped = student()
    with opened(tapped) as tap, pytest.raises(UsageError, match="cannot run under FSDP"):
        Contest(
            Adversary(critic(), pair, "2.weight"),
            Apprentice(tapped, tap),
            SimpleNamespace(strategy=ModelParallelStrategy()),  # type: ignore[arg-type]
        )


SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path.append(str(Path(sys.argv[2])))
from test_adversary import even
from edgekit.distillation import Hardware
torch.set_num_threads(1)
even(Path(sys.argv[1]) / "two", hardware=Hardware("cpu"))
"""


def even(folder: Path, **options: Any) -> Distilled:
    """A contest that does not depend on how a batch is split: no Adam for the critic.

    The hinge loss has no gradient at the critic's last bias but what rounding leaves, and Adam steps by
    its sign.
    """
    torch.manual_seed(4 + int(os.environ.get("RANK", 0)))  # the first one's critic is that of all
    normed = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))
    own = Adversary(normed, pair, "2.weight", optimiser=Sgd(0.05))
    return run(folder, stage(adversary=own, steps=4), **options)


def test_two_processes_contest_as_one_does(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    code, said = torchrun(script, str(tmp_path), str(Path(__file__).parent))
    assert code == 0, said
    one, two = logged(even(tmp_path / "one")), read_metrics(tmp_path / "two")
    for single, shared in zip(one, two, strict=True):
        assert shared["losses"] == pytest.approx(single["losses"], rel=1e-5, abs=1e-6)
        assert shared["weights"] == pytest.approx(single["weights"], rel=1e-5)


def test_the_patch_critic_scores_patches_and_starts_as_published() -> None:
    torch.manual_seed(0)
    network = PatchCritic()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert [c.out_channels for c in convolutions] == [64, 128, 256, 512, 512, 1]
    assert float(convolutions[3].weight.detach().std()) == pytest.approx(0.02, rel=0.01)
    small = PatchCritic((4, 4, 4, 4))
    assert small(torch.zeros(1, 3, 17, 64, 64)).shape == (1, 1, 5, 4, 4)
    assert not isinstance(small.layers[1], nn.BatchNorm3d)
