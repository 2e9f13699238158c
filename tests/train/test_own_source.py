"""A data set of one's own, one class and one line: trained, scored, predicted and checked."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from support import TINY, photo, write_photo, write_video

from unisal.commands.check_data import check_data
from unisal.commands.generate import generate_predictions
from unisal.commands.scoring import score_model
from unisal.config import load_json
from unisal.data import DATASETS, ImageDataset, VideoDataset, register
from unisal.data.base import first_share, require_files
from unisal.data.listing import FrameFiles, Group, Place, list_images
from unisal.data.pictures import read_rgb
from unisal.errors import SomeFailed, UserError
from unisal.evaluate.options import ScoringOptions
from unisal.predict.presets import find_preset
from unisal.train import Trainer
from unisal.train.config import TrainerConfig
from unisal.train.sources import batch_size, dataset_options, loss_factor, saved_options

N_PAINTINGS, SIZE = 6, (48, 64)


class Paintings(ImageDataset):
    """`<part>/<name>.{jpg,map.png,points.png}`."""

    source = "Paintings"
    domain = "SALICON"
    root_variable = "PAINTINGS_DATA_DIR"
    root_default = "Paintings"
    scalar_prefix = "paintings"
    score_name = "Paintings"
    phases = ("train", "valid", "eval")
    predicted_phases = ("eval",)
    input_size = (64, 96)
    batch_size = 2
    valid_batch_size = 1
    loss_weight = 0.25
    debug_subset = 0.7

    def __init__(self, phase="train", subset=1.0, augment=False, seed=0, frame=True):
        super().__init__(phase, subset, augment, seed, frame=frame)
        self.folder = self.root() / self.part(phase)
        self.images = first_share(sorted(self.folder.glob("*.jpg")), subset)
        if not self.images:
            raise UserError(f"no paintings in {self.folder} with subset={subset}")
        files = [path for index in range(len(self)) for path in self.files(index)]
        require_files("maps or fixations", [path for path in files if not path.is_file()])

    @classmethod
    def part(cls, phase):
        return "train" if phase == "train" else "valid"

    @classmethod
    def list_part(cls, phase):
        endings = {"image": ".jpg", "saliency_map": ".map.png", "fixations": ".points.png"}
        folder = cls.root() / cls.part(phase)
        places = {kind: Place(folder, (ending,)) for kind, ending in endings.items()}
        yield Group(cls.part(phase), *list_images(places), one_map_size=True)

    def files(self, index, number=1):
        image = self.images[index]
        return FrameFiles(image, image.with_suffix(".map.png"), image.with_suffix(".points.png"))


class Walks(VideoDataset):
    """`all/walk<N>/{images,maps,fixation}/walk<N>_%03d.png`; its modules are its own."""

    source = domain = "Walks"
    root_variable = "WALKS_DATA_DIR"
    root_default = "Walks"
    scalar_prefix = "walks"
    score_name = "Walks"
    input_size = (64, 96)
    frame_step = 2
    frame_rate = 12
    numbers = range(1, 5)
    test_numbers = range(5, 6)
    val_size = 1
    folders = dict.fromkeys(("train", "valid", "eval", "test"), "all")

    @staticmethod
    def file_prefix(name):
        return f"{name}_"

    @staticmethod
    def video_numbers(names):
        return [int(re.sub(r"\D", "", name)) for name in names]


def write_painting(folder, number):
    write_photo(folder / f"{number}.jpg", SIZE, seed=number)
    points = np.zeros(SIZE, np.uint8)
    points[10 + number, 20:30] = 255
    Image.fromarray(photo(SIZE, number)[:, :, 1]).save(folder / f"{number}.map.png")
    Image.fromarray(points).save(folder / f"{number}.points.png")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return where the data, the runs and the predictions lie; both sources are known."""
    for part, numbers in (("train", range(4)), ("valid", range(4, N_PAINTINGS))):
        for number in numbers:
            write_painting(tmp_path / "Paintings" / part, number)
    for number in range(1, 6):
        folder = tmp_path / "Walks" / "all" / f"walk{number}"
        write_video(folder, f"walk{number}_", 7, SIZE, digits=3, seed=number)
    for variable, folder in (("TRAIN_DIR", "runs"), ("PRED_DIR", "predictions")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    known = dict(DATASETS)
    for dataset in (Paintings, Walks):
        monkeypatch.setenv(dataset.root_variable, str(tmp_path / dataset.root_default))
        register(dataset)
    yield tmp_path
    DATASETS.clear()
    DATASETS.update(known)


def train(**options):
    trainer = Trainer(
        num_epochs=1,
        prefix="mine",
        device="cpu",
        num_workers=0,
        tboard=False,
        **{"model_cfg": TINY, **options},
    )
    trainer.fit()
    return trainer


def score(run, source):
    (result,) = score_model(
        train_id=run,
        sources=[source],
        model_domain=None,
        baselines=False,
        report=False,
        device="cpu",
        options=ScoringOptions(metrics=("kld", "cc")),
    )
    return result


def predict(run, source, phase):
    generate_predictions(
        train_id=run,
        sources=[source],
        phase=phase,
        model_domain=None,
        smooth_method=None,
        x_val_step=None,
        overwrite=False,
        device="cpu",
    )


def test_images(home):
    trainer = train(data_sources=("Paintings",), dataset_options={"Paintings": {"frame": False}})
    assert len(trainer.scalars.values["paintings/loss/train"]) == 1
    kept = load_json(trainer.folder / "Paintings.json")
    assert kept == {"frame": False, "subset": 1.0, "augment": False}
    result = score(trainer.train_id, "Paintings")
    assert (result.dataset.config["frame"], result.domain) == (False, "SALICON")
    assert list(result.scores.titles) == ["4.jpg", "5.jpg"]
    assert (trainer.folder / "Paintings_eval_mean_scores.json").is_file()
    predict(trainer.train_id, "Paintings", "eval")
    written = home / "predictions" / "mine_unisal" / "Paintings"
    assert sorted(p.name for p in written.iterdir()) == ["4.jpg", "5.jpg"]
    assert read_rgb(written / "4.jpg").shape[:2] == SIZE
    (report,) = check_data(sources=["Paintings"], quick=False, max_shown=20)
    counts = {part.name: part.counts["saliency_map"] for part in report.parts}
    assert counts == {"train": 4, "valid": 2}
    (home / "Paintings" / "train" / "0.map.png").write_text("no picture")
    with pytest.raises(SomeFailed, match=r"Paintings \(1\)"):
        check_data(sources=["Paintings"], quick=False, max_shown=20)
    preset = find_preset("Paintings", for_images=True)
    assert (preset.domain, preset.is_video) == ("SALICON", False)


def test_videos_with_a_domain_of_their_own(home):
    options = {"data_sources": ("Walks",), "dataset_options": {"Walks": {"seq_len": 2}}}
    trainer = train(**options)
    assert trainer.model.sources == ("Walks",)
    assert load_json(trainer.folder / "Walks.json")["frame_modulo"] == 2
    result = score(trainer.train_id, "Walks")
    assert (list(result.scores.titles), result.domain) == (["walk3"], "Walks")
    predict(trainer.train_id, "Walks", "test")
    written = home / "predictions" / "mine_unisal" / "Walks"
    names = [f"walk5/walk5_{n:03d}.png" for n in range(1, 8)]
    assert sorted(str(p.relative_to(written)) for p in written.rglob("*.png")) == names
    (report,) = check_data(sources=["Walks"], quick=True, max_shown=20)
    assert report.problems == []
    preset = find_preset("Walks")
    assert (preset.frame_step, preset.frame_step_for(24), preset.input_size) == (2, 4, (64, 96))


@pytest.mark.usefixtures("home")
def test_it_is_trained_beside_a_known_one_and_goes_on():
    options = {"data_sources": ("Walks", "Paintings"), "dataset_options": {"Walks": {"seq_len": 2}}}
    trainer = train(**options, batch_sizes={"Walks": 3}, weigh_sources=True)
    saved = load_json(trainer.folder / "Trainer.json")
    assert saved["batch_sizes"] == {"Walks": 3}
    again = Trainer.resume(trainer.train_id)
    assert json.loads(json.dumps(saved_options(again.cfg))) == {**saved, "new_instance": False}
    assert batch_size(again.cfg, "Walks") == 3


@pytest.mark.usefixtures("home")
def test_it_has_defaults_of_its_own_and_not_those_of_another():
    cfg = TrainerConfig.from_dict({"data_cfg": {"seq_len": 3}, "batch_size": 9})
    assert dataset_options(cfg, "Paintings") == dataset_options(cfg, "Walks") == {}
    assert (batch_size(cfg, "Paintings"), batch_size(cfg, "Paintings", "valid")) == (2, 1)
    assert (batch_size(cfg, "Walks"), batch_size(cfg, "Walks", "valid")) == (4, 4)
    debug = TrainerConfig.from_dict({"debug": True, "weigh_sources": True})
    assert dataset_options(debug, "Paintings") == {"subset": 0.7}
    assert dataset_options(debug, "Walks") == {"subset": 0.1}
    assert (loss_factor(debug, "Paintings"), loss_factor(debug, "Walks")) == (0.25, 1.0)
    assert (loss_factor(cfg, "Paintings"), loss_factor(cfg, "Walks")) == (1.0, 1.0)
    trainer = Trainer(data_sources="Paintings", debug=True, model_cfg=TINY, device="cpu")
    assert len(trainer.datasets["train"]["Paintings"]) == 2  # of four


@pytest.mark.usefixtures("home")
def test_a_name_is_given_once():
    register(Paintings)  # again: nothing changes
    with pytest.raises(UserError, match="the data set 'SALICON' already exists: SALICONDataset"):
        register(type("Other", (Paintings,), {"source": "SALICON"}))
    with pytest.raises(UserError, match="batch_sizes: Painting cannot be trained on"):
        Trainer(data_sources="Paintings", batch_sizes={"Painting": 3}, model_cfg=TINY)
