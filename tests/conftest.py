"""Every test sees a clean environment: no data folders, runs or weights of the user's."""

from __future__ import annotations

import pytest

VARIABLES = (
    "DHF1K_DATA_DIR",
    "HOLLYWOOD_DATA_DIR",
    "UCFSPORTS_DATA_DIR",
    "SALICON_DATA_DIR",
    "MIT1003_DATA_DIR",
    "MIT300_DATA_DIR",
    "TRAIN_DIR",
    "PRED_DIR",
    "UNISAL_ENCODER_WEIGHTS",
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
