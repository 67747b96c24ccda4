"""Quality by torchmetrics is what the protocols say; LPIPS is what torchmetrics' own network gives."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.distillation.lpips import ENDS, WIDTHS, Lpips, Net, layers, load_lpips
from edgekit.distillation.quality import PerceptualDistance, paper_metrics, standard_metrics
from edgekit.errors import UsageError


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def measured(kind: str, *pairs: tuple[Tensor, Tensor]) -> float:
    metric = (standard_metrics() | paper_metrics())[kind]
    for found, expected in pairs:
        metric.update(found, expected)
    return float(metric.compute())


def slow_psnr(x: np.ndarray, y: np.ndarray) -> float:
    squares = [(min(max(a, 0.0), 1.0) - b) ** 2 for a, b in zip(x.flat, y.flat, strict=True)]
    return -10 * math.log10(sum(squares) / len(squares))


def test_psnr_is_the_mean_over_pictures_with_peak_one_after_clamping() -> None:
    x, y = 1.4 * pictures(3, 3, 12, 13) - 0.2, pictures(3, 3, 12, 13, seed=1)
    x[0] = 0.5 * x[0] + 0.5 * y[0]
    expected = [slow_psnr(a, b) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    found = measured("psnr_db", (x[:2], y[:2]), (x[2:], y[2:]))
    assert found == pytest.approx(np.mean(expected), rel=1e-5)


def slow_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """One picture C H W: an 11x11 window around every pixel, weighted means and covariances by hand."""
    x, y = (np.pad(z, ((0, 0), (5, 5), (5, 5)), mode="reflect") for z in (x, y))
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    weight = np.outer(line, line) / line.sum() ** 2
    scores = []
    for a, b in zip(x, y, strict=True):
        for top in range(a.shape[0] - 10):
            for left in range(a.shape[1] - 10):
                u = a[top : top + 11, left : left + 11]
                v = b[top : top + 11, left : left + 11]
                mean_u, mean_v = (weight * u).sum(), (weight * v).sum()
                var_u = (weight * (u - mean_u) ** 2).sum()
                var_v = (weight * (v - mean_v) ** 2).sum()
                cov = (weight * (u - mean_u) * (v - mean_v)).sum()
                scores.append(
                    (2 * mean_u * mean_v + 0.01**2)
                    * (2 * cov + 0.03**2)
                    / ((mean_u**2 + mean_v**2 + 0.01**2) * (var_u + var_v + 0.03**2))
                )
    return float(np.mean(scores))


def test_ssim_equals_the_sum_over_windows_written_out() -> None:
    y = pictures(2, 3, 13, 15)
    x = (y + 0.2 * (pictures(2, 3, 13, 15, seed=1) - 0.5)).clamp(0, 1)
    expected = [
        slow_ssim(a, b) for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)
    ]
    assert measured("ssim", (x, y)) == pytest.approx(np.mean(expected), abs=1e-5)
    assert measured("ssim", (y, y)) == pytest.approx(1.0)


def test_the_paper_s_psnr_and_ssim_do_not_see_brightness_and_contrast() -> None:
    x = pictures(2, 3, 16, 16)
    y = (x + 0.1 * pictures(2, 3, 16, 16, seed=1)).clamp(0, 1)

    def stretched(z: Tensor) -> Tensor:
        return (z - z.min()) / (z.max() - z.min())

    for kind in ("psnr_db", "ssim"):
        paper = measured(f"paper_{kind}", (0.3 * y + 0.4, x))
        assert paper == pytest.approx(measured(kind, (stretched(y), stretched(x))), rel=1e-4)
        assert paper > measured(kind, (0.3 * y + 0.4, x))


def test_the_paper_s_protocol_survives_a_flat_picture() -> None:
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert math.isfinite(measured("paper_psnr_db", (flat, pictures(1, 3, 16, 16))))


def seeded(net: Net) -> Lpips:
    torch.manual_seed(0)
    network = Lpips(net).eval()
    for head in network.heads:
        head.weight.abs_()  # as the learned ones are
    return network


@pytest.mark.parametrize("net", ["alex", "vgg"])
@pytest.mark.parametrize("as_map", [False, True])
def test_lpips_equals_torchmetrics_on_the_same_weights(
    net: Net, as_map: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchmetrics.functional.image.lpips as theirs

    network = seeded(net)
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_given: network.features)
    other = theirs._LPIPS(pretrained=False, net=net, spatial=as_map, pnet_rand=True)
    for own, head in zip(network.heads, other.lins, strict=True):
        head.model[1].weight.data = own.weight
    x, y = (2 * pictures(2, 3, 40, 48, seed=seed) - 1 for seed in (0, 1))
    found = network(x, y, as_map=as_map)
    torch.testing.assert_close(found.reshape(-1), other(x, y).reshape(-1))


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_layers_are_numbered_as_in_torchvision_s_files(net: Net, tmp_path: Path) -> None:
    """A file of that layout loads; the learned heads come from torchmetrics."""
    state = {f"features.{key}": value for key, value in layers(net).state_dict().items()}
    numbers = {"alex": [0, 3, 6, 8, 10], "vgg": [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]}
    assert sorted({int(key.split(".")[1]) for key in state}) == numbers[net]
    torch.save({**state, "classifier.6.bias": torch.zeros(1000)}, tmp_path / "net.pth")
    network = load_lpips(tmp_path / "net.pth", net)
    assert len(layers(net)) == ENDS[net][-1]
    assert tuple(head.weight.shape[1] for head in network.heads) == WIDTHS[net]
    x = pictures(1, 3, 64, 64)
    assert float(network(x, x)) == 0
    assert float(network(x, 1 - x)) > 0


def test_another_network_s_file_is_refused(tmp_path: Path) -> None:
    state = {f"features.{key}": value for key, value in layers("alex").state_dict().items()}
    torch.save(state, tmp_path / "alexnet.pth")
    with pytest.raises(
        UsageError, match=r"alexnet\.pth is not torchvision's file for vgg: .*features\.2"
    ):
        load_lpips(tmp_path / "alexnet.pth", "vgg")


def test_lpips_is_among_the_metrics_where_there_are_weights_and_each_protocol_feeds_its_own() -> (
    None
):
    network = seeded("alex")
    metrics = standard_metrics(network) | paper_metrics(network)
    assert list(metrics) == [
        "psnr_db",
        "ssim",
        "lpips",
        "paper_psnr_db",
        "paper_ssim",
        "paper_lpips",
    ]
    assert metrics["lpips"].higher_is_better is False
    x, y = pictures(2, 3, 64, 64), pictures(2, 3, 64, 64, seed=1)
    metrics["lpips"].update(x, y)
    metrics["paper_lpips"].update(x, y)
    torch.testing.assert_close(metrics["lpips"].compute(), network(2 * x - 1, 2 * y - 1).mean())
    torch.testing.assert_close(metrics["paper_lpips"].compute(), network(x, y, as_map=True).mean())
    assert isinstance(metrics["lpips"], PerceptualDistance)
