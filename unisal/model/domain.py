"""Domain-specific BatchNorm (paper, section 3.1), and the names of domain-specific modules."""

from __future__ import annotations

from torch import Tensor

from unisal.model.layers import Context, Norm, NormLayer, StepBatchNorm2d

STATIC_DOMAIN = "SALICON"
"""The image domain of the published network."""


class DomainBatchNorm2d(NormLayer):
    """One BatchNorm2d per domain, named `bn_<domain>`; the context selects the one to use.

    Args:
        channels: number of channels of the input.
        momenta: the momentum of each domain.
    """

    def __init__(self, channels: int, momenta: dict[str, float]) -> None:
        super().__init__()
        for domain, momentum in momenta.items():
            self.add_module(f"bn_{domain}", StepBatchNorm2d(channels, momentum=momentum))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.selected(context)(x, context)

    def selected(self, context: Context) -> StepBatchNorm2d:
        layer = self.get_submodule(f"bn_{context.domain}")
        assert isinstance(layer, StepBatchNorm2d)
        return layer


def norm_maker(momenta: dict[str, float], domain_specific: bool, shared_momentum: float) -> Norm:
    """Return the function that makes the decoder's and the GRU's normalisation layers.

    Args:
        momenta: the momentum of each domain's BatchNorms.
        domain_specific: whether each domain has a BatchNorm of its own.
        shared_momentum: that of the BatchNorms if the domains share them.
    """
    if not domain_specific:
        return lambda channels: StepBatchNorm2d(channels, momentum=shared_momentum)
    return lambda channels: DomainBatchNorm2d(channels, momenta)


def domain_suffix(domain: str, domain_specific: bool) -> str:
    """Return the end of a module's name: `_<domain>` in lower case, or nothing if it is shared."""
    return f"_{domain.lower()}" if domain_specific else ""
