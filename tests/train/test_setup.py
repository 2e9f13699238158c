"""Batches where the machine sets limits."""

from __future__ import annotations

import logging
import tempfile

import pytest
from support import TINY, write_salicon

from unisal.train import Trainer, setup


@pytest.mark.parametrize(("n", "is_long"), [(1, False), (100, True)])
def test_a_long_path_for_temporary_files_costs_the_workers_not_the_training(
    tmp_path, monkeypatch, caplog, n, is_long
):
    # Workers hand over tensors through sockets there, whose paths have at most 104 bytes.
    # Without this, training would wait for them for ever.
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(setup, "n_cores", lambda: 2)
    for part in ("train", "val"):
        write_salicon(tmp_path / "SALICON", part, 2)
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr(tempfile, "tempdir", f"{short}/{'x' * n}")
        setup._workers_can_answer.cache_clear()
        options = {"data_sources": ("SALICON",), "num_workers": 1, "device": "cpu"}
        trainer = Trainer(model_cfg=TINY, salicon_batch_size=1, **options)
        with caplog.at_level(logging.WARNING):
            loaders = [
                setup.make_loaders(trainer.cfg, trainer.datasets["train"], epoch, trainer.device)
                for epoch in (0, 1)
            ]
    setup._workers_can_answer.cache_clear()
    assert [loader["SALICON"].num_workers for loader in loaders] == [0, 0] if is_long else [1, 1]
    assert caplog.text.count("TMPDIR") == (1 if is_long else 0)
