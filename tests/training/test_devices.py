"""Several devices: the figures are those of one, whatever computes them. Each strategy has processes of its own."""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY, assert_same_tensors, start_process, tensors, wait_for

from app import flags
from parts import networks, replicas
from sources import batches
from sources.examples import Examples
from storage.checkpoints import read_header
from training import devices, loop
from training.state import TrainingState
from training.steps import Steps
from vae import build_model

NUM_REPLICAS = 2
MODELS = {
    "vae": {"model": "vae"},
    "vlae": {"model": "vlae", "prior": "flow", "window": 3, "free_bits": 0.05},
}
LIKE_ONE = {"rtol": 1e-4, "atol": 1e-4}


def figures(strategy, name) -> list[float]:
    """Those of two epochs, with a binarization that has noise, and test batches that replicas cannot share evenly."""
    rng, labels = np.random.default_rng(0), np.eye(3, dtype=np.uint8)[np.arange(48) % 3]
    examples = Examples(rng.integers(0, 256, (48, 5, 5, 1), dtype=np.uint8), labels)
    keras.utils.set_random_seed(0)
    arguments = {"data_shape": (5, 5, 1), "num_classes": 3, "latent_size": 2, "hidden_dims": (8,), **MODELS[name]}
    with strategy.scope():
        model = build_model(**arguments)
        loop.compile_model(model, learning_rate=0.01)
    state = TrainingState()
    loop.train(
        model,
        batches.training_batches(examples, 12, seed=0, binarize="dynamic"),
        batches.evaluation_batches(examples[np.arange(14)], seed=0, binarize="dynamic"),
        batch_size=12,
        split="test",
        num_epochs=2,
        state=state,
        save=lambda: None,
        report=lambda row, seconds: None,
        after_epoch=lambda epoch: None,
    )
    return [value for row in state.history for value in row.values()]


def weights_after_sgd(strategy, name) -> list[list[float]]:
    """A few steps of an optimizer of Keras, which shows the scale of the gradients as Adam and Muon do not."""
    rng = np.random.default_rng(0)
    examples = Examples(
        rng.integers(0, 256, (48, 5, 5, 1), dtype=np.uint8), np.eye(3, dtype=np.uint8)[np.arange(48) % 3]
    )
    keras.utils.set_random_seed(0)
    arguments = {"data_shape": (5, 5, 1), "num_classes": 3, "latent_size": 2, "hidden_dims": (8,), **MODELS[name]}
    with strategy.scope():
        model = build_model(**arguments)
        model.compile(keras.optimizers.SGD(0.05), jit_compile=False)
        model.optimizer.build(model.trainable_variables)
    before = [weight.numpy() for weight in model.trainable_variables]
    for _ in Steps(model).train(batches.training_batches(examples, 12, seed=0, binarize="dynamic")(0)):
        pass
    after = [weight.numpy() for weight in model.trainable_variables]
    return [(new - old).ravel().tolist() for new, old in zip(after, before, strict=True)]


def of_replicas() -> dict:
    """The figures, the way of SGD, and noise for 4 rows, of several logical CPUs."""
    batches.TEST_BATCH_SIZE = 13  # the last batch has one example, fewer than there are replicas
    strategy = devices.make_strategy("mirrored", "cpu", NUM_REPLICAS)
    noise = strategy.run(lambda: replicas.batch_normal(tf.constant([4, 2]), tf.constant([1, 2])))
    noise = [values.numpy().tolist() for values in strategy.experimental_local_results(noise)]
    sgd = {name: weights_after_sgd(strategy, name) for name in MODELS}
    return {"noise": noise, "sgd": sgd, **{name: figures(strategy, name) for name in MODELS}}


