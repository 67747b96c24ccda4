"""Scores, damages, costs and widths."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import edgekit
from edgekit.compress.pruning.allocation import allocate, allocate_uniformly, choices
from edgekit.compress.pruning.channels import ChannelGroup
from edgekit.compress.pruning.compensation import narrowed, with_statistics_of
from edgekit.compress.pruning.importance import scores
from edgekit.compress.pruning.latency_table import LatencyTable, Point, Shape, measure
from edgekit.compress.pruning.layers import Costs, Macs, weighted_layers
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.pruned import prunable_groups, prune_model
from edgekit.compress.pruning.removal import remove_channels
from edgekit.compress.pruning.sensitivity import Damage, damage_of_scores, lowest_first, scanned
from edgekit.compress.pruning.soundness import unread
from edgekit.errors import UsageError
from edgekit.model import model_of_module

INPUT = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def chain(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for given, made in itertools.pairwise((3, *widths, 4)):
        layers += [nn.Conv2d(given, made, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def groups_of(network: nn.Module) -> list[ChannelGroup]:
    return prunable_groups(network, (INPUT,), PruneOptions())[0]


def test_scores_of_the_output_estimate_what_leaving_out_a_channel_changes() -> None:
    """In a network without nonlinearities the first order is all there is."""
    network = nn.Sequential(*[layer for layer in chain(8) if isinstance(layer, nn.Conv2d)])
    (group,) = groups_of(network)
    estimated = scores(network, [group], "output", [(INPUT,)] * 100, None)[group.name]
    expected = []
    with torch.no_grad():
        whole = network(INPUT)
        for atom in range(8):
            with unread(network, [group], {group.name: [atom]}):
                expected.append(
                    float((network(INPUT) - whole).square().sum() / whole.square().sum())
                )
    assert lowest_first(estimated)[0] == lowest_first(torch.tensor(expected))[0]
    assert torch.corrcoef(torch.stack([estimated, torch.tensor(expected).double()]))[0, 1] > 0.9


@pytest.mark.parametrize("importance", ["output", "magnitude", "taylor", "fpgm"])
def test_a_channel_that_does_nothing_goes_first(importance: str) -> None:
    network = chain(16, 16)
    with torch.no_grad():  # of the first layer, channel 5 is zero, and nothing reads it
        network[0].weight[5] = 0
        network[0].bias[5] = 0
        network[2].weight[:, 5] = 0
    group = next(group for group in groups_of(network) if group.name == "0")
    found = scores(network, [group], importance, [(INPUT,)], None)  # type: ignore[arg-type]
    if importance != "fpgm":  # which keeps what is unlike the others
        assert lowest_first(found["0"])[0] == 5


def test_the_loss_of_labels_takes_the_place_of_the_output_error() -> None:
    network = chain(16)
    target = torch.randn(2, 4, 8, 8)

    def loss(output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        return F.mse_loss(output[:, :2], batch[1][:, :2])

    options = PruneOptions(keep=0.6, round_to=4, loss=loss)
    found = prune_model(model_of_module(network, INPUT), options, [(INPUT, target)])
    assert found.left <= 0.6


def test_a_scan_measures_the_error_with_channels_unread() -> None:
    network = chain(16, 16)
    groups = groups_of(network)
    network.requires_grad_(False)
    ranked = {group.name: torch.arange(16.0) for group in groups}
    found = scanned(network, groups, ranked, [(INPUT,)], None, lambda _: None)
    for group in groups:
        damage = found[group.name]
        assert damage(16) == 0
        assert damage(4) >= damage(8) >= damage(12) > 0
        with (
            torch.no_grad(),
            unread(network, groups, {g.name: range(8) if g is group else [] for g in groups}),
        ):
            narrow = network(INPUT)
        whole = network(INPUT)
        expected = (narrow - whole).square().mean() / whole.var()
        assert damage(8) == pytest.approx(float(expected), rel=1e-5)


def test_damage_between_measured_widths_is_interpolated() -> None:
    damage = Damage((0, 10, 20), (1.0, 0.4, 0.0))
    assert damage(15) == pytest.approx(0.2)
    summed = damage_of_scores({"a": torch.tensor([3.0, 1.0, 2.0])})["a"]
    assert [summed(width) for width in range(4)] == [6.0, 3.0, 1.0, 0.0]


def test_costs_at_other_widths_are_those_of_the_narrower_network() -> None:
    network = chain(32, 48, 16)
    groups = groups_of(network)
    costs = Costs(weighted_layers(network, (INPUT,)), groups, Macs())
    widths = {group.name: group.atoms - 8 for group in groups}
    narrow = Costs(weighted_layers(chain(24, 40, 8), (INPUT,)), [], Macs())
    assert costs.total(widths) == pytest.approx(narrow.total({}))
    full = {group.name: group.atoms for group in groups}
    assert costs.saved("0", 24, full) == pytest.approx(
        costs.total(full) - costs.total({**full, "0": 24})
    )


def test_greedy_widths_cost_what_they_may_and_are_near_the_best_of_all() -> None:
    network = chain(32, 48, 32)
    groups = groups_of(network)
    costs = Costs(weighted_layers(network, (INPUT,)), groups, Macs())
    options = PruneOptions(keep=0.5, round_to=8)
    torch.manual_seed(1)
    damages = damage_of_scores({group.name: torch.rand(group.atoms) for group in groups})
    allowed = 0.5 * costs.total({group.name: group.atoms for group in groups})

    def harm(widths: dict[str, int]) -> float:
        return sum(damages[name](width) for name, width in widths.items())

    possible = (
        dict(zip([group.name for group in groups], combination))
        for combination in itertools.product(*(choices(group, options) for group in groups))
    )
    best = min(harm(widths) for widths in possible if costs.total(widths) <= allowed)
    found = allocate(groups, costs, damages, options)
    assert costs.total(found) <= allowed
    assert harm(found) <= 1.3 * best
    even = allocate_uniformly(groups, costs, options)
    assert costs.total(even) <= allowed
    assert harm(found) <= harm(even)


def test_widths_are_multiples_or_whole() -> None:
    (group,) = groups_of(chain(50))
    assert choices(group, PruneOptions(round_to=16)) == [50, 48, 32, 16]
    assert choices(group, PruneOptions(round_to=16, least=0.6)) == [50, 48, 32]
    (narrow,) = groups_of(chain(12))
    assert choices(narrow, PruneOptions(round_to=16)) == [12]


def test_what_cannot_be_reached_is_said() -> None:
    model = model_of_module(chain(16, 16), INPUT)
    found = prune_model(model, PruneOptions(keep=0.5, round_to=16))
    assert found.left == 1.0
    assert "100% of the multiply-accumulates are left, not 50%" in found.summary()
    with pytest.raises(UsageError, match="Nothing of conv2d can be pruned"):
        edgekit.prune(model_of_module(nn.Conv2d(3, 8, 1), INPUT))


def test_a_table_of_latencies_grows_with_channels_and_interpolates() -> None:
    shape = Shape("Conv", (3, 3), (1, 1), (1, 1), (1, 1), 1, (24, 24), 1)
    few, many = Point(shape, 16, 16), Point(shape, 128, 128)
    found = measure([few, many])
    assert 0 < found[few] < found[many]
    several = replace(many, shape=replace(shape, batch=8))
    assert measure([several])[several] > 3 * found[many]
    layers = weighted_layers(chain(64), (torch.zeros(1, 3, 16, 16),))
    table = LatencyTable(layers.values(), 16, 0.125)
    last = list(layers.values())[-1]
    at_48, at_56, at_64 = (table(last, reads, 4) for reads in (48, 56, 64))
    assert at_56 == pytest.approx((at_48 + at_64) / 2)
    assert {row["makes"] for row in table.to_json()} >= {16, 64}
    assert {row["operator"] for row in table.to_json()} == {"Conv"}


def test_layers_of_every_kind_are_timed() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 96, 3, padding="same"), nn.Conv2d(96, 96, 3, groups=96), nn.Conv2d(96, 96, 1, groups=3),
        nn.ConvTranspose2d(96, 64, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4),
    )  # fmt: skip
    model = model_of_module(network, torch.zeros(1, 3, 48, 48))
    found = prune_model(model, PruneOptions(0.8, of="latency", round_to=8))
    assert found.milliseconds is not None
    before, after = found.milliseconds
    assert 0 < after < before
    assert "ms by the table" in found.summary()


def test_a_channel_that_is_constant_on_the_data_costs_nothing() -> None:
    """Its mean goes into the bias of what read it."""
    network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    (first, second) = groups_of(network)
    removed = {first.name: [2, 9], second.name: []}
    with torch.no_grad():
        network[0].weight[[2, 9]] = 0
        network[0].bias[[2, 9]] = 3.0
    narrow = narrowed(network, [first, second], removed, [(INPUT,)])
    assert narrow[0].out_channels == 14
    torch.testing.assert_close(narrow(INPUT), network(INPUT), rtol=1e-4, atol=1e-5)


def test_any_module_is_pruned_with_batches_of_its_inputs() -> None:
    narrow = edgekit.prune(chain(32, 32), edgekit.PruneOptions(0.6, round_to=8), [INPUT])
    assert narrow.recipe is None
    assert narrow(INPUT).shape == (2, 4, 8, 8)
    with pytest.raises(UsageError, match="batches of its inputs"):
        edgekit.prune(chain(8))


def test_any_module_is_pruned_by_a_loss_on_labelled_batches() -> None:
    network = chain(32, 32)
    wanted = torch.zeros(2, 4, 8, 8)
    options = edgekit.PruneOptions(
        0.6, round_to=8, loss=lambda output, batch: (output - batch[1]).square().mean()
    )
    narrow = edgekit.prune(network, options, [(INPUT, wanted)])
    assert narrow(INPUT).shape == (2, 4, 8, 8)


def test_norms_get_the_statistics_of_the_narrower_network() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), nn.ReLU(), nn.Conv2d(16, 4, 3, bias=False), nn.BatchNorm2d(4)
    ).eval()  # fmt: skip
    with torch.no_grad():
        network[3].train()(network[2](network[1](network[0](INPUT))))
    network.eval()
    (group,) = groups_of(network)
    narrow = with_statistics_of(
        remove_channels(copy.deepcopy(network), [group], {group.name: range(8)}),
        [(INPUT,), (INPUT,)],
    )
    made = narrow[2](narrow[1](narrow[0](INPUT)))
    torch.testing.assert_close(narrow[3].running_mean, made.mean((0, 2, 3)))
    assert narrow[3].momentum == 0.1
    assert not narrow[3].training


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": 0.0},
        {"keep": 1.0},
        {"round_to": 0},
        {"least": 0.0},
        {"importance": "magnitud"},
        {"of": "flops"},
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PruneOptions(**wrong)  # type: ignore[arg-type]
