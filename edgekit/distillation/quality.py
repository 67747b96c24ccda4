"""Picture quality by torchmetrics, after two protocols. Pictures are N 3 H W, nominally in [0, 1].

Standard: clamped to [0, 1], PSNR per picture with peak 1, SSIM with the 11x11 Gaussian window of sigma
1.5 over the picture mirrored at its edges, LPIPS (AlexNet) on [-1, 1]; means over pictures.
Turbo-VAED's (its train_vae/validation_metrics.py): pictures found and pictures expected are each
stretched to fill [0, 1], batch by batch, before PSNR and SSIM; LPIPS is fed [0, 1] and averaged over a
map at full size. Its numbers compare with each other only.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from edgekit.distillation.lpips import Lpips


def standard_metrics(lpips: Lpips | None = None) -> dict[str, Metric]:
    """psnr_db and ssim, and lpips where there is a network for it."""
    metrics: dict[str, Metric] = {
        "psnr_db": PeakSignalNoiseRatio(data_range=(0.0, 1.0), dim=(1, 2, 3)),
        "ssim": StructuralSimilarityIndexMeasure(data_range=(0.0, 1.0)),
    }
    if lpips is not None:
        metrics["lpips"] = PerceptualDistance(lpips, in_signed_range=True)
    return metrics


def paper_metrics(lpips: Lpips | None = None) -> dict[str, Metric]:
    """paper_psnr_db and paper_ssim, and paper_lpips where there is a network for it."""
    metrics: dict[str, Metric] = {
        f"paper_{name}": Stretched(metric) for name, metric in standard_metrics().items()
    }
    if lpips is not None:
        metrics["paper_lpips"] = PerceptualDistance(lpips, in_signed_range=False)
    return metrics


class Stretched(Metric):
    """Another metric, of batches whose least value became 0 and whose greatest 1."""

    full_state_update = False
    higher_is_better = True  # as of both that it is used for

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric

    def update(self, found: Tensor, expected: Tensor) -> None:
        self.metric.update(_stretched(found), _stretched(expected))

    def compute(self) -> Tensor:
        value: Tensor = self.metric.compute()
        return value

    def reset(self) -> None:
        super().reset()
        self.metric.reset()


def _stretched(pictures: Tensor) -> Tensor:
    low, high = pictures.min(), pictures.max()
    return (pictures - low) / (high - low).clamp(min=1e-12)


class PerceptualDistance(MeanMetric):
    """Mean LPIPS of pictures in [0, 1]."""

    higher_is_better = False  # type: ignore[assignment]  # torchmetrics leaves a mean's open

    def __init__(self, network: Lpips, *, in_signed_range: bool) -> None:
        """With `in_signed_range` the network sees [-1, 1], as LPIPS was made for, else [0, 1] and a map."""
        super().__init__()
        self._network: nn.Module = network
        self._in_signed_range = in_signed_range

    def update(self, found: Tensor, expected: Tensor) -> None:  # type: ignore[override]
        found, expected = found.clamp(0, 1), expected.clamp(0, 1)
        if self._in_signed_range:
            super().update(self._network(2 * found - 1, 2 * expected - 1))
        else:
            super().update(self._network(found, expected, as_map=True).mean((1, 2, 3)))
