import contextlib
import json
import pathlib
import pickle
import tracemalloc

import h5py
import keras
import numpy as np
import pytest

import vae
from app.run import read_run
from storage import checkpoints
from storage.checkpoints import (
    CheckpointError,
    load_weights,
    read_header,
    save_model_weights,
    save_slim,
    weights_digest,
)
from training.loop import compile_model
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


def assert_refused(model, path, match=""):
    """In one line that names the file, and with all tensors left as they were."""
    before = weights(model)
    with pytest.raises(CheckpointError, match=match) as error:
        load_weights(model, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert same(before, weights(model))


@contextlib.contextmanager
def forged(path):
    """Change what is in a checkpoint, and give it the seal that fits."""
    path.write_bytes(path.read_bytes()[: -len(checkpoints.seal(b""))])
    with h5py.File(path, "r+") as file:
        yield file
    path.write_bytes(path.read_bytes() + checkpoints.seal(path.read_bytes()))


def set_header(file, content):
    del file[checkpoints.HEADER]
    file[checkpoints.HEADER] = np.frombuffer(content, np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    model = build()
    for step in range(3):
        model.train_step((np.full((5, 4, 4, 1), 0.25, np.float32), np.zeros((5, 3), np.float32), np.array([0, step])))
    path = tmp_path_factory.mktemp("trained") / "vae.weights.h5"
    save_model_weights(model, path, {"epoch": 3, "history": [{"epoch": 1}] * 3})
    return model, path.read_bytes()


@pytest.fixture
def saved(trained, tmp_path):
    """A model and its checkpoint."""
    model, content = trained
    path = tmp_path / "run" / "vae.weights.h5"
    path.parent.mkdir()
    path.write_bytes(content)
    return model, path


@pytest.fixture(scope="module")
def other():
    """A model of the same arguments with other weights, for checkpoints that are refused."""
    return build(seed=1)


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
    assert_refused(build(seed=1, **other), saved[1], message)


def test_weights_of_another_architecture_than_the_header_says_are_refused(saved, monkeypatch):
    """The header names no size, as one from before there was a choice; the layers that fit are not loaded either."""
    model, path = saved
    monkeypatch.setattr(model, "arguments", {"model": "vae"})
    save_model_weights(model, path, {})
    assert_refused(build(seed=1, latent_size=5), path, "cannot be read as a checkpoint")


@pytest.mark.parametrize("missing", ["encoder/hidden/vars/1", "decoder/body/steps", "optimizer", "optimizer/vars/7"])
def test_a_checkpoint_without_all_tensors_is_refused(saved, missing, other):
    _, path = saved
    with forged(path) as file:
        del file[missing]
    assert_refused(other, path)


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
    with pytest.raises(CheckpointError, match="not written by this program"):
        read_header(foreign)


def test_what_is_not_hdf5_behind_its_seal_is_refused(tmp_path):
    sealed = tmp_path / "sealed.weights.h5"
    sealed.write_bytes(b"not HDF5 at all" + checkpoints.seal(b"not HDF5 at all"))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_header(sealed)


def test_plain_keras_files_of_the_same_model_are_refused(saved, other):
    model, path = saved
    model.save_weights(path)
    assert_refused(other, path, "not written by this program")


def test_truncated_files_are_refused(saved, other):
    _, path = saved
    content = path.read_bytes()
    seal = len(checkpoints.seal(b""))
    for length in (*(len(content) * tenth // 10 for tenth in range(10)), *(len(content) - cut for cut in (1, seal))):
        path.write_bytes(content[:length])
        assert_refused(other, path)


def test_a_flipped_byte_anywhere_is_refused(saved, other):
    """Before HDF5 sees it, whose library takes gigabytes, hangs or crashes over some of them."""
    _, path = saved
    content, before = path.read_bytes(), weights(other)
    for position in (*np.random.default_rng(0).integers(0, len(content), 200), len(content) - 1):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        with pytest.raises(CheckpointError, match="damaged"):
            load_weights(other, path)
    assert same(before, weights(other))


def test_a_newer_format_is_refused(saved, monkeypatch, other):
    model, path = saved
    monkeypatch.setattr(checkpoints, "FORMAT", 3)
    save_model_weights(model, path, {})
    monkeypatch.undo()
    assert_refused(other, path, "format 3, this program reads up to 2")


# Files that were made to do harm, with the seal that fits


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "its header is list"),
        (b"{}", "its header has no format"),
        (b'{"format": 2}', "its header has no model"),
        (b'{"format": "2", "model": {}}', "its header's format is str"),
        (b'{"format": true, "model": {}}', "its header's format is bool"),
        (b'{"format": NaN, "model": {}}', "its header's format is float"),
        (b'{"format": 2, "model": null}', "its header's model is NoneType"),
    ],
)
def test_a_header_that_is_none_is_refused(saved, header, message, other):
    _, path = saved
    with forged(path) as file:
        set_header(file, header)
    assert_refused(other, path, message)


WHOLE_RUN = {
    "epoch": 1,
    "history": [{"epoch": 1, "train_elbo": -1.5}],
    "train_seconds": 2.5,
    "train_images": 64,
    "fallback_from": None,
    "dataset": {"name": "mnist", "source": "here", "class_names": ["0"], "fingerprint": "0123abcd"},
    "config": {
        **dict.fromkeys(("dataset", "activation", "binarize", "data_dir"), "x"),
        **{"model": "vae", "network": "mlp", "likelihood": "bernoulli"},
        **dict.fromkeys(("latent_size", "batch_size", "num_epochs", "num_samples", "validation_size", "seed"), 1),
        **dict.fromkeys(("learning_rate", "beta", "warmup_epochs", "free_bits"), 0.5),
        **{"sample_and_save_frequency": 5, "image_size": None, "hidden_dims": [6], "run_name": None},
    },
}


@pytest.mark.parametrize(
    ("key", "inner", "value", "message"),
    [
        ("epoch", None, "3", "its header's epoch is str"),
        ("history", None, {}, "its header's history is dict"),
        ("history", None, [3], "its header's history's rows is int"),
        ("history", None, [{}], "its header's history's rows has no epoch"),
        ("train_seconds", None, None, "its header's train_seconds is NoneType"),
        ("dataset", None, ..., "its header has no dataset"),
        ("dataset", "class_names", [3], "its header's dataset's class_names's rows is int"),
        ("config", "seed", ..., "its header's config has no seed"),
        ("config", "run_name", 5, "its header's config's run_name is int"),
        ("config", "network", "transformer", "of a network that this program does not know: transformer"),
        ("config", "batch_size", 2.5, "its header's config's batch_size is float"),
    ],
)
def test_a_run_of_which_something_is_missing_or_of_another_type_is_refused(saved, key, inner, value, message):
    model, path = saved
    header = json.loads(json.dumps(WHOLE_RUN))
    save_model_weights(model, path, header)
    assert read_run(path)["config"] == WHOLE_RUN["config"]
    part, name = (header, key) if inner is None else (header[key], inner)
    if value is ...:
        del part[name]
    else:
        part[name] = value
    save_model_weights(model, path, header)
    with pytest.raises(CheckpointError, match=message) as error:
        read_run(path)
    assert str(path) in str(error.value)


WEIGHT = "encoder/hidden/vars/0"  # (16, 6)


def replaced(file, name=WEIGHT, **arguments):
    del file[name]
    return file.create_dataset(name, **arguments)


def virtual(file, secret):
    layout = h5py.VirtualLayout(shape=(16, 6), dtype=np.float32)
    layout[:] = h5py.VirtualSource(secret, "secret", shape=(16, 6))
    del file[WEIGHT]
    file.create_virtual_dataset(WEIGHT, layout)


def linked(file, name, link):
    del file[name]
    file[name] = link


FLOATS = {"shape": (16, 6), "dtype": np.float32}
HUGE = {"shape": (10 * 2**30,), "dtype": np.uint8}


@pytest.mark.parametrize(
    "trick",
    [
        lambda file, secret: linked(file, WEIGHT, h5py.ExternalLink(secret, "secret")),
        lambda file, secret: linked(file, "encoder", h5py.ExternalLink(secret, "/")),
        lambda file, secret: linked(file, checkpoints.HEADER, h5py.ExternalLink(secret, "secret")),
        lambda file, secret: linked(file, checkpoints.HEADER, h5py.SoftLink("/optimizer/vars/7")),
        lambda file, secret: linked(file, WEIGHT, h5py.SoftLink("/optimizer/vars/2")),
        lambda file, secret: virtual(file, secret),
        lambda file, secret: replaced(file, **FLOATS, external=[(str(secret), 0, 384)]),
        lambda file, secret: replaced(file, checkpoints.HEADER, **HUGE),
        lambda file, secret: replaced(file, checkpoints.HEADER, **HUGE, chunks=(2**20,), compression="gzip"),
        lambda file, secret: replaced(file, **HUGE),
        lambda file, secret: replaced(file, **FLOATS, chunks=(4, 6), compression="gzip"),
        lambda file, secret: replaced(file, **FLOATS, maxshape=(None, 6), chunks=(2**20, 6)),
        lambda file, secret: replaced(file, shape=(16, 6), dtype=h5py.string_dtype()),
        lambda file, secret: replaced(file, shape=(16, 6), dtype=h5py.vlen_dtype(np.float32)),
        lambda file, secret: replaced(file, shape=(16, 6), dtype=np.dtype("V4")),
        lambda file, secret: file[WEIGHT].attrs.create("dtype", "bfloat16"),
    ],
)
def test_what_leads_to_other_files_or_to_much_memory_is_refused(saved, tmp_path, other, trick):
    _, path = saved
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.ones((16, 6), np.float32)
    with forged(path) as file:
        trick(file, tmp_path / "secret.h5")
    tracemalloc.start()
    assert_refused(other, path, "is not a plain array of numbers")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_groups_that_hold_themselves_are_read_once(saved):
    model, path = saved
    with forged(path) as file:
        file["encoder/again"] = file["/"]
    other = build(seed=1)
    load_weights(other, path)
    assert same(weights(model), weights(other))


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_no_code_in_a_checkpoint_runs(saved, tmp_path, other):
    _, path = saved
    ran = tmp_path / "ran"
    payload = pickle.dumps(Payload(ran))
    pickle.loads(payload)
    assert ran.exists(), "the payload works"
    ran.unlink()
    whole = path.read_bytes()
    path.write_bytes(payload)
    assert_refused(other, path)
    path.write_bytes(payload + checkpoints.seal(payload))
    assert_refused(other, path)
    path.write_bytes(whole)
    with forged(path) as file:
        set_header(file, payload)
    assert_refused(other, path)
    path.write_bytes(whole)
    with forged(path) as file:
        replaced(file, data=np.void(payload))
    assert_refused(other, path)
    assert not ran.exists()


# Writing


def test_an_optimizer_that_does_not_fit_is_not_silently_replaced(saved):
    _, path = saved
    other = build(seed=1)
    other.compile(keras.optimizers.SGD())
    other.optimizer.build(other.trainable_variables)
    assert_refused(other, path, "Skipping variable loading for optimizer")


# Models without an optimizer


@pytest.mark.parametrize("model", ["vae", "cvae"])
def test_a_model_that_is_not_compiled_is_saved_and_loaded(model, tmp_path):
    arguments = {"data_shape": (4, 4, 1), "num_classes": 3, "latent_size": 2, "hidden_dims": (6,)}
    first, second = build_model(model, **arguments), build_model(model, **arguments)
    assert not same(first.get_weights(), second.get_weights())
    path = tmp_path / "vae.weights.h5"
    save_model_weights(first, path, {"epoch": 0})
    assert "iterations" not in load_weights(second, path)
    assert same(first.get_weights(), second.get_weights())


def test_a_model_that_is_not_compiled_takes_the_weights_of_a_training(saved):
    model, path = saved
    other = build_model(**model.arguments)
    assert load_weights(other, path)["iterations"] == 3
    assert same(model.get_weights(), other.get_weights())


def test_load_makes_the_model_of_a_checkpoint(saved):
    model, path = saved
    loaded = vae.load(path).model
    assert loaded.arguments == model.arguments
    assert same(model.get_weights(), loaded.get_weights())
    assert np.array_equal(loaded.sample(2, seed=1), model.sample(2, seed=1))


@pytest.mark.parametrize("change", [{"network": "transformer"}, {"from_the_future": 1}, {"window": 3}])
def test_load_refuses_a_model_that_cannot_be_built(saved, change):
    path = saved[1]
    header = read_header(path)
    with forged(path) as file:
        set_header(file, json.dumps(header | {"model": header["model"] | change}).encode())
    with pytest.raises(CheckpointError, match="holds a model that cannot be built here"):
        vae.load(path)


def test_load_names_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        vae.load(tmp_path / "none.weights.h5")


# Slim checkpoints


@pytest.fixture
def slim(saved, tmp_path):
    """A slim checkpoint of the saved model, and the run's own."""
    loaded, path = vae.load(saved[1]).model, tmp_path / "slim.weights.h5"
    save_slim(loaded, path, read_header(saved[1]))
    return loaded, path, saved[1]


def test_a_slim_checkpoint_holds_the_rounded_weights(slim):
    rounded, path, full = slim
    loaded, original = vae.load(path).model, vae.load(full).model
    assert same(loaded.get_weights(), rounded.get_weights())
    assert not same(loaded.get_weights(), original.get_weights())
    for found, wanted in zip(loaded.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2**-11, atol=1e-7)
    assert read_header(path)["weights"] == weights_digest(loaded)


def test_a_slim_checkpoint_is_small(tmp_path):
    model = build_model("vae", data_shape=(28, 28, 1))
    save_slim(model, tmp_path / "slim.weights.h5", {})
    assert (tmp_path / "slim.weights.h5").stat().st_size < 2 * model.count_params() + 200_000


def test_a_slim_checkpoint_leaves_the_optimizer_as_it_is(slim):
    _, path, full = slim
    other = build(seed=1)
    before = [variable.numpy() for variable in other.optimizer.variables]
    load_weights(other, path)
    assert same(other.get_weights(), vae.load(path).model.get_weights())
    assert same(before, [variable.numpy() for variable in other.optimizer.variables])
    header = read_header(full)
    with forged(full) as file:
        del file["optimizer"]
        set_header(file, json.dumps(header).encode())
    with pytest.raises(CheckpointError, match="Skipping variable loading"):  # it does not say that it is slim
        load_weights(other, full)
