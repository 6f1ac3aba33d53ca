"""What the flags ask for, done: a run is configured, trained, evaluated and drawn."""

import hashlib
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

import visualize
from app import flags, records
from app.config import CHANGEABLE, FALLBACK, KEPT, OF_MACHINE, checkpoint_path, resolve_config, run_folders, suit_data
from app.events import EventLog, require_tensorboard
from app.report import Report, describe_run
from data import is_path, load_dataset, load_others
from pictures import examples, latents
from sources.batches import evaluation_batches, training_batches
from sources.downloads import OutOfReachError
from sources.examples import Dataset
from sources.readers import DataError
from storage.checkpoints import CheckpointError, all_variables, load_weights, read_header, save_model_weights
from storage.errors import UserError
from storage.files import make_folder, remove_partial
from storage.locks import holding
from training import devices, loop
from training.interrupts import Stopped
from training.state import TrainingState
from vae import VAE, build_model

FORESEEABLE = (UserError, OSError, MemoryError, tf.errors.ResourceExhaustedError)
EPOCH_PICTURES = ("samples", "reconstructions")
MOST_CLASSES_DRAWN = 50  # rows of samples.png where --labels names none


def run(given: dict[str, Any]) -> None:
    """Do what the given flags ask for."""
    config, header = resolve_config(given)
    if config["tensorboard"]:
        require_tensorboard()
    strategy = devices.make_strategy(config["strategy"], config["device"], config["num_replicas"])
    is_chief = devices.is_chief(strategy)
    with tf.device(devices.choose_device(config["device"])), devices.among_workers(strategy):
        is_reporting = config["train"] or config["evaluate"]
        needs_data = is_reporting or len(header["model"]["data_shape"]) == 1  # points are drawn beside the data
        dataset = open_dataset(config, header) if needs_data else None
        if header is None:
            config = suit_data(config, given, dataset)
        if config["train"] and config["batch_size"] > len(dataset.train):
            raise flags.FlagError(
                f"--batch_size {config['batch_size']} is more than the {len(dataset.train)} training examples"
            )
        if config["train"] and config["batch_size"] % strategy.num_replicas_in_sync:
            raise flags.FlagError(
                f"--batch_size {config['batch_size']} cannot be shared by {strategy.num_replicas_in_sync} replicas"
            )
        with strategy.scope():
            model = make_model(config, dataset, header)
        others = open_others(config, model, dataset) if is_reporting else None  # before anything that takes long
        output_dir, of_data = run_folders(config)[1], vars(dataset) if dataset else header["dataset"]
        caption = f"run {config['model']}/{output_dir.name}, dataset {of_data['name']}"
        held = run_folders(config) if config["train"] and is_chief else ()
        with holding(held), visualize.captioned(caption):
            if header is not None:
                header |= load_weights(model, config["checkpoint"])  # a training may have replaced the file meanwhile
                model.optimizer.learning_rate.assign(config["learning_rate"])
            if config["strategy"] == "multi_worker":
                refuse_other_workers(config, model, dataset, header)
            if config["train"]:
                header = train(config, model, dataset, header)
            if not is_chief:
                return
            make_folder(output_dir)
            try:
                if is_reporting:
                    evaluate(config, model, dataset, header, others)
                if config["train"] or config["sample"]:
                    draw_samples(config, model, dataset, of_data["class_names"])
            except Stopped as stopped:
                told = "stopped among figures and pictures; the same command with --load_weights makes them again"
                raise Stopped(stopped.number, told) if config["train"] else stopped from None
        print(f"figures and pictures: {output_dir}")


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
    """A fresh model for the dataset, or one that the checkpoint's weights fit; compiled."""
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
        model = build_model(**arguments, mixed_precision=config["mixed_precision"], **objective)
    except ValueError as error:
        raise flags.FlagError(str(error)) from None
    if config["labels"] and not model.is_conditional:
        raise flags.FlagError("--labels needs a prior that knows classes, and this model's is standard")
    if header is None:
        model.start_at_mean(dataset.mean())
    loop.compile_model(model, config["learning_rate"])
    return model


def refuse_other_workers(config: dict[str, Any], model: VAE, dataset: Dataset, header: dict[str, Any] | None) -> None:
    """Raise a WorkersError, on each of them, unless all workers start from the same and with the same settings."""
    weights = hashlib.sha256(b"".join(variable.numpy().tobytes() for variable in all_variables(model)))
    values = {f"--{name}": config[name] for name in KEPT if name not in OF_MACHINE} | {
        "data": dataset.fingerprint(),
        "checkpoints": [weights.hexdigest(), *([header["epoch"], header.get("step")] if header else [])],
    }
    devices.refuse_differences(values, model.distribute_strategy)


