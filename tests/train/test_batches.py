"""What becomes of a training batch: blends, sizes, and nothing at all by default."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import TINY, write_salicon

from unisal.data import Batch
from unisal.errors import UserError
from unisal.train import Trainer
from unisal.train import epoch as passes
from unisal.train.batches import changed_batches, mixed, rescaled
from unisal.train.config import TrainerConfig


def batch_of(n=4, steps=1, size=(96, 128), seed=0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(n, steps, 1, 40, 56, generator=generator)
    return Batch(
        source="SALICON",
        domain="SALICON",
        is_video=steps > 1,
        names=[str(i) for i in range(n)],
        frames=torch.randn(n, steps, 3, *size, generator=generator),
        maps=maps / maps.sum((-2, -1), keepdim=True),
        fixations=maps > 0.99,
    )


def changed(batches, epoch=0, start=0, **options) -> list[Batch]:
    cfg = TrainerConfig.from_dict({"data_sources": ("SALICON",), **options})
    order = ["SALICON"] * (start + len(batches))
    return list(changed_batches(batches, cfg, order, epoch, start))


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("frames", "maps", "fixations")
    )


def test_by_default_a_batch_stays_as_it_is():
    batch = batch_of()
    (found,) = changed([batch])
    assert found == batch  # the very same tensors


# ---- blends -------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "steps"), [(2, 1), (5, 1), (3, 2)])
def test_every_example_is_blended_with_another_one_in_one_proportion(n, steps):
    batch = batch_of(n, steps)
    for seed in range(5):
        found = mixed(batch, np.random.default_rng(seed))
        shares, partners = set(), set()
        for i in range(n):
            fits = {}
            for j in set(range(n)) - {i}:
                own, other = batch.frames[i].double(), batch.frames[j].double()
                share = ((found.frames[i] - other) * (own - other)).sum() / (own - other).pow(
                    2
                ).sum()
                blend = share * own + (1 - share) * other
                fits[j] = (blend - found.frames[i]).abs().max().item(), share.item()
            j = min(fits, key=fits.get)
            error, share = fits[j]
            assert error < 1e-5 and 0 <= share <= 1
            expected = share * batch.maps[i] + (1 - share) * batch.maps[j]
            torch.testing.assert_close(found.maps[i], expected, rtol=1e-4, atol=1e-8)
            assert torch.equal(found.fixations[i], batch.fixations[i] | batch.fixations[j])
            shares.add(round(share, 5))
            partners.add(j)
        assert len(shares) == 1 and partners == set(range(n))
        torch.testing.assert_close(found.maps.sum((-3, -2, -1)), torch.ones(n, steps))


def test_one_example_alone_stays_as_it_is():
    batch = batch_of(1)
    assert mixed(batch, np.random.default_rng(0)) is batch


def test_blends_come_as_often_as_they_should_and_follow_from_seed_epoch_and_step():
    batches = [batch_of(2, size=(32, 32))] * 200
    found = changed(batches, mix=0.3)
    is_mixed = [not same(b, batches[0]) for b in found]
    assert np.mean(is_mixed) == pytest.approx(0.3, abs=0.1)
    later = changed(batches[:20], start=180, mix=0.3)
    assert all(same(a, b) for a, b in zip(found[180:], later, strict=True))
    other = changed(batches, epoch=1, mix=0.3), changed(batches, seed=1, mix=0.3)
    for different in other:
        assert [not same(b, batches[0]) for b in different] != is_mixed
    shares = {round(b.frames[0, 0, 0, 0, 0].item(), 5) for b in found}
    assert len(shares) == sum(is_mixed) + 1


# ---- sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "size"),
    [(0.75, (64, 96)), (1.25, (128, 160)), (0.1, (32, 32)), (2, (192, 256)), (1.1, (96, 128))],
)
def test_frames_are_resized_to_multiples_of_32_and_targets_stay(factor, size):
    batch = batch_of(2, 3)
    found = rescaled(batch, factor)
    assert found.frames.shape == (2, 3, 3, *size)
    assert found.maps is batch.maps and found.fixations is batch.fixations
    assert (found is batch) == (size == (96, 128))


def test_a_resize_keeps_what_is_where():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 128), indexing="ij")
    batch = batch_of(1, 2)
    batch.frames[:] = torch.stack([y, x, y * x])
    for factor in (0.75, 1.25):
        found = rescaled(batch, factor).frames
        height, width = found.shape[-2:]
        rows = (torch.arange(height) + 0.5) * 96 / height - 0.5
        expected = -1 + 2 * rows / 95
        inner = slice(2, -2)
        for frame in found.flatten(0, 1):
            middle = frame[0, inner, width // 2]
            torch.testing.assert_close(middle, expected[inner], atol=5e-3, rtol=0)


def test_each_step_has_one_of_the_sizes():
    batches = [batch_of(1)] * 60
    widths = [b.frames.shape[-1] for b in changed(batches, scales=(0.75, 1, 1.25))]
    assert set(widths) == {96, 128, 160}
    assert min(widths.count(width) for width in set(widths)) > 8
    again = changed(batches[:10], start=50, scales=(0.75, 1, 1.25))
    assert [b.frames.shape[-1] for b in again] == widths[50:]


# ---- runs ---------------------------------------------------------------------------------


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Return the options of a short run."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    for part in ("train", "val"):
        write_salicon(tmp_path / "SALICON", part)
    return {
        "data_sources": ("SALICON",),
        "batch_sizes": {"SALICON": 2},
        "dataset_options": {"SALICON": {"input_size": (64, 64)}},
        "model_cfg": TINY,
        "num_epochs": 2,
        "num_workers": 0,
        "device": "cpu",
        "tboard": False,
    }


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(options, monkeypatch):
    rich = {**options, "mix": 0.6, "scales": (0.5, 1, 1.5)}
    whole = Trainer(**rich, prefix="whole")
    step, seen = passes.train_step, []

    def stop(model, batch, *rest):
        seen.append(batch.frames.shape[-1])
        if len(seen) == 8:
            raise KeyboardInterrupt
        return step(model, batch, *rest)

    monkeypatch.setattr(passes, "train_step", stop)
    whole.fit()
    assert len(seen) == 4 and len(set(seen)) > 1
    part = Trainer(**rich, prefix="part")
    with pytest.raises(KeyboardInterrupt):
        part.fit()
    part = Trainer.resume("part_unisal")
    assert (part.epoch, part.step) == (1, 1)
    part.fit()
    assert seen[-1:] == seen[3:4]
    states = whole.model.state_dict(), part.model.state_dict()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert part.scalars.values == whole.scalars.values


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mix": 1.5}, r"mix is 1\.5"),
        ({"scales": (0.5, 0)}, "scales is 0; it has to be a number above 0"),
        ({"scales": "large"}, "scales is 'large'"),
        ({"scales": 5}, "scales is 5"),
    ],
    ids=str,
)
def test_mistakes_are_named(given, said):
    with pytest.raises(UserError, match=said):
        TrainerConfig.from_dict(given)
