"""The parts between encoder and saliency map (paper, figure 2; docs/behaviour.md, "Decoder")."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from unisal.model.layers import (
    Context,
    ContextLayer,
    Dropout2d,
    InvertedResidual,
    Norm,
    ReLU6,
    Stack,
    StepBatchNorm2d,
    upsample_bilinear,
)

SKIP_EXPANSION = 2
DECODER_EXPANSION = 2


class PostCNN(ContextLayer):
    """Reduces encoder features and priors to the features that enter the GRU.

    Its BatchNorms are shared by all domains.
    """

    def __init__(self, inp: int, out: int, drop_prob: float, bn_momentum: float) -> None:
        super().__init__()
        self.dropout = Dropout2d(drop_prob) if drop_prob > 0 else nn.Identity()
        self.inv_res = InvertedResidual(
            inp, out, 1, norm=lambda channels: StepBatchNorm2d(channels, momentum=bn_momentum)
        )

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.inv_res(self.dropout(x), context)


class PostRNN(Stack):
    """Turns the GRU's states into features to add to (or to replace) those that entered it."""

    def __init__(self, inp: int, out: int, norm: Norm) -> None:
        super().__init__([nn.Conv2d(inp, out, 1, bias=False), norm(out), ReLU6()])


class Skip(ContextLayer):
    """An encoder tap on its way to the decoder: expand, dropout, reduce."""

    def __init__(self, inp: int, out: int, drop_prob: float, norm: Norm) -> None:
        super().__init__()
        hidden = inp * SKIP_EXPANSION
        self.expansion = Stack([nn.Conv2d(inp, hidden, 1, bias=False), norm(hidden), ReLU6()])
        self.dropout = Dropout2d(drop_prob)
        self.reduction = Stack([nn.Conv2d(hidden, out, 1), norm(out)])

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.reduction(self.dropout(self.expansion(x, context)), context)


class JoinedConv2d(nn.Conv2d):
    """A pointwise convolution over features that are enlarged twice and joined with a skip.

    It is linear, as the enlargement and the joining are, so their order does not matter. Here the
    features are convolved while they are small, with a quarter of the multiplications.
    """

    def _conv_forward(  # type: ignore[override]
        self, joined: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        """Convolve small features and the skip connection apart, and add the results."""
        small, skip = joined
        for_small, for_skip = weight.split([small.shape[1], skip.shape[1]], dim=1)
        return F.conv2d(skip, for_skip, bias) + upsample_bilinear(F.conv2d(small, for_small))


class DecoderBlock(ContextLayer):
    """An inverted residual over features, enlarged to twice their size, and a skip connection.

    Args:
        inp: channels of the features.
        skip: channels of the skip connection.
        out: channels of the output.
        norm: makes the normalisation layers.
    """

    def __init__(self, inp: int, skip: int, out: int, norm: Norm) -> None:
        super().__init__()
        self.inv_res = InvertedResidual(
            inp + skip, out, DECODER_EXPANSION, norm=norm, expanding=JoinedConv2d
        )

    def forward(self, x: Tensor, skip: Tensor, context: Context) -> Tensor:
        """Enlarge features and join them with a skip connection.

        Args:
            x: features `[n, inp, h, w]`.
            skip: `[n, skip, 2 h, 2 w]`.
            context: the domain, and the number of time steps.

        Returns:
            `[n, out, 2 h, 2 w]`.
        """
        return self.inv_res((x, skip), context)
