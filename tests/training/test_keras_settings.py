"""What the user has set for Keras changes nothing of ours, and stays set."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import REPOSITORY

from sources.batches import training_batches
from sources.examples import Examples
from training import loop
from training.state import TrainingState
from vae import build_model

OF_A_USER = {"floatx": "float16", "image_data_format": "channels_first"}


def trained() -> dict:
    """The number of parameters and the figures of an epoch of a small VLAE; what Keras is set to afterwards."""
    keras.utils.set_random_seed(0)
    model = build_model(
        "vlae",
        data_shape=(6, 6, 1),
        num_classes=2,
        latent_size=2,
        network="conv",
        hidden_dims=(4, 4),
        prior="flow",
        window=3,
    )
    loop.compile_model(model, 0.01)
    x = np.random.default_rng(0).integers(0, 256, (24, 6, 6, 1), dtype=np.uint8)
    examples = Examples(x, np.eye(2, dtype=np.uint8)[np.arange(24) % 2])
    epoch_batches = training_batches(examples, 8, seed=0, binarize="dynamic")
    state = TrainingState()
    loop.train(
        model,
        epoch_batches,
        epoch_batches(0),
        batch_size=8,
        split="test",
        num_epochs=1,
        state=state,
        save=lambda: None,
        report=lambda row, seconds: None,
        after_epoch=lambda epoch: None,
    )
    settings = {"floatx": keras.config.floatx(), "image_data_format": keras.config.image_data_format()}
    dtypes = {variable.dtype for variable in (*model.variables, *model.optimizer.variables)}
    return {
        "parameters": model.count_params(),
        "row": state.history[0],
        "settings": settings,
        "dtypes": sorted(dtypes),
        "shape": list(model.sample(2, np.eye(2, dtype=np.float32)).shape),
    }


def of_a_user() -> dict:
    """The same in a process that has the user's settings."""
    from parts import networks

    networks.NETWORKS["conv"]["compiled"] = "nothing"
    assert keras.config.dtype_policy().name == OF_A_USER["floatx"]
    found = trained()
    assert keras.config.dtype_policy().name == OF_A_USER["floatx"]
    return found


@pytest.mark.slow
def test_the_users_keras_settings_change_no_figure_and_stay(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps(OF_A_USER))
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests/training")])
    done = subprocess.run(
        [sys.executable, "-c", "import json, test_keras_settings as t; print(json.dumps(t.of_a_user()))"],
        env=os.environ | {"PYTHONPATH": path, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout.splitlines()[-1]), trained()
    assert found.pop("settings") == OF_A_USER
    assert expected.pop("settings") == {"floatx": "float32", "image_data_format": "channels_last"}
    assert found["dtypes"] == ["float32", "int64"]
    np.testing.assert_allclose(list(found.pop("row").values()), list(expected.pop("row").values()), 1e-6)
    assert found == expected
