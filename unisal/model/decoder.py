"""The parts between encoder and saliency map (spec 01, "After the encoder")."""

from __future__ import annotations

from torch import Tensor, nn

from unisal.model.layers import (
    Context,
    ContextLayer,
    InvertedResidual,
    Norm,
    Stack,
    StepBatchNorm2d,
    upsample_bilinear,
)

SKIP_EXPANSION = 2
DECODER_EXPANSION = 2


class PostCNN(ContextLayer):
    """Encoder features and priors -> the features that enter the GRU; plain BatchNorm."""

    def __init__(self, inp: int, out: int, drop_prob: float, bn_momentum: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(drop_prob) if drop_prob > 0 else nn.Identity()
        self.inv_res = InvertedResidual(
            inp, out, 1, norm=lambda channels: StepBatchNorm2d(channels, momentum=bn_momentum)
        )

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.inv_res(self.dropout(x), context)


class PostRNN(Stack):
    """The GRU's states -> features to add to (or replace) those that entered it."""

    def __init__(self, inp: int, out: int, norm: Norm) -> None:
        super().__init__([nn.Conv2d(inp, out, 1, bias=False), norm(out), nn.ReLU6(inplace=True)])


class Skip(ContextLayer):
    """An encoder tap on its way to the decoder: expand, dropout, reduce."""

    def __init__(self, inp: int, out: int, drop_prob: float, norm: Norm) -> None:
        super().__init__()
        hidden = inp * SKIP_EXPANSION
        self.expansion = Stack(
            [nn.Conv2d(inp, hidden, 1, bias=False), norm(hidden), nn.ReLU6(inplace=True)]
        )
        self.dropout = nn.Dropout2d(drop_prob)
        self.reduction = Stack([nn.Conv2d(hidden, out, 1), norm(out)])

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.reduction(self.dropout(self.expansion(x, context)), context)


class DecoderBlock(ContextLayer):
    """An inverted residual over the joined features; `upsample` doubles the size after it."""

    def __init__(self, inp: int, out: int, norm: Norm, upsample: bool) -> None:
        super().__init__()
        self.inv_res = InvertedResidual(inp, out, DECODER_EXPANSION, norm=norm)
        self.upsample = upsample

    def forward(self, x: Tensor, context: Context) -> Tensor:
        y = self.inv_res(x, context)
        return upsample_bilinear(y) if self.upsample else y
