"""The encoder: MobileNetV2 with two taps for skip connections (docs/behaviour.md, "Encoder")."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from unisal.model.layers import (
    Context,
    ContextLayer,
    InvertedResidual,
    ReLU6,
    Stack,
    StepBatchNorm2d,
    init_like_mobilenet,
)

# expansion t, channels c, repeats n, stride s of the first repeat
BLOCK_TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
TAP_4X, TAP_2X = 7, 14
"""The blocks whose full-size output feeds a skip connection, by their index in `features`."""


class EncoderFeatures(NamedTuple):
    """Feature maps of one folded batch, `[batch * time, C, h, w]`."""

    out: Tensor
    """1280 channels at 1/32 of the input."""
    tap_2x: Tensor
    """160 channels at 1/16: twice the size of `out`."""
    tap_4x: Tensor
    """64 channels at 1/8: four times the size of `out`."""


class MobileNetV2(ContextLayer):
    """MobileNetV2 without its classifier; it also returns two intermediate outputs.

    Args:
        widen_factor: multiplies every width (the last one only if above 1).
        input_channel: channels of the first convolution.
        last_channel: channels of the last one.
    """

    def __init__(
        self, widen_factor: float = 1.0, input_channel: int = 32, last_channel: int = 1280
    ) -> None:
        super().__init__()
        width = int(input_channel * widen_factor)
        self.out_channels = int(last_channel * max(1.0, widen_factor))
        layers: list[nn.Module] = [_conv_norm_relu(3, width, kernel_size=3, stride=2)]
        self._strides = [1]
        widths = [width]
        for expansion, channels, repeats, first_stride in BLOCK_TABLE:
            out = int(channels * widen_factor)
            for i in range(repeats):
                stride = first_stride if i == 0 else 1
                residual = stride == 1 and width == out
                layers.append(InvertedResidual(width, out, expansion, residual))
                self._strides.append(stride)
                widths.append(out)
                width = out
        layers.append(_conv_norm_relu(width, self.out_channels, kernel_size=1))
        self._strides.append(1)
        self.features = nn.ModuleList(layers)
        self.tap_2x_channels, self.tap_4x_channels = widths[TAP_2X], widths[TAP_4X]
        init_like_mobilenet(self)

    def forward(self, x: Tensor, context: Context) -> EncoderFeatures:
        taps: dict[int, Tensor] = {}
        for i, layer in enumerate(self.features):
            stride = self._strides[i]
            if i in (TAP_4X, TAP_2X):
                taps[i] = layer(x, context)
                x = taps[i][..., ::stride, ::stride]
            elif stride > 1:
                x = layer(x, context, stride=stride)
            else:
                x = layer(x, context)
        return EncoderFeatures(x, taps[TAP_2X], taps[TAP_4X])


def _conv_norm_relu(inp: int, out: int, kernel_size: int, stride: int = 1) -> Stack:
    """Return a convolution without bias, its BatchNorm and ReLU6."""
    conv = nn.Conv2d(inp, out, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return Stack([conv, StepBatchNorm2d(out), ReLU6()])
