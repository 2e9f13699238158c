"""What exists once per source: the domain-specific BatchNorm (paper section 3.1)."""

from __future__ import annotations

from torch import Tensor

from unisal.model.layers import Context, Norm, NormLayer, StepBatchNorm2d

STATIC_SOURCE = "SALICON"
"""The image domain: its BatchNorms have a momentum of their own."""


class DomainBatchNorm2d(NormLayer):
    """One BatchNorm2d per source, named `bn_<SOURCE>`; the context picks the one to use."""

    def __init__(self, channels: int, momenta: dict[str, float]) -> None:
        super().__init__()
        for source, momentum in momenta.items():
            self.add_module(f"bn_{source}", StepBatchNorm2d(channels, momentum=momentum))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.selected(context)(x, context)

    def selected(self, context: Context) -> StepBatchNorm2d:
        layer = self.get_submodule(f"bn_{context.source}")
        assert isinstance(layer, StepBatchNorm2d)
        return layer


def norm_maker(
    sources: tuple[str, ...], domain_specific: bool, momentum: float, static_momentum: float
) -> Norm:
    """-> the function that makes the decoder's and the GRU's normalisation layers."""
    if not domain_specific:
        return lambda channels: StepBatchNorm2d(channels, momentum=momentum)
    momenta = {s: static_momentum if s == STATIC_SOURCE else momentum for s in sources}
    return lambda channels: DomainBatchNorm2d(channels, momenta)


def domain_suffix(source: str, domain_specific: bool) -> str:
    """The end of a per-source module's name: `_<source>` in lower case, or nothing when shared."""
    return f"_{source.lower()}" if domain_specific else ""
