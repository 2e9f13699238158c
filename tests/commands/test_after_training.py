"""What follows a training: which sources are checked before it, scored and predicted after it."""

from __future__ import annotations

import pytest
from support import write_mit1003, write_photo

from unisal.commands import after_training, generate
from unisal.commands.after_training import evaluate, sources_to_evaluate
from unisal.data import MIT1003Dataset
from unisal.errors import UserError
from unisal.evaluate.options import ScoringOptions


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return where MIT1003 is and MIT300 may be."""
    monkeypatch.setenv("MIT1003_DATA_DIR", str(tmp_path / "MIT1003"))
    monkeypatch.setenv("MIT300_DATA_DIR", str(tmp_path / "MIT300"))
    write_mit1003(tmp_path / "MIT1003", [(48, 64)] * 4)
    return tmp_path


def test_what_was_asked_for_has_to_be_there(data):
    with pytest.raises(UserError, match="MIT300_DATA_DIR"):
        sources_to_evaluate(named=["MIT300"], default=[], trained={})
    with pytest.raises(UserError, match=r"no data set 'MIT'; known are .*MIT300"):
        sources_to_evaluate(named=["MIT"], default=[], trained={})
    write_photo(data / "MIT300" / "BenchmarkIMAGES" / "i1.jpg")
    assert sources_to_evaluate(named=["MIT300"], default=["MIT1003"], trained={}) == ("MIT300",)


def test_of_the_default_what_is_not_there_is_left_out_and_told(data, caplog):
    assert sources_to_evaluate(named=[], default=["MIT300"], trained={}) == ()
    assert "MIT300 will not be evaluated" in caplog.text and "MIT300_DATA_DIR" in caplog.text
    write_photo(data / "MIT300" / "BenchmarkIMAGES" / "i1.jpg")
    assert sources_to_evaluate(named=[], default=["MIT300"], trained={}) == ("MIT300",)
    (data / "MIT300" / "BenchmarkIMAGES" / "i1.jpg").unlink()
    with pytest.raises(UserError, match="0 files found"):  # faulty is not missing
        sources_to_evaluate(named=[], default=["MIT300"], trained={})


@pytest.mark.usefixtures("data")
def test_what_is_trained_on_is_read_the_same_afterwards():
    # Four pictures are too few for ten folds; two folds are trained on.
    with pytest.raises(UserError, match="eval part is empty"):
        sources_to_evaluate(named=["FINAL_TEST_MIT1003"], default=[], trained={})
    trained = {"MIT1003": MIT1003Dataset("valid", n_x_val=2, seed=(0, 0))}
    assert sources_to_evaluate(named=["FINAL_TEST_MIT1003"], default=[], trained=trained) == (
        "FINAL_TEST_MIT1003",
    )


def test_without_public_gaze_there_are_predictions_and_no_scores(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(after_training, "score_model", lambda **o: calls.append(o))
    monkeypatch.setattr(generate, "generate_predictions", lambda **o: calls.append(o))
    sources = ["MIT300", "FINAL_TEST_MIT1003", "SALICON", "MIT1003"]
    evaluate(train_id="mine", sources=sources, device="cpu")
    scores, maps = calls
    assert scores == {
        "train_id": "mine",
        "sources": ["MIT1003", "SALICON"],
        "model_domain": None,
        "baselines": False,
        "report": False,
        "device": "cpu",
        "options": ScoringOptions(),
    }
    nothing_chosen = dict.fromkeys(("phase", "model_domain", "smooth_method", "x_val_step"))
    assert maps == {
        "train_id": "mine",
        "sources": ["MIT300"],
        "device": "cpu",
        "overwrite": True,
        **nothing_chosen,
    }
    said = capsys.readouterr().out
    assert "MIT300: where people looked is not public, so no score can be computed" in said
