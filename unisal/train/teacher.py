"""Teachers: trained networks whose predictions are a part of the training target (distillation).

See Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015. A teacher's
density is denser than the gaze of a few people, and says something where nobody happened to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unisal.config import RUN_PRESETS, load_json, run_dir
from unisal.data.base import Batch
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.train.config import TrainerConfig
from unisal.train.domain_config import FIRST_CHOICE
from unisal.train.runs import load_run
from unisal.train.setup import place_model


class Teacher:
    """A trained network that predicts the densities of training batches.

    Args:
        train_id: its run.
        device: where it is to predict.

    Raises:
        UserError: there is no such run, or it is damaged.
    """

    def __init__(self, train_id: str, device: torch.device) -> None:
        self.train_id = train_id
        self.model: UNISAL = place_model(load_run(train_id).requires_grad_(False), device)
        presets = run_dir(train_id) / RUN_PRESETS
        self.presets = load_json(presets) if presets.is_file() else {}

    def domain_for(self, batch: Batch) -> str:
        """Return the domain that it predicts a batch with.

        If it has trained domains on the source, it is the batch's own one if that is among them,
        else the newest. Otherwise it is the batch's own one, or if it lacks that, SALICON for
        pictures and DHF1K for videos.

        Raises:
            UserError: it has none of them.
        """
        trained = [
            preset.get("domain")
            for preset in self.presets.values()
            if batch.source in preset.get("sources", ())
        ]
        usual = [batch.domain, FIRST_CHOICE[batch.is_video]]
        wanted = [d for d in usual if d in trained] + trained[::-1] + usual
        known = [domain for domain in wanted if domain in self.model.sources]
        if not known:
            raise UserError(
                f"teacher: {self.train_id} has no domain for {batch.source}; it knows "
                f"{', '.join(self.model.sources)}"
            )
        return str(known[0])

    @torch.no_grad()
    def densities(self, batch: Batch) -> Tensor:
        """Predict a batch and its mirror image.

        Returns:
            The mean of both densities, the second one mirrored back: `[B, T, 1, h, w]` of the size
            of the targets, sum 1 per frame.
        """
        domain = self.domain_for(batch)
        static = not batch.is_video or domain in self.model.image_domains

        def predicted(frames: Tensor) -> Tensor:
            log_density = self.model(frames, batch.target_size, source=domain, static=static)
            return torch.as_tensor(log_density).exp()

        mirrored = predicted(batch.frames.flip(-1)).flip(-1)
        return (predicted(batch.frames) + mirrored) / 2


def load_teachers(cfg: TrainerConfig, device: torch.device) -> list[Teacher]:
    """Return the teachers of a run, in evaluation mode.

    Raises:
        UserError: see `Teacher`.
    """
    return [Teacher(train_id, device) for train_id in cfg.teacher]


def taught(batch: Batch, teachers: Sequence[Teacher], share: float) -> Batch:
    """Return a batch whose targets are in part the teachers' predictions.

    Args:
        batch: the batch, as the network is trained on it.
        teachers: the teachers; without any the batch is returned as it is.
        share: the share of the teachers' mean density in the target; the rest is what it was. The
            fixations stay.
    """
    if not teachers:
        return batch
    mean = torch.stack([teacher.densities(batch) for teacher in teachers]).mean(0)
    return replace(batch, maps=(1 - share) * batch.maps + share * mean)
