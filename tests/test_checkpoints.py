import json

import h5py
import keras
import numpy as np
import pytest

import checkpoints
from checkpoints import CheckpointError, load_weights, read_header, save_model_weights
from training import compile_model
from vae import build_model


def build(latent_size=2, seed=0, model="vae"):
    keras.utils.set_random_seed(seed)
    built = build_model(model, data_shape=(4, 4, 1), num_classes=3, latent_size=latent_size, hidden_dims=(6,))
    compile_model(built)
    return built


def weights(model):
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def saved(tmp_path):
    model = build()
    for step in range(3):
        model.train_step((np.full((5, 4, 4, 1), 0.25, np.float32), np.zeros((5, 3), np.float32), np.array([0, step])))
    path = tmp_path / "run" / "vae.weights.h5"
    save_model_weights(model, path, {"epoch": 3, "history": [{"epoch": 1}] * 3})
    return model, path


def test_a_checkpoint_restores_weights_optimizer_and_header(saved):
    model, path = saved
    other = build(seed=1)
    assert not same(weights(model), weights(other))
    header = load_weights(other, path)
    assert same(weights(model), weights(other))
    assert header["epoch"] == 3
    assert header["iterations"] == int(other.optimizer.iterations) == 3
    assert header["model"] == model.arguments
    assert len(header["history"]) == 3


def test_a_checkpoint_from_before_an_argument_existed_still_loads(tmp_path):
    model, path = build(), tmp_path / "old.weights.h5"
    for name in ("prior", "window"):
        del model.arguments[name]
    save_model_weights(model, path, {"epoch": 0, "history": []})
    other = build(seed=1)
    assert not same(weights(model), weights(other))
    assert "window" not in load_weights(other, path)["model"]
    assert same(weights(model), weights(other))


def test_plain_keras_reads_the_weights(saved):
    model, path = saved
    other = build(seed=1)
    other.load_weights(path)
    assert same(weights(model), weights(other))


def test_a_long_history_fits(saved):
    model, path = saved
    history = [{"epoch": epoch, "train_loss": 1 / 3} for epoch in range(5000)]
    save_model_weights(model, path, {"history": history})
    assert read_header(path)["history"] == history


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"latent_size": 5}, "checkpoint has latent_size 2, you asked for 5"),
        ({"model": "cvae"}, "checkpoint has model vae, you asked for cvae"),
    ],
)
def test_another_model_is_refused_before_a_tensor_is_touched(saved, other, message):
    model = build(seed=1, **other)
    before = weights(model)
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, saved[1])
    assert same(before, weights(model))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*none\.weights\.h5"):
        read_header(tmp_path / "none.weights.h5")


def test_a_name_that_keras_would_misread_is_refused(saved, tmp_path):
    renamed = saved[1].rename(tmp_path / "renamed.h5")
    with pytest.raises(CheckpointError, match=r"end in \.weights\.h5: rename .*renamed\.h5"):
        read_header(renamed)


def test_files_of_others_are_refused(tmp_path, saved):
    foreign = tmp_path / "foreign.weights.h5"
    with h5py.File(foreign, "w") as file:
        file["x"] = 1.0
    with pytest.raises(CheckpointError, match="not written by this program"):
        read_header(foreign)
    foreign.write_text("not HDF5 at all")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_header(foreign)


def test_truncated_files_are_refused(saved):
    _, path = saved
    content = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(CheckpointError):
            read_header(path)


def test_a_flipped_byte_is_refused_or_harmless(saved):
    model, path = saved
    content = path.read_bytes()
    refused, other = 0, build(seed=1)
    for position in np.random.default_rng(0).integers(0, len(content), 200):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        before = weights(other)
        try:
            load_weights(other, path)
        except CheckpointError:
            refused += 1
            assert same(before, weights(other))
        else:
            assert same(weights(model), weights(other))
    assert refused > 20


def test_a_changed_header_is_refused(saved):
    _, path = saved
    with h5py.File(path, "r+") as file:
        header = json.loads(bytes(file[checkpoints.HEADER][:]))
        header["epoch"] = 4
        del file[checkpoints.HEADER]
        file[checkpoints.HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with pytest.raises(CheckpointError, match="damaged"):
        read_header(path)


def test_a_newer_format_is_refused(saved, monkeypatch):
    model, path = saved
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    save_model_weights(model, path, {})
    monkeypatch.setattr(checkpoints, "FORMAT", 1)
    with pytest.raises(CheckpointError, match="format 2, this program reads up to 1"):
        read_header(path)


def test_an_optimizer_that_does_not_fit_is_not_silently_replaced(saved):
    _, path = saved
    other = build(seed=1)
    other.compile(keras.optimizers.SGD())
    other.optimizer.build(other.trainable_variables)
    with pytest.raises((CheckpointError, UserWarning)):
        load_weights(other, path)