def train(config: dict[str, Any], model: VAE, dataset: Dataset, header: dict[str, Any] | None) -> dict[str, Any]:
    """Train to --num_epochs, leaving checkpoints, history and epoch pictures; returns the last checkpoint's header."""
    checkpoint_dir, output_dir = run_folders(config)
    state = TrainingState.from_header(header or {})
    is_chief = devices.is_chief(model.distribute_strategy)
    source = pathlib.Path(config["checkpoint"]).resolve().parent if header else None
    was_cut_off = source == checkpoint_dir.resolve() and lacks_epoch_files(config, header)
    for folder in (checkpoint_dir, output_dir) if is_chief else ():
        remove_partial(folder)
    if header is not None and header["epoch"] >= config["num_epochs"]:
        print(f"nothing left to train: {config['checkpoint']} has {header['epoch']} of {config['num_epochs']} epochs")
        if not was_cut_off:
            return header
    if source == previous(checkpoint_dir).resolve():
        raise flags.FlagError(f"{source} would be replaced by the run {checkpoint_dir}: name another with --run_name")
    if is_chief:
        if source != checkpoint_dir.resolve():
            set_aside(config)
        for folder in (checkpoint_dir, output_dir):
            make_folder(folder)
    widths = " ".join(map(str, model.arguments["hidden_dims"]))
    lossy = f", prior {config['prior']}, window {config['window']}" if config["model"] == "vlae" else ""
    num_replicas = model.distribute_strategy.num_replicas_in_sync
    replicas = f"; {num_replicas} replicas" if num_replicas > 1 else ""
    print(
        f"{config['model']} with {model.count_params():,} parameters: {config['network']} {widths}, likelihood "
        f"{config['likelihood']}, binarize {config['binarize']}, latent size {config['latent_size']}{lossy}; batch "
        f"size {config['batch_size']}; epochs: {config['num_epochs']}; checkpoints: {checkpoint_dir}{replicas}"
    )
    state.note_settings(state.epoch + 1, {name: config[name] for name in CHANGEABLE})
    about = {
        "fallback_from": (header or config).get("fallback_from"),
        "config": {name: config[name] for name in KEPT} | {"data_dir": str(pathlib.Path(config["data_dir"]).resolve())},
        "dataset": {name: getattr(dataset, name) for name in ("name", "source", "class_names")}
        | {"fingerprint": dataset.fingerprint(), "held_out": len(dataset.test)},
        "versions": records.versions(),
    }
    events = EventLog(output_dir / "tensorboard") if config["tensorboard"] else None

    def save() -> None:
        if is_chief:
            save_model_weights(model, checkpoint_path(config), about | state.to_header())

    def after_epoch(epoch: int) -> None:
        if not is_chief:
            return
        records.write_history(output_dir, state.history)
        if events:
            events.write_figures(state.history[-1])
        if epoch % config["sample_and_save_frequency"] == 0:
            draw_epoch(config, model, dataset, prefix=f"epoch_{epoch:03d}_")
            if events:
                for name in EPOCH_PICTURES:
                    events.write_picture(output_dir / f"epoch_{epoch:03d}_{name}.png", name, epoch)
            save_model_weights(model, checkpoint_path(config, epoch), about | state.to_header())

    if was_cut_off:
        after_epoch(state.epoch)
    try:
        loop.train(
            model,
            training_batches(dataset.train, config["batch_size"], seed=config["seed"], binarize=config["binarize"]),
            evaluation_batches(dataset.test, seed=config["seed"], binarize=config["binarize"]),
            batch_size=config["batch_size"],
            split=dataset.split,
            num_epochs=config["num_epochs"],
            state=state,
            save=save,
            after_epoch=after_epoch,
            save_every_steps=config["save_every_steps"],
        )
    except Stopped as stopped:
        where = f"in epoch {state.epoch + 1}, after step {state.step}" if state.step else "between epochs"
        newest = checkpoint_path(config)
        is_own = header is None or pathlib.Path(config["checkpoint"]).resolve() == newest.resolve()
        how = "add --load_weights to the same command" if is_own else f"give --checkpoint {newest}"
        raise Stopped(stopped.number, f"stopped {where}; to go on from there, {how}") from None
    return about | state.to_header()


