"""High dynamic range pictures brought to the range, primaries and codes of ordinary ones.

The libraries that come with PyAV have no filter for this that every build holds, so the curve is
our own: the EETF of Report ITU-R BT.2390 from a display of 1000 cd/m² to one whose white is the
reference white of HDR, 203 cd/m² (Report ITU-R BT.2408), for each channel. It leaves all up to
90 cd/m² as it is and compresses what is brighter, so that highlights keep some drawing. Results are
coded as sRGB, as the pictures are from which the network learnt.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from unisal.types import RGB

Floats = NDArray[np.float64]
Table = NDArray[np.float32]

PQ, HLG = 16, 18
"""Numbers of the transfer functions SMPTE ST 2084 and ARIB STD-B67 in ITU-T H.273."""
WHITE, PEAK = 203.0, 1000.0
"""Brightness that becomes white, and the highest one that still differs from others, in cd/m²."""
N_CODES = 1 << 16
N_STEPS = 1 << 12
"""Entries of the tables over 16-bit codes, and over the square root of a brightness."""
BAND_ROWS = 32
"""Rows that are computed at a time, so that they stay in the processor's cache."""

BT709_PRIMARIES, BT2020_PRIMARIES = 1, 9
PRIMARIES = {
    BT709_PRIMARIES: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    BT2020_PRIMARIES: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
"""Chromaticities (x, y) of red, green and blue, by their numbers in ITU-T H.273."""
D65 = 0.3127, 0.3290


def tone_mapped(codes: NDArray[np.uint16], transfer: int, primaries: int) -> RGB:
    """Bring a picture to the range and the primaries of BT.709.

    Args:
        codes: `[H, W, 3] uint16`, R'G'B' in full range.
        transfer: `PQ` or `HLG`.
        primaries: number in ITU-T H.273; BT.2020 where it is none of `PRIMARIES`.

    Returns:
        `[H, W, 3] uint8`, coded as sRGB.
    """
    source = primaries if primaries in PRIMARIES else BT2020_PRIMARIES
    to_709 = _conversion(source).astype(np.float32)
    luminance = _to_xyz(source)[1].astype(np.float32)
    curve, coded = _curve(transfer), _srgb_codes()
    result = np.empty(codes.shape, np.uint8)
    for top in range(0, len(codes), BAND_ROWS):
        band = codes[top : top + BAND_ROWS]
        light = curve[band if transfer == PQ else _hlg_steps(band, luminance)]
        linear = light @ to_709.T
        np.sqrt(np.clip(linear, 0, 1, out=linear), out=linear)
        result[top : top + BAND_ROWS] = coded[(linear * (N_STEPS - 1) + 0.5).astype(np.uint16)]
    return result


def _hlg_steps(codes: NDArray[np.uint16], luminance: Table) -> NDArray[np.uint16]:
    """Return the square root of the display's brightness over `PEAK`, in steps of the table.

    A display with a peak of 1000 cd/m² shows luminances of the scene raised to 1.2 (BT.2100).
    """
    scene = _hlg_scene()[codes]
    scene *= np.maximum(scene @ luminance, 1e-9)[..., None] ** np.float32(0.2)
    steps: NDArray[np.uint16] = (np.sqrt(scene) * (N_STEPS - 1) + 0.5).astype(np.uint16)
    return steps


@cache
def _curve(transfer: int) -> Table:
    """Return the tone-mapped brightness over `WHITE`: of each code of PQ, or of HLG's steps."""
    if transfer == PQ:
        light = pq_to_light(np.arange(N_CODES) / (N_CODES - 1))
    else:
        light = PEAK * (np.arange(N_STEPS) / (N_STEPS - 1)) ** 2
    return (compress(light) / WHITE).astype(np.float32)


@cache
def _hlg_scene() -> Table:
    return hlg_to_scene(np.arange(N_CODES) / (N_CODES - 1)).astype(np.float32)


@cache
def _srgb_codes() -> NDArray[np.uint8]:
    light = (np.arange(N_STEPS) / (N_STEPS - 1)) ** 2
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * coded).astype(np.uint8)


def compress(light: Floats) -> Floats:
    """Apply the EETF of BT.2390: brightness from 0 to `PEAK` to 0 to `WHITE`, in cd/m²."""
    peak = light_to_pq(np.array(PEAK))
    relative = np.clip(light_to_pq(light) / peak, 0, 1)
    highest = light_to_pq(np.array(WHITE)) / peak
    knee = 1.5 * highest - 0.5
    t = np.clip((relative - knee) / (1 - knee), 0, 1)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * highest
    )
    return np.where(relative < knee, light, pq_to_light(spline * peak))


M1, M2 = 2610 / 16384, 2523 / 32
C1, C2, C3 = 3424 / 4096, 2413 / 128, 2392 / 128
"""The constants of SMPTE ST 2084."""
PQ_PEAK = 10_000.0
HLG_A, HLG_B, HLG_C = 0.17883277, 0.28466892, 0.55991073
"""The constants of ARIB STD-B67."""


def pq_to_light(codes: Floats) -> Floats:
    """Convert PQ from 0 to 1 to a brightness in cd/m²."""
    power = codes ** (1 / M2)
    light: Floats = PQ_PEAK * (np.maximum(power - C1, 0) / (C2 - C3 * power)) ** (1 / M1)
    return light


def light_to_pq(light: Floats) -> Floats:
    """Convert a brightness in cd/m² to PQ from 0 to 1."""
    power = (light / PQ_PEAK) ** M1
    codes: Floats = ((C1 + C2 * power) / (1 + C3 * power)) ** M2
    return codes


def hlg_to_scene(codes: Floats) -> Floats:
    """Convert HLG from 0 to 1 to the light of the scene from 0 to 1."""
    return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - HLG_C) / HLG_A) + HLG_B) / 12)


@cache
def _to_xyz(primaries: int) -> Floats:
    """Return the matrix from linear RGB with those primaries and white D65 to CIE XYZ."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (*PRIMARIES[primaries], D65)]).T
    scaled: Floats = columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])
    return scaled


@cache
def _conversion(primaries: int) -> Floats:
    """Return the matrix from linear RGB with those primaries to that of BT.709."""
    return np.asarray(np.linalg.solve(_to_xyz(BT709_PRIMARIES), _to_xyz(primaries)))
