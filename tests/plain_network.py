"""The network's computation in its plainest form, written from the published behaviour.

One frame after the other, every module called once per frame, blocks at stride 1 that are
sub-sampled afterwards, the map enlarged eight times and convolved with the 41x41 kernel. Works on a
state dict alone; shares no code with the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCKS = [  # expansion, channels, stride of each of the 17 blocks
    (t, c, s if i == 0 else 1)
    for t, c, n, s in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for i in range(n)
]


class PlainNetwork:
    """`state` holds the weights and, in training, receives the new running estimates.

    Args:
        state: the network's state dict; tensors that require a gradient get one.
        config: the network's keyword arguments.
        training: all but the encoder in training mode (dropout left out).
        cnn_training: the encoder's BatchNorms in training mode.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        config: Mapping[str, Any],
        training: bool = False,
        cnn_training: bool = False,
    ) -> None:
        self.state = dict(state)
        self.config = dict(config)
        self.training = training
        self.cnn_training = cnn_training

    # ---- layers ---------------------------------------------------------------------
    def conv(self, key: str, x: Tensor, **options: Any) -> Tensor:
        return F.conv2d(x, self.state[f"{key}.weight"], self.state.get(f"{key}.bias"), **options)

    def depthwise(self, key: str, x: Tensor) -> Tensor:
        return self.conv(key, x, padding=1, groups=x.shape[1])

    def norm(self, key: str, x: Tensor, momentum: float, training: bool) -> Tensor:
        """BatchNorm written out; in training it updates the running estimates."""
        mean, var = self.state[f"{key}.running_mean"], self.state[f"{key}.running_var"]
        if training:
            n = x.numel() / x.shape[1]
            batch_mean = x.mean((0, 2, 3))
            batch_var = x.var((0, 2, 3), unbiased=False)
            with torch.no_grad():
                new_var = batch_var * n / (n - 1)
                self.state[f"{key}.running_mean"] = (1 - momentum) * mean + momentum * batch_mean
                self.state[f"{key}.running_var"] = (1 - momentum) * var + momentum * new_var
                self.state[f"{key}.num_batches_tracked"] = (
                    self.state[f"{key}.num_batches_tracked"] + 1
                )
            mean, var = batch_mean, batch_var
        mean, var = mean[:, None, None], var[:, None, None]
        weight = self.state[f"{key}.weight"][:, None, None]
        bias = self.state[f"{key}.bias"][:, None, None]
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def encoder_norm(self, key: str, x: Tensor) -> Tensor:
        return self.norm(key, x, 0.1, self.cnn_training)

    def domain_norm(self, key: str, x: Tensor, source: str) -> Tensor:
        momentum = self.config["bn_momentum"]
        if self.config["ds_bn"]:
            key = f"{key}.bn_{source}"
            if source == "SALICON":
                momentum = self.config["static_bn_momentum"]
        return self.norm(key, x, momentum, self.training)

    def per_domain(self, part: str, source: str) -> str:
        switch = {"coarse_gaussians": "ds_gaussians"}.get(part, f"ds_{part}")
        return f"{part}_{source.lower()}" if self.config[switch] else part

    # ---- encoder --------------------------------------------------------------------
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One frame's batch `[B, 3, H, W]` -> features at 1/32, tap at 1/16, tap at 1/8."""
        x = self.conv("cnn.features.0.0", x, stride=2, padding=1)
        x = self.encoder_norm("cnn.features.0.1", x).clamp(0, 6)
        taps = {}
        for i, (expansion, _, stride) in enumerate(BLOCKS, 1):
            before, key, layer = x, f"cnn.features.{i}.conv", 0
            if expansion != 1:
                x = self.conv(f"{key}.0", x)
                x = self.encoder_norm(f"{key}.1", x).clamp(0, 6)
                layer = 3
            x = self.depthwise(f"{key}.{layer}", x)
            x = self.encoder_norm(f"{key}.{layer + 1}", x).clamp(0, 6)
            x = self.conv(f"{key}.{layer + 3}", x)
            x = self.encoder_norm(f"{key}.{layer + 4}", x)
            if stride == 1 and before.shape == x.shape:
                x = x + before
            taps[i] = x
            x = x[:, :, ::stride, ::stride]
        x = self.conv("cnn.features.18.0", x)
        x = self.encoder_norm("cnn.features.18.1", x).clamp(0, 6)
        return x, taps[14], taps[7]

    def priors(self, height: int, width: int, source: str) -> Tensor:
        parameters = self.state[self.per_domain("coarse_gaussians", source)]
        maps = []
        for (mu_y, std_y), (mu_x, std_x) in parameters:
            y = torch.linspace(0, 1, height, dtype=parameters.dtype)
            x = torch.linspace(0, 1, width, dtype=parameters.dtype)
            gauss_y = torch.exp(-(((y - mu_y) / std_y.exp()) ** 2) / 2)
            gauss_x = torch.exp(-(((x - mu_x) / std_x.exp()) ** 2) / 2)
            maps.append(6 * gauss_y[:, None] * gauss_x[None, :])
        return torch.stack(maps)

    def post_cnn(self, x: Tensor, source: str) -> Tensor:
        if any(key.startswith("coarse_gaussians") for key in self.state):
            maps = self.priors(x.shape[2], x.shape[3], source)
            x = torch.cat([x, maps.repeat(x.shape[0], 1, 1, 1)], 1)
        key, momentum = "post_cnn.inv_res.conv", self.config["bn_momentum"]
        x = self.depthwise(f"{key}.0", x)
        x = self.norm(f"{key}.1", x, momentum, self.training).clamp(0, 6)
        x = self.conv(f"{key}.3", x)
        return self.norm(f"{key}.4", x, momentum, self.training)

    # ---- recurrent unit -------------------------------------------------------------
    def gate_conv(self, name: str, x: Tensor, source: str) -> Tensor:
        key = f"rnn.cell_list.0.{name}"
        if f"{key}.conv_dw.weight" not in self.state:  # mobile=False
            height, width = self.state[f"{key}.weight"].shape[2:]
            return self.conv(key, x, padding=(height // 2, width // 2))
        x = self.depthwise(f"{key}.conv_dw", x)
        x = self.domain_norm(f"{key}.sep_bn", x, source).clamp(0, 6)
        return self.conv(f"{key}.conv_sep", x)

    def gru(self, x: Tensor, h: Tensor, source: str) -> Tensor:
        key = "rnn.cell_list.0"

        def masked(value: Tensor, place: int, gate: int) -> Tensor:
            mask = self.state.get(f"{key}.drop_mask_{place}")
            if not self.training or mask is None:
                return value
            return value * mask[gate].view(1, -1, 1, 1)

        def normed(gate: str, side: str, value: Tensor) -> Tensor:
            return self.domain_norm(f"{key}.norm_{gate}_{side}", value, source)

        def learned(name: str) -> Tensor:
            return self.state[f"{key}.{name}"]

        wx_r = normed("r", "x", self.gate_conv("w_r", masked(x, 0, 0), source))
        uh_r = normed("r", "h", self.gate_conv("u_r", masked(h, 1, 0), source))
        wx_z = normed("z", "x", self.gate_conv("w_z", masked(x, 0, 1), source))
        uh_z = normed("z", "h", self.gate_conv("u_z", masked(h, 1, 1), source))
        wx_h = normed("out", "x", self.gate_conv("w", masked(x, 0, 2), source))
        uh_h = normed("out", "h", self.gate_conv("u", masked(h, 1, 2), source))
        r = 1 / (
            1 + torch.exp(-(learned("a_r_x") * wx_r + learned("a_r_h") * uh_r + learned("b_r")))
        )
        z = 1 / (
            1 + torch.exp(-(learned("a_z_x") * wx_z + learned("a_z_h") * uh_z + learned("b_z")))
        )
        new = torch.tanh(learned("a_h_x") * wx_h + r * (learned("a_h_h") * uh_h) + learned("b_h"))
        return (1 - z) * h + z * new

    # ---- decoder --------------------------------------------------------------------
    def skip(self, key: str, x: Tensor, source: str) -> Tensor:
        x = self.conv(f"{key}.expansion.0", x)
        x = self.domain_norm(f"{key}.expansion.1", x, source).clamp(0, 6)
        x = self.conv(f"{key}.reduction.0", x)
        return self.domain_norm(f"{key}.reduction.1", x, source)

    def decoder_block(self, key: str, x: Tensor, source: str) -> Tensor:
        x = self.conv(f"{key}.0", x)
        x = self.domain_norm(f"{key}.1", x, source).clamp(0, 6)
        x = self.depthwise(f"{key}.3", x)
        x = self.domain_norm(f"{key}.4", x, source).clamp(0, 6)
        x = self.conv(f"{key}.6", x)
        return self.domain_norm(f"{key}.7", x, source)

    def decode(
        self, x: Tensor, tap_2x: Tensor, tap_4x: Tensor, size: tuple[int, int], source: str
    ) -> Tensor:
        x = twice(x)
        x = torch.cat([x, self.skip("skip_2x", tap_2x, source)], 1)
        x = twice(self.decoder_block("upsampling_2.inv_res.conv", x, source))
        x = torch.cat([x, self.skip("skip_4x", tap_4x, source)], 1)
        x = self.decoder_block("post_upsampling_2.inv_res.conv", x, source)
        x = self.conv(f"{self.per_domain('adaptation', source)}.0", x)
        x = F.interpolate(x, scale_factor=8, mode="nearest")
        smoothing = self.per_domain("smoothing", source)
        pad = self.state[f"{smoothing}.weight"].shape[-1] // 2
        x = self.conv(smoothing, F.pad(x, (pad,) * 4, mode="replicate"))
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return x - torch.logsumexp(x, (1, 2, 3), keepdim=True)

    # ---- a clip ---------------------------------------------------------------------
    def __call__(
        self,
        x: Tensor,
        target_size: tuple[int, int] | None = None,
        h0: list[Tensor | None] | None = None,
        source: str = "DHF1K",
        static: bool | None = None,
    ) -> tuple[Tensor, list[Tensor] | None]:
        if static is None:
            static = x.shape[1] == 1 or tuple(self.config["sources"]) == ("SALICON",)
        h = None if h0 is None else h0[0]
        outputs = []
        for frame in x.unbind(1):
            features, tap_2x, tap_4x = self.encode(frame)
            features = self.post_cnn(features, source)
            if not (static and self.config["bypass_rnn"]):
                if h is None:
                    width = self.state["rnn.cell_list.0.b_r"].shape[0]
                    h = x.new_zeros(x.shape[0], width, *features.shape[2:])
                h = self.gru(features, h, source)
                after = self.conv("post_rnn.0", h)
                after = self.domain_norm("post_rnn.1", after, source).clamp(0, 6)
                features = features + after if self.config["res_rnn"] else after
            size = target_size or (x.shape[3], x.shape[4])
            outputs.append(self.decode(features, tap_2x, tap_4x, size, source))
        return torch.stack(outputs, 1), None if h is None else [h]


def twice(x: Tensor) -> Tensor:
    """Bilinear enlargement by two."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