def lacks_epoch_files(config: dict[str, Any], header: dict[str, Any]) -> bool:
    """Whether what a run leaves of an epoch is not all there, since it was killed just then."""
    epoch, frequency = header["epoch"], header["config"]["sample_and_save_frequency"]
    return not header.get("step") and epoch % frequency == 0 and not checkpoint_path(config, epoch).exists()


def set_aside(config: dict[str, Any]) -> None:
    """Move an earlier run of the same name to <run>.previous, in place of the one there.

    A run that left no file, or was stopped in its first epoch, takes no run's place.
    """
    folders = [folder for folder in run_folders(config) if folder.exists() and any(folder.iterdir())]
    if previous(run_folders(config)[0]).exists() and is_in_first_epoch(checkpoint_path(config)):
        for folder in folders:
            shutil.rmtree(folder)
        print(f"an earlier run was stopped in its first epoch: removed {' and '.join(map(str, folders))}")
        return
    for folder in folders:
        shutil.rmtree(previous(folder), ignore_errors=True)
        folder.rename(previous(folder))
        print(f"an earlier run was at {folder}: moved to {previous(folder)}")


def is_in_first_epoch(checkpoint: pathlib.Path) -> bool:
    try:
        return read_header(checkpoint)["epoch"] == 0
    except CheckpointError:
        return False


def previous(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f"{folder.name}.previous")


def evaluate(
    config: dict[str, Any], model: VAE, dataset: Dataset, header: dict[str, Any], others: Dataset | None
) -> None:
    """metrics.json, history and the pictures that need held-out data; what may take long comes last."""
    output_dir, binarize, seed = run_folders(config)[1], config["binarize"], config["seed"]
    report = Report(model, dataset, binarize=binarize, seed=seed, max_examples=config["max_examples"])
    metrics = describe_run(config, model, dataset, header, output_dir.name)
    figures = metrics[dataset.split] = report.bounds()
    figures["latents"] = report.latents()
    records.write_metrics(output_dir, metrics)
    if config["train"]:  # an older checkpoint's history is not that of the run
        records.write_history(output_dir, header["history"])
        examples.draw_history(output_dir, header["history"])
    examples.draw_reconstructions(output_dir, model, dataset, binarize, seed)
    latents.draw_interpolation(output_dir, model, dataset, binarize, seed)
    latents.draw_latent_space(output_dir, model, dataset, binarize, seed)
    if not dataset.is_points:
        latents.draw_traversals(output_dir, model, dataset, report.terms, binarize, seed)
        if model.is_conditional and not dataset.has_several_labels():
            latents.draw_style_transfer(output_dir, model, dataset, binarize, seed)
    if config["evaluate"]:
        figures["probes"] = report.probes()
    if config["num_importance_samples"]:
        figures |= report.log_likelihoods(config["num_importance_samples"])
    records.write_metrics(output_dir, metrics)
    if others is not None:
        num_samples = max(config["num_importance_samples"], 1)
        found, scores = report.out_of_distribution(others, num_samples)
        figures["out_of_distribution"] = {others.name: found}
        records.write_metrics(output_dir, metrics)
        examples.draw_separation(output_dir, others.name, scores, found["auroc"], num_samples)


def open_others(config: dict[str, Any], model: VAE, dataset: Dataset) -> Dataset | None:
    """The data of --ood_dataset, if it was given, in the shape of the run's own."""
    if not config["ood_dataset"]:
        return None
    if model.is_conditional and dataset.has_several_labels():
        raise flags.FlagError("--ood_dataset needs p(x), which a conditional model of several labels at a time lacks")
    return load_others(config["ood_dataset"], config["data_dir"], dataset.data_shape, offline=config["offline"])


def draw_samples(
    config: dict[str, Any], model: VAE, dataset: Dataset | None, class_names: Sequence[str], prefix: str = ""
) -> None:
    """samples.png (and samples.npz for --sample), and the manifold where there are two latents."""
    output_dir = run_folders(config)[1]
    classes = None
    if model.is_conditional:
        classes = config["labels"] or range(min(len(class_names), MOST_CLASSES_DRAWN))
    examples.draw_samples(
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
        latents.draw_manifold(output_dir, model, class_names, config["seed"], dataset)


def draw_epoch(config: dict[str, Any], model: VAE, dataset: Dataset, prefix: str) -> None:
    """The pictures that show how training goes on."""
    draw_samples(config, model, dataset, dataset.class_names, prefix)
    output_dir = run_folders(config)[1]
    examples.draw_reconstructions(output_dir, model, dataset, config["binarize"], config["seed"], prefix)
