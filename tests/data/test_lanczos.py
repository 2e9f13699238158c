"""Pillow's Lanczos filter, computed by products of matrices."""

import numpy as np
import pytest
from PIL import Image

from unisal.data.lanczos import equals_pillow, resize_by_lanczos
from unisal.data.transforms import resize_rgb


def by_pillow(rgb, size):
    image = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(image.resize(size[::-1], Image.Resampling.LANCZOS))


def noise(rng, size):
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def black_and_white(rng, size):
    """Edges of full contrast, beyond which the filter leaves the range of 8 bits."""
    return (rng.random((*size, 3)) > 0.5).astype(np.uint8) * 255


def smooth(rng, size):
    return by_pillow(noise(rng, [max(1, side // 9) for side in size]), size)


PICTURES = (noise, black_and_white, smooth)


@pytest.mark.parametrize("picture", PICTURES)
def test_every_pixel_is_pillows(picture):
    rng, n_compared = np.random.default_rng(0), 0
    while n_compared < 40:
        size = tuple(int(side) for side in np.exp(rng.uniform(0, 6.5, 2)))
        new_size = tuple(int(side) for side in 32 * rng.integers(1, 14, 2))
        if not equals_pillow(size, new_size):
            continue
        rgb = picture(rng, size)
        wanted = by_pillow(rgb, new_size)
        for given in (rgb, Image.fromarray(rgb)):
            np.testing.assert_array_equal(resize_by_lanczos(given, new_size), wanted)
        n_compared += 1


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (1280, 720), (480, 640), (600, 450)])
def test_usual_sizes_are_resized_here(size):
    # The larger a picture, the more strips of rows it is cut into.
    rgb, new_size = black_and_white(np.random.default_rng(1), size), (288, 384)
    np.testing.assert_array_equal(resize_rgb(rgb, new_size), by_pillow(rgb, new_size))


def test_whatever_the_size_a_resized_picture_is_pillows():
    rng = np.random.default_rng(2)
    sizes = [tuple(int(side) for side in rng.integers(1, 500, 4)) for _ in range(40)]
    sizes += [tuple(int(side) for side in np.exp(rng.uniform(0, 3, 4))) for _ in range(60)]
    in_order = [equals_pillow(size[:2], size[2:]) for size in sizes]
    assert 10 < sum(in_order) < 90
    for size in sizes:
        rgb = noise(rng, size[:2])
        for given in (rgb, Image.fromarray(rgb)):
            np.testing.assert_array_equal(resize_rgb(given, size[2:]), by_pillow(rgb, size[2:]))


def test_views_of_arrays_are_resized_too():
    rgb = noise(np.random.default_rng(3), (90, 130))
    rgb.setflags(write=False)
    grey = np.broadcast_to(rgb[..., :1], rgb.shape)
    views = (rgb[::-1], rgb[:, ::-2], rgb[..., ::-1], rgb[10:80, 20:], rgb.transpose(1, 0, 2), grey)
    for view in views:
        assert equals_pillow(view.shape[:2], (64, 32))
        np.testing.assert_array_equal(resize_rgb(view, (64, 32)), by_pillow(view, (64, 32)))


def test_a_picture_that_gets_much_lower_is_left_to_pillow():
    # Pillow 13 resizes its columns first, older versions its rows.
    assert not equals_pillow((600, 100), (64, 64)) and not equals_pillow((65, 64), (64, 64))
    assert equals_pillow((600, 332), (64, 64)) and equals_pillow((64, 64), (600, 32))
