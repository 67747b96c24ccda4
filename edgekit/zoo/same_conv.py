"""Convolution with TensorFlow's padding, for networks whose weights were trained there."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SameConv(nn.Conv2d):
    """A convolution to ceil(size / stride) pixels, zeros around the picture.

    With `tf_same` the odd row and column of padding lies below and on the right, as TensorFlow's
    "SAME" has it: stride 2 on an even size pads a 3×3 kernel by 0 and 1. Without it every side gets
    kernel // 2, which gives the same shapes and, at stride 2, samples shifted by a pixel.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
        tf_same: bool,
    ) -> None:
        super().__init__(
            channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=bias
        )
        self.tf_same = tf_same

    def forward(self, x: Tensor) -> Tensor:
        if not self.tf_same or self.stride[0] == 1:
            return super().forward(x)
        top, bottom = self._ends(x.shape[2])
        left, right = self._ends(x.shape[3])
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)

    def _ends(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2
