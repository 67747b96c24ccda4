"""Picture quality: PSNR and SSIM of N 3 H W pictures in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def psnr_db(pictures: Tensor, reference: Tensor) -> Tensor:
    """Per picture, in dB with peak 1, after clamping `pictures` to [0, 1]."""
    mse = (pictures.clamp(0, 1) - reference).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(mse)


def ssim(pictures: Tensor, reference: Tensor) -> Tensor:
    """Per picture: mean SSIM with the 11x11 Gaussian window, sigma 1.5, of Wang et al. 2004."""
    offsets = torch.arange(11) - 5.0
    line = torch.exp(-offsets.square() / (2 * 1.5**2))
    line = line / line.sum()
    window = (line[:, None] * line[None, :]).expand(pictures.shape[1], 1, 11, 11)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x, window, groups=x.shape[1])

    x, y = pictures.clamp(0, 1), reference
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    score = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return score.mean(dim=(1, 2, 3))
