"""The convolutional GRU between encoder and decoder (paper, section 3.4).

Its options and weights are those of docs/behaviour.md, "Between encoder and decoder".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from unisal.model.layers import (
    Context,
    ContextLayer,
    Norm,
    NormLayer,
    ReLU6,
    conv_norm,
    fold,
    unfold,
)

INPUT, RECURRENT = range(2)
"""Places of dropout in `dropout` and `drop_prob`; the third one, of the output, has no effect."""
N_GATES = 3


class RNNConfig(NamedTuple):
    """The option `rnn_cfg` of the network.

    Attributes:
        kernel_size: of the candidate's convolution of the input, in cells of the feature map.
        gate_ksize: of all other convolutions.
        dropout: whether to drop channels of the input, of the recurrent state and of the output;
            the last one has no effect.
        drop_prob: the shares of channels that are dropped, 0 to 1.
        mobile: use separable 3x3 convolutions, whatever the kernel sizes.
    """

    kernel_size: tuple[int, int] = (3, 3)
    gate_ksize: tuple[int, int] = (3, 3)
    dropout: tuple[bool, bool, bool] = (False, True, False)
    drop_prob: tuple[float, float, float] = (0.2, 0.2, 0.2)
    mobile: bool = True


class SeparableConv2d(nn.Module):
    """Depthwise 3x3, norm, ReLU6, pointwise, without biases; called with the norm that follows."""

    def __init__(self, inp: int, out: int, norm: Norm) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inp, inp, 3, padding=1, groups=inp, bias=False)
        self.sep_bn = norm(inp)
        self.relu = ReLU6()
        self.conv_sep = nn.Conv2d(inp, out, 1, bias=False)

    def forward(self, x: Tensor, norm: NormLayer, context: Context) -> Tensor:
        x = self.relu(conv_norm(self.conv_dw, self.sep_bn, x, context))
        return conv_norm(self.conv_sep, norm, x, context)


class PlainConv2d(nn.Conv2d):
    """The convolution of `mobile=False`: same size, no bias, Xavier-uniform start.

    It is called with the norm that follows it.
    """

    def __init__(self, inp: int, out: int, kernel_size: tuple[int, int]) -> None:
        padding = (kernel_size[0] // 2, kernel_size[1] // 2)
        super().__init__(inp, out, kernel_size, padding=padding, bias=False)
        nn.init.xavier_uniform_(self.weight)

    def forward(  # type: ignore[override]
        self, x: Tensor, norm: NormLayer, context: Context
    ) -> Tensor:
        return conv_norm(self, norm, x, context)


class ConvGRUCell(ContextLayer):
    """One convolutional GRU cell whose gates are normalised per domain.

        r  = sigmoid(a_r_x * N(w_r x) + a_r_h * N(u_r h) + b_r)
        z  = sigmoid(a_z_x * N(w_z x) + a_z_h * N(u_z h) + b_z)
        h~ = tanh(a_h_x * N(w x) + r * (a_h_h * N(u h)) + b_h)
        h' = (1 - z) * h + z * h~

    Recurrent dropout multiplies h by one channel mask per gate, the same for all
    steps of a sequence and for the whole batch. Masks are drawn when a sequence starts, that is
    when no state is given; a carried state continues with the masks of its sequence.
    """

    def __init__(self, inp: int, hidden: int, cfg: RNNConfig, norm: Norm) -> None:
        super().__init__()
        self.hidden_channels = hidden
        self.cfg = cfg
        shape = (hidden, 1, 1)
        self.b_r, self.b_z, self.b_h = (nn.Parameter(torch.zeros(shape)) for _ in range(N_GATES))
        self.a_r_x, self.a_r_h = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.ones(shape))
        self.a_z_x, self.a_z_h = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.ones(shape))
        self.a_h_x, self.a_h_h = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.ones(shape))
        for place, channels in ((INPUT, inp), (RECURRENT, hidden)):
            if cfg.dropout[place]:
                self.register_buffer(f"drop_mask_{place}", torch.ones(N_GATES, channels))
        self.norm_r_x, self.norm_r_h = norm(hidden), norm(hidden)
        self.norm_z_x, self.norm_z_h = norm(hidden), norm(hidden)
        self.norm_out_x, self.norm_out_h = norm(hidden), norm(hidden)

        def conv(channels: int, kernel_size: tuple[int, int]) -> nn.Module:
            if cfg.mobile:
                return SeparableConv2d(channels, hidden, norm)
            return PlainConv2d(channels, hidden, kernel_size)

        self.w_r, self.u_r = conv(inp, cfg.gate_ksize), conv(hidden, cfg.gate_ksize)
        self.w_z, self.u_z = conv(inp, cfg.gate_ksize), conv(hidden, cfg.gate_ksize)
        self.w, self.u = conv(inp, cfg.kernel_size), conv(hidden, cfg.gate_ksize)

    def forward(self, x: Tensor, h: Tensor | None, context: Context) -> tuple[Tensor, Tensor]:
        """Run the cell over all steps of a clip.

        Args:
            x: the input `[batch * time, C, H, W]`.
            h: the state before the first step, `[batch, hidden, H, W]`; None for zeros.
            context: the domain, and the number of time steps.

        Returns:
            The states of all steps `[batch * time, hidden, H, W]`, and the last state.
        """
        if h is None:
            self._draw_masks()
            batch = x.shape[0] // context.steps
            h = x.new_zeros(batch, self.hidden_channels, *x.shape[2:])
        # The input's side does not depend on the state: all time steps at once.
        w_r = self.w_r(self._dropped(x, INPUT, 0), self.norm_r_x, context)
        w_z = self.w_z(self._dropped(x, INPUT, 1), self.norm_z_x, context)
        w_h = self.w(self._dropped(x, INPUT, 2), self.norm_out_x, context)
        x_r = unfold(self.a_r_x * w_r + self.b_r, context.steps)  # [B, T, hidden, H, W]
        x_z = unfold(self.a_z_x * w_z + self.b_z, context.steps)
        x_h = unfold(self.a_h_x * w_h + self.b_h, context.steps)
        states = []
        for t in range(context.steps):
            h = self._step(x_r[:, t], x_z[:, t], x_h[:, t], h, context.one_step)
            states.append(h)
        return fold(torch.stack(states, dim=1)), h

    def _step(self, x_r: Tensor, x_z: Tensor, x_h: Tensor, h: Tensor, context: Context) -> Tensor:
        u_r = self.u_r(self._dropped(h, RECURRENT, 0), self.norm_r_h, context)
        u_z = self.u_z(self._dropped(h, RECURRENT, 1), self.norm_z_h, context)
        u_h = self.u(self._dropped(h, RECURRENT, 2), self.norm_out_h, context)
        r = torch.sigmoid(x_r + self.a_r_h * u_r)
        z = torch.sigmoid(x_z + self.a_z_h * u_z)
        candidate = torch.tanh(x_h + r * (self.a_h_h * u_h))
        return (1 - z) * h + z * candidate

    def _dropped(self, x: Tensor, place: int, gate: int) -> Tensor:
        if not (self.training and self.cfg.dropout[place]):
            return x
        return x * self.get_buffer(f"drop_mask_{place}")[gate, :, None, None]

    def _draw_masks(self) -> None:
        if not self.training:
            return
        for place in (INPUT, RECURRENT):
            if self.cfg.dropout[place]:
                keep = 1.0 - self.cfg.drop_prob[place]
                mask = self.get_buffer(f"drop_mask_{place}")
                # A new tensor, not a change in place: a clip whose backward pass is yet to come
                # keeps the masks it was computed with.
                drawn = torch.bernoulli(torch.full_like(mask, keep)) / keep
                setattr(self, f"drop_mask_{place}", drawn)


class ConvGRU(ContextLayer):
    """The GRU as the network holds it: a list of cells, of which the published network has one."""

    def __init__(self, inp: int, hidden: int, cfg: RNNConfig, norm: Norm) -> None:
        super().__init__()
        self.cell_list = nn.ModuleList([ConvGRUCell(inp, hidden, cfg, norm)])

    def forward(
        self, x: Tensor, states: list[Tensor | None], context: Context
    ) -> tuple[Tensor, list[Tensor]]:
        last: list[Tensor] = []
        for cell, state in zip(self.cell_list, states, strict=True):
            x, h = cell(x, state, context)
            last.append(h)
        return x, last