@pytest.fixture(scope="module")
def several() -> dict:
    command = "import json, test_devices; print(json.dumps(test_devices.of_replicas()))"
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests/training")])
    done = subprocess.run([sys.executable, "-c", command], env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_several_replicas_have_the_figures_of_one_device(name, several, monkeypatch):
    """Which XLA compiles, as it does in a run, while it cannot compile what spans devices."""
    monkeypatch.setattr(batches, "TEST_BATCH_SIZE", 13)
    monkeypatch.setitem(networks.NETWORKS["mlp"], "compiled", "loop")
    np.testing.assert_allclose(several[name], figures(tf.distribute.get_strategy(), name), **LIKE_ONE)


@pytest.mark.slow
def test_a_strategy_of_one_replica_has_the_figures_of_one_device():
    one = tf.distribute.MirroredStrategy(["CPU:0"])
    np.testing.assert_array_equal(figures(one, "vae"), figures(tf.distribute.get_strategy(), "vae"))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_several_replicas_have_the_scale_of_one_devices(name, several):
    one = weights_after_sgd(tf.distribute.get_strategy(), name)
    assert max(np.abs(np.concatenate(one))) > 0.01
    for found, expected in zip(several["sgd"][name], one, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_each_replica_has_the_noise_of_its_rows(several):
    whole = replicas.batch_normal(tf.constant([4 * NUM_REPLICAS, 2]), tf.constant([1, 2]))
    assert len(np.unique(whole)) == 8 * NUM_REPLICAS
    for replica, noise in enumerate(several["noise"]):
        np.testing.assert_array_equal(noise, whole[replica::NUM_REPLICAS])


def test_the_noise_of_few_rows_begins_that_of_many():
    """As it must where replicas share a batch unevenly."""
    many, few = (replicas.batch_normal(tf.constant([rows, 5]), tf.constant([3, 4])) for rows in (40, 7))
    np.testing.assert_array_equal(many[:7], few)


# Workers, on this machine

FLAGS = "--dataset mnist --batch_size 32 --hidden_dims 16 --latent_size 3 --num_samples 2 --binarize dynamic".split()
CHECKPOINT = pathlib.Path("model_ckpts/vae/mnist/vae.weights.h5")


def start_workers(folders, *more, data_dir) -> list[subprocess.Popen]:
    """Two processes, each in its own folder."""
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in (one, other)]
    started = []
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    for index, folder in enumerate(folders):
        config = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        given = ["--strategy", "multi_worker", "--data_dir", str(data_dir), *FLAGS, *more]
        started.append(start_process(*given, cwd=folder, env=environment | {"TF_CONFIG": config}))
    return started


def ended(workers, exit_codes, seconds=300) -> list[tuple[str, str]]:
    results = [worker.communicate(timeout=seconds) for worker in workers]
    assert [worker.returncode for worker in workers] == exit_codes, results
    return results


@pytest.fixture
def folders(tmp_path):
    made = [tmp_path / "chief", tmp_path / "other"]
    for folder in made:
        folder.mkdir()
    return made


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def history(folder):
    with open(folder / "outputs/vae/mnist/history.csv") as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


@pytest.mark.slow
def test_two_workers_have_the_figures_of_one_device_and_only_the_chief_writes(
    folders, idx_folder, script, tmp_path, capsys
):
    (out, errors), (other_out, other_errors) = ended(
        start_workers(folders, "--num_epochs", "2", data_dir=idx_folder), [0, 0]
    )
    assert errors == other_errors == ""
    assert "epoch 2/2" in out
    assert "; 2 replicas\n" in out
    assert len(other_out.splitlines()) == 2
    assert files(folders[1]) == []
    assert script("--binarize", "dynamic", "--num_samples", "2") == 0
    np.testing.assert_allclose(history(folders[0]), history(tmp_path), **LIKE_ONE)
    one_device = {path for path in files(tmp_path) if path.startswith(("model_ckpts", "outputs"))}
    assert set(files(folders[0])) == one_device


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_worker_killed_ends_the_other_and_the_run_resumes(folders, idx_folder, killed, tmp_path):
    endless = ["--num_epochs", "100000", "--save_every_steps", "3"]
    workers = start_workers(folders, *endless, data_dir=idx_folder)
    wait_for((folders[0] / CHECKPOINT).exists, seconds=200)
    workers[killed].send_signal(signal.SIGKILL)
    left = workers[1 - killed]
    _, errors = left.communicate(timeout=120)
    workers[killed].communicate()
    assert left.returncode == 1
    assert errors.splitlines()[0].startswith("assignment.py: error: another worker was lost")
    assert len(errors.splitlines()) == 1
    header = read_header(folders[0] / CHECKPOINT)
    (folders[1] / CHECKPOINT).parent.mkdir(parents=True)
    (folders[1] / CHECKPOINT).write_bytes((folders[0] / CHECKPOINT).read_bytes())
    epochs = str(header["epoch"] + 1)
    ended(start_workers(folders, "--load_weights", "--num_epochs", epochs, data_dir=idx_folder), [0, 0])
    whole = [tmp_path / "whole", tmp_path / "beside"]
    for folder in whole:
        folder.mkdir()
    ended(start_workers(whole, "--num_epochs", epochs, data_dir=idx_folder), [0, 0])
    assert_same_tensors(folders[0] / CHECKPOINT, whole[0] / CHECKPOINT)
    np.testing.assert_allclose(history(folders[0]), history(whole[0]), rtol=1e-5)


@pytest.mark.slow
def test_ctrl_c_on_one_worker_stops_and_saves_on_all(folders, idx_folder):
    workers = start_workers(folders, "--num_epochs", "100000", data_dir=idx_folder)
    wait_for((folders[0] / CHECKPOINT).exists, seconds=200)
    workers[1].send_signal(signal.SIGINT)
    results = ended(workers, [130, 130])
    assert "--load_weights" in results[0][1]
    assert read_header(folders[0] / CHECKPOINT)["epoch"] >= 1


@pytest.mark.slow
def test_workers_with_other_weights_do_not_train_together(folders, idx_folder):
    for folder, seed in zip(folders, "12", strict=True):
        done = start_process("--data_dir", str(idx_folder), *FLAGS, "--num_epochs", "1", "--seed", seed, cwd=folder)
        assert done.wait(timeout=200) == 0
    before = tensors(folders[0] / CHECKPOINT)
    workers = start_workers(folders, "--load_weights", "--num_epochs", "2", "--seed", "1", data_dir=idx_folder)
    for _, errors in ended(workers, [1, 1]):
        assert errors.splitlines()[-1].startswith(
            "assignment.py: error: the workers do not all have the same checkpoints:"
        )
    assert all(np.array_equal(before[name], value) for name, value in tensors(folders[0] / CHECKPOINT).items())


# Flags

TWO = ["a:1", "b:2"]


@pytest.mark.parametrize(
    ("cluster", "task", "message"),
    [
        (None, None, "TF_CONFIG is not set"),
        ({"worker": TWO}, None, "is not JSON with cluster and task"),
        ({"worker": TWO, "ps": TWO}, {"type": "worker", "index": 0}, "may have workers only"),
        ({"worker": TWO}, {"type": "chief", "index": 0}, "may have workers only"),
        ({"worker": TWO[:1]}, {"type": "worker", "index": 0}, "must name two workers or more"),
        ({"worker": ["a", "b"]}, {"type": "worker", "index": 0}, "each as host:port"),
        ({"worker": TWO}, {"type": "worker", "index": 2}, "has no worker 2"),
        ({"worker": TWO}, {"type": "worker", "index": "0"}, "has no worker 0"),
    ],
)
def test_a_wrong_cluster_is_told_at_once(cluster, task, message, monkeypatch, capsys):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if cluster:
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster} | ({"task": task} if task else {})))
    with pytest.raises(SystemExit) as exit_info:
        flags.parse_flags(["--strategy", "multi_worker"])
    assert exit_info.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_a_right_cluster_is_taken(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": TWO}, "task": {"type": "worker", "index": 1}}))
    assert flags.parse_flags(["--strategy", "multi_worker"]) == {"strategy": "multi_worker"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--num_replicas 2", "--num_replicas goes with --strategy mirrored"),
        ("--strategy mirrored --evaluate", "--strategy goes with training"),
        ("--strategy mirrored --device gpu:1", "--device gpu:1 contradicts --strategy mirrored"),
        ("--strategy mirrored --num_replicas 3 --batch_size 32", "--batch_size 32 cannot be shared by 3 replicas"),
    ],
)
def test_flags_that_contradict_a_strategy(line, message, capsys):
    with pytest.raises(SystemExit):
        flags.parse_flags(line.split())
    assert message in capsys.readouterr().err


