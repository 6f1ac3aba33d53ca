"""What the flags ask for, done: a run is configured, trained, evaluated and drawn."""

import math
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import evaluation
import flags
import pictures
import results
import training
from batches import evaluation_batches, training_batches
from checkpoints import CheckpointError, load_weights, remove_partial_files, save_model_weights
from config import FALLBACK, KEPT, checkpoint_path, resolve_config, run_folders, suit_data
from data import is_path, load_dataset
from downloads import OutOfReachError
from examples import Dataset
from readers import DataError
from vae import VAE, build_model

FORESEEABLE = (flags.FlagError, DataError, CheckpointError, training.TrainingError, OSError,
               MemoryError, tf.errors.ResourceExhaustedError)  # fmt: skip
LOG_LIKELIHOODS = {"log_p_x_given_y": "log p(x|y)", "log_p_x": "log p(x)"}
REPORTED = ("seed", "latent_size", "likelihood", "binarize", "network", "prior", "window", "beta", "warmup_epochs",
            "free_bits")  # fmt: skip
MOST_CLASSES_DRAWN = 50  # rows of samples.png where --labels names none


def run(given: dict[str, Any]) -> None:
    """Do what the given flags ask for."""
    config, header = resolve_config(given)
    with tf.device(choose_device(config["device"])):
        is_reporting = config["train"] or config["evaluate"]
        needs_data = is_reporting or len(header["model"]["data_shape"]) == 1  # points are drawn beside the data
        dataset = open_dataset(config, header) if needs_data else None
        if header is None:
            config = suit_data(config, given, dataset)
        if config["train"] and config["batch_size"] > len(dataset.train):
            raise flags.FlagError(
                f"--batch_size {config['batch_size']} is more than the {len(dataset.train)} training examples"
            )
        model = make_model(config, dataset, header)
        class_names = dataset.class_names if dataset else header["dataset"]["class_names"]
        if config["train"]:
            header = train(config, model, dataset, header)
        output_dir = run_folders(config)[1]
        output_dir.mkdir(parents=True, exist_ok=True)
        if is_reporting:
            evaluate(config, model, dataset, header)
        if config["train"] or config["sample"]:
            draw_samples(config, model, dataset, class_names)
        print(f"figures and pictures: {output_dir}")


