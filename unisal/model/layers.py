"""Building blocks that know their domain and how many time steps are folded into their batch.

The network treats a clip `[batch, time, C, H, W]` as one batch `[batch * time, C, H, W]` wherever
it can. Two kinds of layers need to know more than the folded tensor: BatchNorm, whose training
statistics are those of one time step (docs/behaviour.md, "BatchNorm"), and layers that exist once
per domain. Both get a `Context` along with their input, so that no module has to remember the
domain of the last call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unisal.types import Part


@dataclass(frozen=True)
class Context:
    """What a layer has to know besides its input `[batch * steps, C, H, W]` (batch-major).

    Attributes:
        domain: the domain whose layers to use.
        steps: number of time steps of the clip.
    """

    domain: str
    steps: int = 1

    @property
    def one_step(self) -> Context:
        """Return the context of a single time step of the same clip."""
        return replace(self, steps=1)


class ContextLayer(nn.Module):
    """A layer called as `layer(x, context)`."""


class Stack(nn.ModuleList):
    """An `nn.Sequential`, with the same key names, that passes on the context."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return run_layers(list(self), x, context)


def run_layers(layers: Sequence[nn.Module], x: Any, context: Context) -> Any:
    """Call layers in turn.

    Layers that take a context get it, and a convolution absorbs the BatchNorm that follows it.

    Args:
        layers: in their order.
        x: what the first of them takes.
        context: the domain, and the number of time steps.

    Returns:
        What the last of them returns.
    """
    done = 0
    while done < len(layers):
        layer, following = layers[done], layers[done + 1] if done + 1 < len(layers) else None
        if isinstance(layer, nn.Conv2d) and isinstance(following, NormLayer):
            x = conv_norm(layer, following, x, context)
            done += 2
        else:
            x = layer(x, context) if isinstance(layer, ContextLayer | Stack) else layer(x)
            done += 1
    return x


def conv_norm(
    conv: nn.Conv2d, norm: NormLayer, x: Any, context: Context, stride: int = 1
) -> Tensor:
    """Compute `norm(conv(x))`.

    A BatchNorm that does not use the statistics of its input is a factor and a summand per channel.
    They are merged into the convolution, which saves a pass over the feature maps, forward and
    backward. A strided convolution then computes only what is kept.

    Args:
        conv: the convolution.
        norm: the normalisation that follows it.
        x: what the convolution takes.
        context: selects the BatchNorm.
        stride: 2 to keep every second row and column. The BatchNorm must then not use the
            statistics of its input, which are those of the full size.

    Returns:
        `[n, C, H, W]`, with `stride=2` `[n, C, H / 2, W / 2]`.
    """
    batch_norm = norm.selected(context)
    if batch_norm.training:
        assert stride == 1, "the statistics are those of the full-size output"
        return batch_norm(conv._conv_forward(x, conv.weight, conv.bias), context)
    factor, summand = batch_norm.as_affine()
    weight = conv.weight * factor[:, None, None, None]
    bias = summand if conv.bias is None else summand + conv.bias * factor
    if stride == 1:
        return conv._conv_forward(x, weight, bias)
    strides = (conv.stride[0] * stride, conv.stride[1] * stride)
    return F.conv2d(x, weight, bias, strides, conv.padding, conv.dilation, conv.groups)


class Dropout2d(nn.Dropout2d):
    """Dropout of whole channels that can draw for a part of a batch what it draws for all of it.

    Attributes:
        part: which examples of the batch the input holds; None: all of them.
    """

    part: Part | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.part is None or not self.training:
            return super().forward(x)
        steps = len(x) // max(self.part.n, 1)
        drawn = x.new_empty(self.part.total * steps, x.shape[1], 1, 1).bernoulli_(1 - self.p)
        first = self.part.first * steps
        return x * drawn.div_(1 - self.p)[first : first + len(x)]


JoinedStatistics = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, float]]
"""Turns mean and variance `[C]` of so many values per channel, those of a part of a batch, into
those of all of it, with their number. Variances are divided by the number of values."""


class NormLayer(ContextLayer):
    """A layer that normalises with the BatchNorm that the context selects."""

    def selected(self, context: Context) -> StepBatchNorm2d:
        """Return the BatchNorm for a context."""
        raise NotImplementedError


