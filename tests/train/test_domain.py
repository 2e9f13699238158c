"""A domain of one's own: what trains, what stays to the last bit, what is kept, how it is named."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from gaze_folders import write_gaze
from support import call_command, photo, write_run, write_salicon

import unisal
from unisal.config import load_json
from unisal.data.pictures import read_grey
from unisal.errors import UserError
from unisal.model.weights import read_state
from unisal.predict.presets import find_preset, run_presets, trained_domain
from unisal.train import Trainer
from unisal.train import epoch as passes
from unisal.train.checkpoint import save_weights
from unisal.train.own_domain import domain_options

SMALL = {
    "batch_sizes": {"SALICON": 2},
    "dataset_options": {"SALICON": {"input_size": (32, 64)}},
    "num_workers": 0,
    "device": "cpu",
    "tboard": False,
}
BASE_DOMAINS = ("DHF1K", "SALICON")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a folder with pictures and gaze, and a run to start from."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    for part in ("train", "val"):
        write_salicon(tmp_path / "SALICON", part)
    write_run(tmp_path / "runs" / "base", sources=BASE_DOMAINS)
    return tmp_path


def tuned(trains="modules", domain="Crowd", init_from=None, base="base", **options):
    options = {**SMALL, "num_epochs": 1, "lr": 0.05, **options}
    trainer = Trainer(**domain_options(["SALICON"], domain, init_from, base, trains, options))
    trainer.fit()
    return trainer


def trained(**options):
    """A run whose best weights are those of its last step, however good they are."""
    trainer = tuned(**options)
    save_weights(trainer.folder / "weights_best.pth", trainer.best_model)
    return trainer


def changed(trainer):
    """The keys whose values after the last step differ from those of the base."""
    before = read_state(trainer.folder.parent / "base" / "weights_best.pth")
    after = trainer.model.state_dict()
    return {key for key in before if not torch.equal(before[key], after[key])}


def is_own(key):
    return "bn_Crowd" in key or "_crowd" in key


@pytest.mark.usefixtures("home")
def test_with_modules_only_the_own_ones_change():
    trainer = tuned(num_epochs=2)
    assert changed(trainer) == set()
    start = read_state(trainer.folder.parent / "base" / "weights_best.pth")
    after = trainer.model.state_dict()
    new = set(after) - set(start)
    assert new == {key for key in after if is_own(key)} == trainer.model.domain_keys("Crowd")
    used = [key for key in new if "rnn" not in key]
    source = {
        key: key.replace("bn_Crowd", "bn_SALICON").replace("_crowd", "_salicon") for key in new
    }
    same = [key for key in used if torch.equal(start[source[key]], after[key])]
    assert same == []
    parameters = dict(trainer.model.named_parameters())
    assert trainer.n_trained == sum(p.numel() for k, p in parameters.items() if k in used)
    assert {k for k, p in parameters.items() if p.grad is not None} == set(used) & set(parameters)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_with_modules_all_other_domains_predict_the_same_bits(runtime):
    trainer = trained(ema_decay=0.9, augment=True)
    picture = photo((60, 80), 5)
    base, own = (
        unisal.load(name, device="cpu", runtime=runtime) for name in ("base", trainer.train_id)
    )
    frames = [np.roll(picture, i, axis=0) for i in range(7)]
    for domain in BASE_DOMAINS:
        assert np.array_equal(base.image(picture, domain=domain), own.image(picture, domain=domain))
        videos = [list(p.video(frames, domain=domain, frame_step=2)) for p in (base, own)]
        assert np.array_equal(*videos)
    assert not np.array_equal(base.image(picture), own.image(picture, source="Crowd"))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("trains", ["decoder", "all"])
def test_what_else_is_trained(trains):
    keys = changed(tuned(trains, num_epochs=1))
    of_encoder = {key for key in keys if key.startswith("cnn.")}
    assert {key for key in keys if key.startswith(("post_cnn.", "skip_2x."))}
    assert bool(of_encoder) == (trains == "all")
    assert not {key for key in of_encoder if "running" in key}
    others = {key for key in keys if "bn_SALICON" in key or "_salicon" in key or "dhf1k" in key}
    assert others == set()


def test_with_recurrent_the_gru_changes_and_domains_for_images_do_not(home):
    write_gaze(home / "pictures", {f"{i}.png": (48, 80) for i in range(5)})
    crops = {"folder": "pictures", "kind": "moving_crops"}
    (home / "crops.json").write_text(json.dumps(crops))
    size = {"n_frames": 12, "frame_size": (36, 64), "input_size": (32, 64), "seq_len": 2}
    options = {**SMALL, "num_epochs": 1, "lr": 0.05, "dataset_options": {"crops": size}}
    data = [f"crops={home / 'crops.json'}"]
    trainer = Trainer(**domain_options(data, "Films", None, "base", "recurrent", options))
    trainer.fit()
    keys = changed(trainer)
    assert keys and all(key.startswith(("rnn.", "post_rnn.")) for key in keys)
    assert not {key for key in keys if "bn_DHF1K" in key or "bn_SALICON" in key}
    parameters = dict(trainer.model.named_parameters())
    trains = {key for key, value in parameters.items() if value.grad is not None}
    assert trainer.n_trained == sum(parameters[key].numel() for key in trains)
    save_weights(trainer.folder / "weights_best.pth", trainer.best_model)
    base, own = (unisal.load(name, device="cpu") for name in ("base", trainer.train_id))
    picture = photo((60, 80), 3)
    of_image = [p.image(picture, domain="SALICON") for p in (base, own)]
    assert np.array_equal(*of_image)
    frames = [np.roll(picture, i, axis=0) for i in range(5)]
    films = [list(p.video(frames, domain="DHF1K", frame_step=2)) for p in (base, own)]
    assert not np.array_equal(*films)


@pytest.mark.usefixtures("home")
def test_pictures_have_no_recurrent_part_to_train():
    with pytest.raises(UserError, match="never uses the recurrent part"):
        tuned("recurrent")


@pytest.mark.usefixtures("home")
def test_a_new_domain_starts_as_a_copy(monkeypatch):
    monkeypatch.setattr(passes, "train_epoch", lambda *rest: rest[-4].rows.update(SALICON=[[1, 1]]))
    trainer = tuned(init_from="DHF1K")
    picture = photo((60, 80), 1)
    own = unisal.load(trainer.train_id, device="cpu")
    assert np.array_equal(own.image(picture, domain="Crowd"), own.image(picture, domain="DHF1K"))


@pytest.mark.usefixtures("home")
def test_a_known_domain_is_trained_further():
    first = tuned()
    again = tuned(base=first.train_id, prefix="again")
    assert again.model.sources == (*BASE_DOMAINS, "Crowd")
    states = [t.model.state_dict() for t in (first, again)]
    other = [k for k in states[0] if not is_own(k) and not torch.equal(states[0][k], states[1][k])]
    assert other == []
    assert again.scalars.values["salicon/loss/valid"]["-1"] == pytest.approx(
        -first.best_val_score, rel=1e-6
    )
    second = tuned(base=first.train_id, domain="Town", prefix="second")
    assert set(run_presets(second.train_id)) == {"Crowd", "Town"}


# ---- which weights are kept, and when it ends ----------------------------------------------


def scripted(monkeypatch, losses):
    """Let validation tell these losses, that of the start first."""
    told = iter(losses)
    monkeypatch.setattr(
        passes, "validate_epoch", lambda *_: {"SALICON": {"loss": next(told), "loss_0": 0.0}}
    )


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("losses", "best", "n_epochs"),
    [([5, 4, 3, 3.5, 3.2, 2], 1, 4), ([5, 6, 7, 1], -1, 2), ([5, 4, 3, 2, 1, 0.5, 0.4], 5, 6)],
)
def test_patience_ends_the_run_and_the_best_weights_are_kept(monkeypatch, losses, best, n_epochs):
    scripted(monkeypatch, losses)
    trainer = tuned(num_epochs=6, patience=2)
    assert (trainer.best_epoch, trainer.epoch) == (best, n_epochs)
    assert (trainer.folder / "best_epoch.dat").read_text().strip() == str(best)
    assert -trainer.best_val_score == min(losses[: n_epochs + 1])


@pytest.mark.usefixtures("home")
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(monkeypatch):
    whole = tuned(num_epochs=3, prefix="whole")
    train, calls = passes.train_epoch, []

    def stop(*rest):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*rest)

    monkeypatch.setattr(passes, "train_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        tuned(num_epochs=3, prefix="part")
    monkeypatch.setattr(passes, "train_epoch", train)
    part = Trainer.resume("part_unisal")
    part.fit()
    states = whole.model.state_dict(), part.model.state_dict()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert part.scalars.values == whole.scalars.values
    names = [sorted(p.name for p in t.folder.iterdir()) for t in (whole, part)]
    assert names[0] == names[1]


# ---- the preset ---------------------------------------------------------------------------


def test_the_run_keeps_a_preset_that_every_command_knows(home):
    trainer = trained()
    saved = load_json(trainer.folder / "presets.json")
    assert saved["Crowd"]["sources"] == ["SALICON"]
    preset = run_presets(trainer.train_id)["Crowd"]
    assert (preset.domain, preset.is_video, preset.input_size) == ("Crowd", False, None)
    assert trained_domain(trainer.train_id, "SALICON") == "Crowd"
    assert trained_domain("base", "SALICON") is None
    pictures = home / "mine"
    (pictures / "images").mkdir(parents=True)
    picture = home / "SALICON" / "images" / "COCO_val2014_000000000001.jpg"
    (pictures / "images" / "a.jpg").write_bytes(picture.read_bytes())
    common = [f"--train_id={trainer.train_id}", "--device=cpu"]
    maps = {}
    for option in ("--preset=Crowd", "--source=Crowd", "--model_domain=Crowd", "--source=SALICON"):
        assert call_command("predictions_from_folder", str(pictures), option, *common) == 0
        maps[option] = read_grey(pictures / "saliency" / "a.jpg")
    own = maps["--preset=Crowd"]
    assert np.array_equal(own, maps["--source=Crowd"])
    assert np.array_equal(own, maps["--model_domain=Crowd"])
    assert not np.array_equal(own, maps["--source=SALICON"])


@pytest.mark.usefixtures("home")
def test_a_video_is_predicted_frame_by_frame_with_a_domain_of_images():
    trainer = trained()
    own = unisal.load(trainer.train_id, device="cpu")
    frames = [photo((60, 80), i) for i in range(3)]
    for frame, y in zip(frames, own.video(frames, source="Crowd"), strict=True):
        np.testing.assert_allclose(y, own.image(frame, source="Crowd"), rtol=1e-4)
    stream = own.stream(30, source="Crowd")
    assert np.array_equal(stream.step(frames[0]), own.image(frames[0], source="Crowd"))


@pytest.mark.usefixtures("home")
def test_unknown_presets_list_those_of_the_run(capsys):
    trainer = tuned()
    with pytest.raises(UserError, match=r"'Croud'; for images allowed are .*, Crowd$"):
        find_preset("Croud", for_images=True, own=run_presets(trainer.train_id))
    assert call_command("predict_video", "no.mp4", "--preset=Crowd", "--source=DHF1K") == 2
    assert "name one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "expected a JSON object"),
        ('{"Crowd": 1}', "Crowd is 1"),
        ('{"Crowd": {"domain": "Crowd"}}', "Crowd lacks is_video"),
        ('{"Crowd": {"colour": 1}}', "no option 'colour'"),
    ],
)
def test_a_damaged_file_of_presets_is_named(home, content, said):
    path = home / "runs" / "base" / "presets.json"
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(str(path)) + f".*{said}"):
        run_presets("base")


# ---- what is refused ----------------------------------------------------------------------


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trains": "everything"}, "allowed are all, decoder, modules"),
        ({"domain": "a.b"}, "has to be a word"),
        ({"domain": "salicon"}, "one of that name"),
        ({"init_from": "Hollywood"}, "knows DHF1K, SALICON"),
        ({"base": "nothing"}, "no run 'nothing'"),
        ({"patience": 0}, "patience is 0"),
    ],
    ids=str,
)
def test_mistakes_are_named(changes, said):
    with pytest.raises(UserError, match=said):
        tuned(**changes)


def test_a_network_without_own_modules_cannot_train_them(home):
    shared = dict.fromkeys(("ds_bn", "ds_adaptation", "ds_smoothing", "ds_gaussians"), False)
    write_run(home / "runs" / "shared", sources=BASE_DOMAINS, **shared)
    with pytest.raises(UserError, match="nothing"):
        tuned(base="shared")


@pytest.mark.slow
def test_the_command(home, capsys):
    options = [f"--{name}={value}" for name, value in SMALL.items()]
    for trains in ("modules", "decoder"):
        arguments = [f"--train={trains}", "--base=base", "--num_epochs=1", *options]
        assert call_command("finetune", "--data=SALICON", "--domain=Crowd", *arguments) == 0
        said = capsys.readouterr().out
        assert re.search(rf"crowd_{trains}_unisal: trains [\d,]+ of [\d,]+ numbers", said)
        told = re.findall(r"^(\w+): CC (\d\.\d+) between", said, re.MULTILINE)
        assert [name for name, _ in told] == ([] if trains == "modules" else list(BASE_DOMAINS))
        folder = home / "runs" / f"crowd_{trains}_unisal"
        scores = json.loads((folder / "SALICON_eval_summary.json").read_text())
        assert scores["model_domain"] == "Crowd"


def test_what_a_run_is_compared_with_uses_its_usual_domain(home, caplog, monkeypatch):
    trainer = trained()
    base = home / "runs" / "base"
    base.rename(home / "runs" / "pretrained_unisal")
    folder = home / "mine"
    for kind, part in (("images", ""), ("maps", "val/")):
        (folder / kind).mkdir(parents=True)
        suffix = "png" if kind == "maps" else "jpg"
        found = home / "SALICON" / kind / f"{part}COCO_val2014_000000000001.{suffix}"
        (folder / kind / f"a.{suffix}").write_bytes(found.read_bytes())
    used = []

    def note(self, picture, log=False, domain=None, **rest):
        used.append(domain)
        return predict(self, picture, log, domain, **rest)

    predict = unisal.Predictor.image
    monkeypatch.setattr(unisal.Predictor, "image", note)
    options = ["--preset=Crowd", f"--train_id={trainer.train_id}", "--device=cpu"]
    assert call_command("visualize_examples", str(folder), *options) == 0
    assert used == ["Crowd", "SALICON"]
    assert "no domain" not in caplog.text