def test_mirrored_without_a_gpu_asks_how_many_replicas(script, capsys):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is one")
    assert script("--strategy", "mirrored") == 1
    assert "--num_replicas N makes N replicas of the CPU" in capsys.readouterr().err


# Mixed precision


@pytest.mark.parametrize("network", ["mlp", "conv", pytest.param("resnet", marks=pytest.mark.slow)])
def test_mixed_precision_changes_what_networks_compute_in_and_nothing_else(network):
    kind = {"mlp": "cvae", "conv": "vae", "resnet": "vlae"}[network]
    more = {"window": 5, "pixel_dims": (8, 8, 8), "prior": "flow"} if kind == "vlae" else {}
    found = []
    for mixed_precision in (False, True):
        keras.utils.set_random_seed(0)
        model = build_model(
            kind,
            data_shape=(6, 6, 1),
            num_classes=3,
            latent_size=2,
            hidden_dims=(8, 8),
            network=network,
            mixed_precision=mixed_precision,
            **more,
        )
        assert keras.config.dtype_policy().name == "float32"
        computes = {layer.compute_dtype for layer in model._flatten_layers()}
        assert ("bfloat16" in computes) == mixed_precision
        if kind == "vlae":
            computes = {layer.compute_dtype for layer in model.likelihood.pixel_layers.hidden}
            assert computes == {"bfloat16" if mixed_precision else "float32"}
        x = tf.round(tf.random.stateless_uniform((16, 6, 6, 1), [0, 1]))
        labels = tf.one_hot(np.arange(16) % 3, 3)
        assert np.all(np.isfinite(model.sample(4, labels[:4])))
        with tf.GradientTape() as tape:
            distortion, rates = model.terms(x, labels, tf.constant([2, 3]))
            loss = model.objective(distortion, rates)
        gradients = tape.gradient(loss, model.trainable_variables)
        tensors_of_step = [distortion, rates, loss, *model.encode(x, labels), *gradients, model.decode(rates, labels)]
        assert {tensor.dtype for tensor in tensors_of_step} == {tf.float32}
        assert all(np.all(np.isfinite(tensor)) for tensor in tensors_of_step)
        assert {variable.dtype for variable in model.variables} == {"float32"}
        found.append((distortion.numpy(), rates.numpy(), model.arguments))
    assert found[0][2] == found[1][2]
    for plain, mixed in zip(found[0][:2], found[1][:2], strict=True):
        np.testing.assert_allclose(mixed, plain, rtol=0.02, atol=0.02)
        assert np.any(mixed != plain)


@pytest.mark.slow
def test_mixed_precision_is_kept_until_it_is_turned_off(script):
    assert script("--mixed_precision", "--num_epochs", "1") == 0
    checkpoint = pathlib.Path("model_ckpts/vae/mnist/vae.weights.h5")
    assert read_header(checkpoint)["config"]["mixed_precision"]
    assert script("--load_weights", "--num_epochs", "2") == 0
    assert read_header(checkpoint)["config"]["mixed_precision"]
    assert script("--load_weights", "--num_epochs", "3", "--mixed_precision", "false") == 0
    assert not read_header(checkpoint)["config"]["mixed_precision"]
    assert script("--sample", "--mixed_precision", "--checkpoint", checkpoint, only=True) == 0