class StepBatchNorm2d(nn.BatchNorm2d, NormLayer):
    """BatchNorm whose training statistics are those of one time step at a time.

    In training mode the result and the running estimates are the same as if the layer had
    been called once per time step, in time order.

    Attributes:
        joined: makes the statistics of a part of a batch those of all of it; None: the batch is
            whole.
    """

    joined: JoinedStatistics | None = None

    def forward(self, x: Tensor, context: Context) -> Tensor:  # type: ignore[override]
        if self.training and self.joined is not None:
            return self._forward_joined(x, context.steps, self.joined)
        if context.steps == 1 or not self.training:
            return super().forward(x)
        return self._forward_steps(x, context.steps)

    def selected(self, _context: Context) -> StepBatchNorm2d:
        return self

    def as_affine(self) -> tuple[Tensor, Tensor]:
        """Return factor and summand, `[C]` each: what the layer does outside training."""
        assert self.running_mean is not None and self.running_var is not None
        factor = self.weight * torch.rsqrt(self.running_var + self.eps)
        return factor, self.bias - self.running_mean * factor

    def _forward_steps(self, x: Tensor, steps: int) -> Tensor:
        """Normalise each time step by its own statistics and update the running estimates."""
        assert self.running_mean is not None and self.running_var is not None
        channels = x.shape[1]
        # From [B*T, C, H, W] to [B, T*C, H, W]: each step of each channel becomes a channel.
        per_step = x.reshape(-1, steps * channels, *x.shape[2:])
        means = self.running_mean.new_zeros(steps * channels)
        variances = self.running_var.new_ones(steps * channels)
        y = F.batch_norm(
            per_step,
            means,
            variances,
            self.weight.repeat(steps),
            self.bias.repeat(steps),
            training=True,
            momentum=1.0,  # leaves this call's own statistics in `means` and `variances`
            eps=self.eps,
        )
        self._track(means.view(steps, channels), variances.view(steps, channels))
        return y.reshape(x.shape)

    def _forward_joined(self, x: Tensor, steps: int, joined: JoinedStatistics) -> Tensor:
        """Normalise each time step by the statistics of all parts of the batch."""
        channels = x.shape[1]
        per_step = x.reshape(-1, steps * channels, *x.shape[2:])  # see _forward_steps
        axes = (0, 2, 3)
        n = per_step.numel() // (steps * channels)
        mean, variance, total = joined(per_step.mean(axes), per_step.var(axes, correction=0), n)
        factor = self.weight.repeat(steps) * torch.rsqrt(variance + self.eps)
        summand = self.bias.repeat(steps) - mean * factor
        y = per_step * factor[:, None, None] + summand[:, None, None]
        unbiased = variance.detach() * (total / max(total - 1, 1))
        self._track(mean.detach().view(steps, channels), unbiased.view(steps, channels))
        return y.reshape(x.shape)

    @torch.no_grad()
    def _track(self, means: Tensor, variances: Tensor) -> None:
        """Update the running estimates with the statistics of each time step, `[T, C]`."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        for mean, variance in zip(means, variances, strict=True):
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += len(means)


Norm = Callable[[int], NormLayer]
"""Makes a normalisation layer for a number of channels."""


class ReLU6(nn.Module):
    """ReLU6, in place if no gradient is needed; otherwise PyTorch would copy the input first."""

    def forward(self, x: Tensor) -> Tensor:
        return F.hardtanh(x, 0.0, 6.0, inplace=not x.requires_grad)


class InvertedResidual(ContextLayer):
    """MobileNetV2's block: (expand,) depthwise 3x3, project, without activation after projecting.

    Key names follow the published encoder: `conv.0` is the first convolution, and BatchNorms and
    ReLU6 are counted too.

    Args:
        inp: channels of the input.
        out: channels of the output.
        expansion: the hidden width over the input's; 1 leaves out the expanding convolution.
        residual: whether to add the input to the output.
        norm: makes the normalisation layers.
        expanding: the class of the expanding convolution.
    """

    def __init__(
        self,
        inp: int,
        out: int,
        expansion: int,
        residual: bool = False,
        norm: Norm = StepBatchNorm2d,
        expanding: type[nn.Conv2d] = nn.Conv2d,
    ) -> None:
        super().__init__()
        hidden = round(inp * expansion)
        self.residual = residual
        expand: list[nn.Module] = []
        if expansion != 1:
            expand = [expanding(inp, hidden, 1, bias=False), norm(hidden), ReLU6()]
        self._depthwise = len(expand)
        self.conv = Stack(
            [
                *expand,
                nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
                norm(hidden),
                ReLU6(),
                nn.Conv2d(hidden, out, 1, bias=False),
                norm(out),
            ]
        )
        if expansion != 1:
            init_like_mobilenet(self)

    def forward(self, x: Any, context: Context, stride: int = 1) -> Tensor:
        """Compute the block.

        Args:
            x: what the first convolution takes, usually `[n, C, H, W]`.
            context: the domain, and the number of time steps.
            stride: 2 for every second row and column of the result; not for a residual block.

        Returns:
            `[n, out, H, W]`, with `stride=2` `[n, out, H / 2, W / 2]`.
        """
        assert stride == 1 or not self.residual
        layers = list(self.conv)
        depthwise, norm = layers[self._depthwise : self._depthwise + 2]
        assert isinstance(depthwise, nn.Conv2d) and isinstance(norm, NormLayer)
        if stride > 1 and norm.training:  # the statistics are those of full-size feature maps
            return run_layers(layers, x, context)[..., ::stride, ::stride]
        y = run_layers(layers[: self._depthwise], x, context)
        y = conv_norm(depthwise, norm, y, context, stride)
        y = run_layers(layers[self._depthwise + 2 :], y, context)
        return x + y if self.residual else y


def init_like_mobilenet(module: nn.Module) -> None:
    """Initialise weights as MobileNetV2 does.

    Convolutions are drawn from a normal distribution with mean 0 and standard deviation
    sqrt(2 / (k * k * out)), biases are 0; BatchNorms begin with factor 1 and summand 0.
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
            nn.init.normal_(m.weight, 0.0, math.sqrt(2.0 / fan_out))
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)


def fold(x: Tensor) -> Tensor:
    """Return a clip `[batch, time, C, H, W]` as one batch `[batch * time, C, H, W]`."""
    return x.flatten(0, 1)


def unfold(x: Tensor, steps: int) -> Tensor:
    """Return a batch `[batch * time, C, H, W]` as the clip `[batch, time, C, H, W]`."""
    return x.unflatten(0, (-1, steps))


def upsample_bilinear(x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Resize `[n, C, H, W]` bilinearly to `size` (h, w), by default to twice its size.

    Corners are not aligned (`align_corners=False`).
    """
    if size is not None and tuple(x.shape[-2:]) == tuple(size):
        return x
    scale = 2.0 if size is None else None
    return F.interpolate(x, size=size, scale_factor=scale, mode="bilinear", align_corners=False)


def spatial_log_softmax(x: Tensor) -> Tensor:
    """Return the log-softmax over the pixels of each frame `[..., H, W]`, whose exp sums to 1."""
    return torch.log_softmax(x.flatten(-2), dim=-1).view_as(x)
