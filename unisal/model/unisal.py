"""The network UNISAL (Droste, Jiao, Noble, ECCV 2020, figure 2): wiring and forward pass.

A *domain* is one of the sets of modules that exist once per kind of data that the network was
trained on. The argument that selects one is published as `source`, which `UNISAL.forward` keeps,
and the option that lists them as `sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unisal.config import accept, keeps_arguments
from unisal.model.checks import (
    check_domain,
    check_domains,
    check_input,
    check_state,
    check_target_size,
    check_temperatures,
)
from unisal.model.conv_gru import ConvGRU, RNNConfig
from unisal.model.decoder import DecoderBlock, PostCNN, PostRNN, Skip
from unisal.model.domain import STATIC_DOMAIN, domain_suffix, norm_maker
from unisal.model.layers import Context, fold, spatial_log_softmax, unfold, upsample_bilinear
from unisal.model.mobilenet_v2 import MobileNetV2
from unisal.model.priors import PRIOR_SCALE, gaussian_maps, initial_gaussians
from unisal.model.smoothing import PhaseSmoothing
from unisal.model.weights import load_encoder
from unisal.types import Features

SOURCES = ("DHF1K", "Hollywood", "UCFSports", "SALICON")
"""The domains of the published network."""
CNN_DEFAULTS: dict[str, Any] = {
    "widen_factor": 1.0,
    "pretrained": True,
    "input_channel": 32,
    "last_channel": 1280,
}
RNN_IGNORED = ("input_size", "norm", "bn_momentum")
"""Keys of the official `rnn_cfg` that have no effect."""
SKIP_2X_CHANNELS, SKIP_4X_CHANNELS = 128, 64
UPSAMPLING_2_CHANNELS, MAP_FEATURES = 128, 64


RECURRENT = ("rnn.", "post_rnn.")
"""What the keys of the recurrent part begin with."""


class UNISAL(nn.Module):
    """Predicts the saliency of images and videos with one network.

    See the paper, section 3, and docs/behaviour.md, "Network".

    Args:
        rnn_input_channels: width between encoder and decoder.
        rnn_hidden_channels: width of the GRU's state.
        cnn_cfg: `widen_factor, pretrained, input_channel, last_channel` of the encoder.
            `pretrained` (default True) starts it from ImageNet weights, see
            `unisal.model.weights.load_encoder`.
        rnn_cfg: see `unisal.model.conv_gru.RNNConfig`.
        res_rnn: whether to add the GRU's output to its input instead of replacing it.
        bypass_rnn: whether to bypass the GRU for static input.
        drop_probs: probabilities of Dropout2d in `post_cnn`, `skip_2x`, `skip_4x`.
        gaussian_init: how the priors are initialised, "manual" or "random".
        n_gaussians: number of prior maps; 0 turns them off, "manual" always makes 16.
        smoothing_ksize: side of the smoothing kernel in input pixels, odd.
        bn_momentum: BatchNorm momentum of everything after the encoder.
        static_bn_momentum: the same of the `image_domains`.
        sources: the domains, each with modules of its own.
        image_domains: those of them that were trained on images only. Their BatchNorms have the
            `static_bn_momentum`, and the frames of a video are predicted one by one with them.
        ds_bn: whether the decoder's and the GRU's BatchNorms are domain-specific.
        ds_adaptation: whether the adaptation is.
        ds_smoothing: whether the smoothing is.
        ds_gaussians: whether the Gaussian priors are.
        verbose: accepted for old configurations; has no effect.
        temperatures: for domains, what `unisal.inference.engine.Engine` divides the logits by, so
            that a density becomes its power 1 / temperature; 1 for those not named. `forward` and
            training leave them out.

    Raises:
        ValueError: a value or a key is not allowed; names it.
    """

    config: dict[str, Any]
    """What the network was built with, as `UNISAL.json` holds it."""

    @keeps_arguments
    def __init__(
        self,
        rnn_input_channels: int = 256,
        rnn_hidden_channels: int = 256,
        cnn_cfg: Mapping[str, Any] | None = None,
        rnn_cfg: Mapping[str, Any] | None = None,
        res_rnn: bool = True,
        bypass_rnn: bool = True,
        drop_probs: Sequence[float] = (0.0, 0.6, 0.6),
        gaussian_init: str = "manual",
        n_gaussians: int = 16,
        smoothing_ksize: int = 41,
        bn_momentum: float = 0.01,
        static_bn_momentum: float = 0.1,
        sources: Sequence[str] = SOURCES,
        ds_bn: bool = True,
        ds_adaptation: bool = True,
        ds_smoothing: bool = True,
        ds_gaussians: bool = True,
        verbose: int = 1,
        image_domains: Sequence[str] = (STATIC_DOMAIN,),
        temperatures: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.sources = check_domains(sources)
        self.image_domains = tuple(image_domains)
        self.temperatures = check_temperatures(temperatures, self.sources)
        self.res_rnn, self.bypass_rnn = res_rnn, bypass_rnn
        self.has_rnn = not (bypass_rnn and self.sources == (STATIC_DOMAIN,))
        self._specific = {
            "coarse_gaussians": ds_gaussians,
            "adaptation": ds_adaptation,
            "smoothing": ds_smoothing,
        }
        encoder_cfg = CNN_DEFAULTS | accept(cnn_cfg, CNN_DEFAULTS, "cnn_cfg")
        pretrained = encoder_cfg.pop("pretrained")
        gru_cfg = RNNConfig(**accept(rnn_cfg, RNNConfig._fields, "rnn_cfg", RNN_IGNORED))
        momenta = {
            domain: static_bn_momentum if domain in self.image_domains else bn_momentum
            for domain in self.sources
        }
        norm = norm_maker(momenta, ds_bn, bn_momentum)
        width = rnn_input_channels

        self.n_gaussians = 0
        if n_gaussians > 0:
            for domain in self.sources:
                gaussians = initial_gaussians(gaussian_init, n_gaussians)
                name = self._domain_name("coarse_gaussians", domain)
                self.register_parameter(name, nn.Parameter(gaussians))
                self.n_gaussians = len(gaussians)
        self.cnn = MobileNetV2(**encoder_cfg)
        if pretrained:
            load_encoder(self.cnn)
        self.post_cnn = PostCNN(
            self.cnn.out_channels + self.n_gaussians, width, drop_probs[0], bn_momentum
        )
        if self.has_rnn:
            self.rnn = ConvGRU(width, rnn_hidden_channels, gru_cfg, norm)
            self.post_rnn = PostRNN(rnn_hidden_channels, width, norm)
        self.skip_2x = Skip(self.cnn.tap_2x_channels, SKIP_2X_CHANNELS, drop_probs[1], norm)
        self.upsampling_2 = DecoderBlock(width, SKIP_2X_CHANNELS, UPSAMPLING_2_CHANNELS, norm)
        self.skip_4x = Skip(self.cnn.tap_4x_channels, SKIP_4X_CHANNELS, drop_probs[2], norm)
        self.post_upsampling_2 = DecoderBlock(
            UPSAMPLING_2_CHANNELS, SKIP_4X_CHANNELS, MAP_FEATURES, norm
        )
        for domain in self.sources:
            if not hasattr(self, name := self._domain_name("adaptation", domain)):
                self.add_module(name, nn.Sequential(nn.Conv2d(MAP_FEATURES, 1, 1)))
            if not hasattr(self, name := self._domain_name("smoothing", domain)):
                self.add_module(name, PhaseSmoothing(smoothing_ksize))

    def forward(
        self,
        x: Tensor,
        target_size: tuple[int, int] | None = None,
        h0: Sequence[Tensor | None] | None = None,
        return_hidden: bool = False,
        source: str = "DHF1K",
        static: bool | None = None,
    ) -> Tensor | list[Any]:
        """Predict a clip.

        Args:
            x: `[batch, time, 3, H, W]` RGB, ImageNet-normalised, of the parameters' dtype;
                H and W multiples of 32.
            target_size: (h, w) of the output; by default (H, W).
            h0: the hidden state that an earlier call returned, to continue its sequence.
            return_hidden: whether to return the state after the last step too.
            source: the domain to use, one of `self.sources`.
            static: whether to treat the frames as unrelated images, so that `bypass_rnn` bypasses
                the GRU. None: if there is only one time step, or SALICON is the only domain.

        Returns:
            Log-densities `[batch, time, 1, h, w]`: the exp of each frame sums to 1. With
            `return_hidden` a list of them and the state: a list of one `[batch, C, H/32, W/32]`
            tensor, or None if the GRU was bypassed.

        Raises:
            ValueError, TypeError: the network cannot take an argument; the message says which one,
                and what is accepted.
        """
        if target_size is not None:  # so that a mistake is found before the work
            target_size = check_target_size(target_size, x)
        logits, hidden = self.logits(x, h0, domain=source, static=static)
        log_density = self.log_density(logits, target_size)
        return [log_density, hidden] if return_hidden else log_density

    def logits(
        self,
        x: Tensor,
        h0: Sequence[Tensor | None] | None = None,
        domain: str = "DHF1K",
        static: bool | None = None,
        priors: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Compute the first part of `forward`: everything but the final resize and the softmax.

        Args:
            x: the frames `[batch, time, 3, H, W]`, see `forward`.
            h0: see `forward`.
            domain: what `forward` calls `source`.
            static: see `forward`.
            priors: what `prior_maps` returns for the size of the encoder's output, if it is known.

        Returns:
            The smoothed maps `[batch, time, 1, H, W]`, and the state as `forward` returns it.

        Raises:
            ValueError, TypeError: see `forward`.
        """
        features, hidden = self.features(x, h0, domain, static, priors)
        return self.logits_from(features.before_upsampling, domain), hidden

    def features(
        self,
        x: Tensor,
        h0: Sequence[Tensor | None] | None = None,
        domain: str = "DHF1K",
        static: bool | None = None,
        priors: Tensor | None = None,
    ) -> tuple[Features, list[Tensor] | None]:
        """Compute the features that `logits` are made from.

        Args:
            x: the frames `[batch, time, 3, H, W]`, see `forward`.
            h0: see `forward`.
            domain: see `logits`.
            static: see `forward`.
            priors: see `logits`.

        Returns:
            The features by name, and the state as `forward` returns it.

        Raises:
            ValueError, TypeError: see `forward`.
        """
        reference = self.post_cnn.inv_res.conv.get_parameter("0.weight")
        check_input(x, reference)
        check_domain(domain, self.sources)
        batch, steps = x.shape[:2]
        if static is None:
            static = steps == 1 or self.sources == (STATIC_DOMAIN,)
        use_rnn = not (static and self.bypass_rnn)
        if use_rnn and not self.has_rnn:
            raise ValueError("static=False needs the GRU, which a network for SALICON alone lacks")
        context = Context(domain, steps)

        encoded = self.cnn(fold(x), context)  # [B*T, 1280, H/32, W/32] and two taps
        if priors is None:
            priors = self.prior_maps((encoded.out.shape[2], encoded.out.shape[3]), domain)
        entering = self.post_cnn(_with_priors(encoded.out, priors), context)
        leaving = entering
        hidden: list[Tensor] | None = None
        if use_rnn:
            states = check_state(h0, self._state_shape(batch, entering), reference)
            remembered, hidden = self.rnn(entering, states, context)
            remembered = self.post_rnn(remembered, context)
            leaving = entering + remembered if self.res_rnn else remembered
        decoded = self._decode(leaving, encoded.tap_2x, encoded.tap_4x, context)
        found = encoded.tap_4x, encoded.tap_2x, encoded.out, entering, leaving, decoded
        return Features(*(unfold(y, steps) for y in found)), hidden

    def logits_from(self, decoded: Tensor, domain: str) -> Tensor:
        """Compute the smoothed maps from the decoder's output.

        Args:
            decoded: the features `before_upsampling`, `[batch, time, C, H/8, W/8]`.
            domain: one of the network's domains.

        Returns:
            `[batch, time, 1, H, W]`.
        """
        x = self._domain_member("adaptation", domain)(fold(decoded))  # [B*T, 1, H/8, W/8]
        return unfold(self._domain_member("smoothing", domain)(x), decoded.shape[1])

    @staticmethod
    def log_density(logits: Tensor, target_size: tuple[int, int] | None = None) -> Tensor:
        """Compute the last part of `forward`, which needs little memory frame by frame.

        Args:
            logits: `[batch, time, 1, H, W]`.
            target_size: (h, w) of the output; by default (H, W).

        Returns:
            Log-densities `[batch, time, 1, h, w]`.
        """
        size = target_size or (logits.shape[-2], logits.shape[-1])
        log_density = spatial_log_softmax(upsample_bilinear(fold(_at_least_float32(logits)), size))
        return unfold(log_density, logits.shape[1])  # [B, T, 1, h, w]

    @torch.no_grad()
    def copy_domain(self, source: str, target: str) -> None:
        """Overwrite the modules of the domain `target` with those of the domain `source`.

        A domain for videos keeps what it has in the recurrent part if `source` is one for images,
        which never uses that part.

        Raises:
            ValueError: one of them is not a domain of the network.
        """
        check_domain(source, self.sources)
        check_domain(target, self.sources)
        state = self.state_dict()
        names = dict(zip(self._own_names(source), self._own_names(target), strict=True))
        of_images = source in self.image_domains and target not in self.image_domains
        kept = self.recurrent_keys() if of_images else set()
        for key, value in state.items():
            parts = [names.get(part, part) for part in key.split(".")]
            if key not in kept:
                state[".".join(parts)].copy_(value)

    def domain_keys(self, domain: str) -> set[str]:
        """Return the keys of the state dict that belong to a domain's own modules.

        Raises:
            ValueError: it is not a domain of the network.
        """
        check_domain(domain, self.sources)
        names = set(self._own_names(domain))
        return {key for key in self.state_dict() if names.intersection(key.split("."))}

    def recurrent_keys(self) -> set[str]:
        """Return the keys of the state dict that belong to the recurrent part, of all domains."""
        return {key for key in self.state_dict() if key.startswith(RECURRENT)}

    def used_keys(self, domain: str, static: bool) -> set[str]:
        """Return the keys of the state dict that a call of `forward` uses.

        Args:
            domain: the domain of the call.
            static: whether it treats frames as unrelated images.

        Raises:
            ValueError: it is not a domain of the network.
        """
        own = self.domain_keys(domain)
        unused = set().union(*(self.domain_keys(other) for other in self.sources)) - own
        if static and self.bypass_rnn:
            unused |= self.recurrent_keys()
        return set(self.state_dict()) - unused

    def prior_maps(self, size: tuple[int, int], domain: str) -> Tensor | None:
        """Compute the Gaussian priors that the encoder's output is joined with.

        Args:
            size: (h, w) of the encoder's output.
            domain: the domain whose priors to use.

        Returns:
            `[n, h, w]`, or None for a network without priors.
        """
        parameters = self.prior_parameters(domain)
        return None if parameters is None else PRIOR_SCALE * gaussian_maps(parameters, size)

    def prior_parameters(self, domain: str) -> Tensor | None:
        """Return the Gaussian priors of a domain.

        Returns:
            `[n, 2, 2]`, see `unisal.model.priors.gaussian_maps`; None for a network without priors.
        """
        return self._domain_member("coarse_gaussians", domain) if self.n_gaussians else None

    def _decode(self, x: Tensor, tap_2x: Tensor, tap_4x: Tensor, context: Context) -> Tensor:
        """Compute what the map is made from, `[B*T, 64, H/8, W/8]`, from features `x` at 1/32."""
        x = self.upsampling_2(x, self.skip_2x(tap_2x, context), context)  # 1/16
        return self.post_upsampling_2(x, self.skip_4x(tap_4x, context), context)  # 1/8

    def _domain_name(self, part: str, domain: str) -> str:
        """Return the name of the attribute that holds `part` for a domain."""
        return part + domain_suffix(domain, self._specific[part])

    def _own_names(self, domain: str) -> list[str]:
        """Return the names of the modules and parameters that only this domain uses."""
        parts = [part for part, specific in self._specific.items() if specific]
        return [f"bn_{domain}", *(self._domain_name(part, domain) for part in parts)]

    def _domain_member(self, part: str, domain: str) -> Any:
        """Return the module or parameter that `part` is for a domain."""
        return getattr(self, self._domain_name(part, domain))

    def _state_shape(self, batch: int, features: Tensor) -> tuple[int, ...]:
        """Return the shape of the GRU's state for features `[..., C, H, W]`."""
        return (batch, self.rnn.cell_list[0].hidden_channels, *features.shape[2:])


def _with_priors(x: Tensor, maps: Tensor | None) -> Tensor:
    """Join features with prior maps along the channels."""
    return x if maps is None else torch.cat([x, maps.expand(x.shape[0], -1, -1, -1)], dim=1)


def _at_least_float32(logits: Tensor) -> Tensor:
    """Return logits that autocast has left in 16 bits as float32, others as they are."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