def choose_device(wanted: str) -> str:
    """--device -> a name for tf.device. TensorFlow itself would silently compute on the CPU."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    if wanted == "cpu" or (wanted == "auto" and not gpus):
        return "/CPU:0"
    number = int(wanted.partition(":")[2] or 0)
    if number >= gpus:
        raise flags.FlagError(f"--device {wanted}: TensorFlow sees {gpus or 'no'} GPU here; use --device cpu")
    return f"/GPU:{number}"


def open_dataset(config: dict[str, Any], header: dict[str, Any] | None) -> Dataset:
    """The dataset of the run; without --dataset, MNIST or else the sample of it that needs no network.

    Raises:
        DataError: if it cannot be had, is not the one of the checkpoint, or does not suit the model.
    """
    try:
        dataset = load_dataset(
            config["dataset"], config["data_dir"], image_size=config["image_size"], offline=config["offline"]
        )
    except OutOfReachError as error:
        if config["dataset_given"]:
            raise
        print(
            f"NOTE: MNIST is out of reach, so this run uses {FALLBACK}, 5,000 digits with figures of its own. {error}"
        )
        config |= {"dataset": FALLBACK, "fallback_from": config["dataset"]}
        dataset = load_dataset(FALLBACK, image_size=config["image_size"])
    if config["validation_size"]:
        dataset = dataset.hold_out(config["validation_size"])
    if header:
        refuse_other_data(config, dataset, header)
    if config["model"] == "cvae" and not dataset.num_classes:
        raise DataError(f"--model cvae needs labels, and {dataset.name} has none: use --model vae")
    print(dataset.describe())
    for note in dataset.notes:
        print(f"NOTE: {note}")
    return dataset


def refuse_other_data(config: dict[str, Any], dataset: Dataset, header: dict[str, Any]) -> None:
    """Raise a DataError unless a checkpoint can be continued or evaluated with this dataset."""
    shapes = {"data_shape": list(dataset.data_shape), "num_classes": dataset.num_classes}
    for name, found in shapes.items():
        if header["model"][name] != found:
            raise DataError(
                f"{dataset.name} from {dataset.source} has {name} {found}, the checkpoint {header['model'][name]}"
            )
    split_matters = config["train"] or config["validation_size"] or is_path(config["dataset"])
    if split_matters and dataset.fingerprint() != header["dataset"]["fingerprint"]:
        raise DataError(
            f"{dataset.name} from {dataset.source} has other examples or labels, or another order of them, "
            f"than the checkpoint's from {header['dataset']['source']}"
        )


def make_model(config: dict[str, Any], dataset: Dataset, header: dict[str, Any] | None):
    """A fresh model for the dataset, or the checkpoint's with its weights; compiled."""
    if header is None:
        arguments = {
            name: config[name]
            for name in (
                "model",
                "latent_size",
                "network",
                "hidden_dims",
                "activation",
                "likelihood",
                "prior",
                "window",
            )
        }
        arguments |= {"data_shape": dataset.data_shape, "num_classes": dataset.num_classes}
    else:
        arguments = header["model"]
    if config["labels"] and not arguments["num_classes"]:
        raise flags.FlagError("--labels needs classes, and the data have none")
    if config["labels"] and max(config["labels"]) >= arguments["num_classes"]:
        raise flags.FlagError(
            f"--labels {max(config['labels'])}: there are classes 0 to {arguments['num_classes'] - 1} only"
        )
    objective = {}
    if config["train"]:
        warmup_steps = round(config["warmup_epochs"] * (len(dataset.train) // config["batch_size"]))
        objective = {"beta": config["beta"], "warmup_steps": warmup_steps, "free_bits": config["free_bits"]}
    keras.utils.set_random_seed(config["seed"])  # initial weights
    try:
        model = build_model(**arguments, **objective)
    except ValueError as error:
        raise flags.FlagError(str(error)) from None
    if config["labels"] and not model.is_conditional:
        raise flags.FlagError("--labels needs a prior that knows classes, and this model's is standard")
    if header is None:
        model.start_at_mean(dataset.mean())
    training.compile_model(model, config["learning_rate"])
    if header is not None:
        load_weights(model, config["checkpoint"])
        model.optimizer.learning_rate.assign(config["learning_rate"])
    return model


def train(config: dict[str, Any], model: VAE, dataset: Dataset, header: dict[str, Any] | None) -> dict[str, Any]:
    """Train to --num_epochs, leaving checkpoints, history and epoch pictures; returns the last checkpoint's header."""
    checkpoint_dir, output_dir = run_folders(config)
    if header is not None and header["epoch"] >= config["num_epochs"]:
        print(f"nothing left to train: {config['checkpoint']} has {header['epoch']} epochs of {config['num_epochs']}")
        return header
    source = pathlib.Path(config["checkpoint"]).resolve().parent if header else None
    if source == previous(checkpoint_dir).resolve():
        raise flags.FlagError(f"{source} would be replaced by the run {checkpoint_dir}: name another with --run_name")
    if source != checkpoint_dir.resolve():
        set_aside(checkpoint_dir, output_dir)
    for folder in (checkpoint_dir, output_dir):
        folder.mkdir(parents=True, exist_ok=True)
    remove_partial_files(checkpoint_dir)
    widths = " ".join(map(str, model.arguments["hidden_dims"]))
    lossy = f", prior {config['prior']}, window {config['window']}" if config["model"] == "vlae" else ""
    print(
        f"{config['model']} with {model.count_params():,} parameters: {config['network']} {widths}, likelihood "
        f"{config['likelihood']}, binarize {config['binarize']}, {config['latent_size']} latents{lossy}; batches of "
        f"{config['batch_size']}, {config['num_epochs']} epochs; checkpoints: {checkpoint_dir}"
    )
    state = header or {"history": [], "train_seconds": 0.0, "train_images": 0}
    state.setdefault("fallback_from", config.get("fallback_from"))
    state |= {
        "config": {name: config[name] for name in KEPT} | {"data_dir": str(pathlib.Path(config["data_dir"]).resolve())},
        "dataset": {name: getattr(dataset, name) for name in ("name", "source", "class_names")}
        | {"fingerprint": dataset.fingerprint()},
        "versions": results.versions(),
    }

    def after_epoch(epoch: int, seconds: float) -> None:
        state["epoch"] = epoch
        state["train_seconds"] += seconds
        state["train_images"] += len(dataset.train) // config["batch_size"] * config["batch_size"]
        save_model_weights(model, checkpoint_path(config), state)
        results.write_history(output_dir, state["history"])
        if epoch % config["sample_and_save_frequency"] == 0:
            save_model_weights(model, checkpoint_path(config, epoch), state)
            draw_epoch(config, model, dataset, prefix=f"epoch_{epoch:03d}_")

    try:
        training.train(
            model,
            training_batches(dataset.train, config["batch_size"], seed=config["seed"], binarize=config["binarize"]),
            evaluation_batches(dataset.test, seed=config["seed"], binarize=config["binarize"]),
            split=dataset.split,
            num_epochs=config["num_epochs"],
            history=state["history"],
            after_epoch=after_epoch,
        )
    except KeyboardInterrupt:
        newest = checkpoint_path(config)
        told = (
            f"the last whole epoch is in {newest}: add --load_weights to continue"
            if newest.exists()
            else "no checkpoint yet"
        )
        print(f"\nstopped in epoch {len(state['history']) + 1}; {told}", file=sys.stderr)
        raise
    return state


def set_aside(*folders: pathlib.Path) -> None:
    """Move an earlier run of the same name to <run>.previous, in place of the one there.

    A run that left no file, since it failed in its first epoch, takes no run's place.
    """
    for folder in folders:
        if folder.exists() and any(folder.iterdir()):
            shutil.rmtree(previous(folder), ignore_errors=True)
            folder.rename(previous(folder))
            print(f"an earlier run was at {folder}: moved to {previous(folder)}")


def previous(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f"{folder.name}.previous")


def evaluate(config: dict[str, Any], model: VAE, dataset: Dataset, header: dict[str, Any]) -> None:
    """metrics.json, history and the pictures that need held-out data."""
    batches = evaluation_batches(dataset.test, seed=config["seed"], binarize=config["binarize"])
    figures = model.evaluate(batches, verbose=0, return_dict=True)
    output_dir = run_folders(config)[1]
    metrics = {
        "model": config["model"],
        "dataset": dataset.name,
        "dataset_source": dataset.source,
        "fallback_from": header["fallback_from"],
        "run_name": output_dir.name,
        "epochs": header["epoch"],
        **{name: config[name] for name in REPORTED},
        "parameters": model.count_params(),
        "train_examples": len(dataset.train),
        "train_seconds": round(header["train_seconds"], 2),
        "images_per_second": round(header["train_images"] / header["train_seconds"], 1),
        "versions": results.versions(),
        "machine": results.machine(),
        dataset.split: {
            **{name: float(figures[name]) for name in ("elbo", "rate", "distortion")},
            **bits_per_dim(config, dataset, float(figures["elbo"])),
            "num_examples": len(dataset.test),
        },
    }
    results.write_metrics(output_dir, metrics)
    if config["train"]:  # an older checkpoint's history is not that of the run
        results.write_history(output_dir, header["history"])
        pictures.draw_history(output_dir, header["history"])
    pictures.draw_reconstructions(output_dir, model, dataset, config["binarize"], config["seed"])
    pictures.draw_interpolation(output_dir, model, dataset, config["binarize"], config["seed"])
    pictures.draw_latent_space(output_dir, model, dataset, config["binarize"], config["seed"])
    found = metrics[dataset.split]
    line = "  ".join(f"{name} {found[name]:.2f}" for name in ("elbo", "rate", "distortion"))
    if "bits_per_dim" in found:
        line += f"  bits_per_dim {found['bits_per_dim']:.3f}"
    print(f"{dataset.split} figures of {len(dataset.test):,} examples, in nats per example: {line}", flush=True)
    if config["num_importance_samples"]:  # may take long: all else is written by now
        found |= log_likelihoods(config, model, dataset, batches)
        results.write_metrics(output_dir, metrics)


def log_likelihoods(config: dict[str, Any], model: VAE, dataset: Dataset, batches: tf.data.Dataset) -> dict[str, Any]:
    """Importance-weighted figures, each with its standard error over the examples; also printed."""
    class_probs = None
    if model.is_conditional and not dataset.has_several_labels():
        class_probs = dataset.train.labels.mean(axis=0)
    elif model.is_conditional:
        print("NOTE: no log p(x): with several labels at a time there is no sum over classes")
    values = evaluation.log_likelihoods(
        model, batches, num_samples=config["num_importance_samples"], seed=config["seed"], class_probs=class_probs
    )
    num_samples = config["num_importance_samples"]
    found = {"num_importance_samples": num_samples}
    for name, log_likelihood in values.items():
        mean, error = np.mean(log_likelihood), np.std(log_likelihood) / math.sqrt(len(log_likelihood))
        found |= {name: float(mean), f"{name}_standard_error": float(error)}
        symbol = LOG_LIKELIHOODS[name]
        print(f"{symbol} with {num_samples} importance samples: {mean:.2f} (standard error over examples {error:.2f})")
    return found


def bits_per_dim(config: dict[str, Any], dataset: Dataset, elbo: float) -> dict[str, float]:
    """-elbo in bits per pixel and channel, or nothing where p(x|z) is a density, or pixels are grey for a Bernoulli."""
    if config["likelihood"] == "logistic" or (config["likelihood"] == "bernoulli" and config["binarize"] != "none"):
        return {"bits_per_dim": -elbo / (math.prod(dataset.data_shape) * math.log(2))}
    return {}


def draw_samples(
    config: dict[str, Any], model: VAE, dataset: Dataset | None, class_names: Sequence[str], prefix: str = ""
) -> None:
    """samples.png (and samples.npz for --sample), and the manifold where there are two latents."""
    output_dir = run_folders(config)[1]
    classes = None
    if model.is_conditional:
        classes = config["labels"] or range(min(len(class_names), MOST_CLASSES_DRAWN))
    pictures.draw_samples(
        output_dir,
        model,
        num=config["num_samples"],
        classes=classes,
        class_names=class_names,
        seed=config["seed"],
        dataset=dataset,
        prefix=prefix,
        save_arrays=config["sample"] and not prefix,
    )
    if config["latent_size"] == 2 and not prefix:
        pictures.draw_manifold(output_dir, model, class_names, config["seed"], dataset)


def draw_epoch(config: dict[str, Any], model: VAE, dataset: Dataset, prefix: str) -> None:
    """The pictures that show how training goes on."""
    draw_samples(config, model, dataset, dataset.class_names, prefix)
    output_dir = run_folders(config)[1]
    pictures.draw_reconstructions(output_dir, model, dataset, config["binarize"], config["seed"], prefix)
