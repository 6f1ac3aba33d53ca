"""Performs a resolved run: trains, evaluates, samples. This module imports TensorFlow."""

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from app.encode import encode
from app.evaluate import evaluate
from app.explore import explore
from app.fill_in import fill_in
from app.page import write_page
from app.plan import Plan
from app.rules import FlagError
from app.run import Run
from app.sample import sample
from app.score import score
from app.settings import ROWS, Settings, arguments_of, names
from app.slim import slim
from app.train import train
from data import Dataset
from parts.catalogue import MODELS
from sources.batches import steps_per_epoch
from storage.checkpoints import all_variables, load_weights
from storage.errors import UserError
from storage.files import make_folder
from storage.locks import holding
from training import devices
from training.interrupts import Stopped
from training.loop import compile_model
from training.state import TrainingState
from vae import VAE, build_model, in_use, load

USES = {"encode": encode, "score": score, "fill_in": fill_in}


def perform(plan: Plan, strategy: tf.distribute.Strategy | None = None) -> None:
    """Train, evaluate and sample, as the run's settings say. Without a strategy this is done on one device.

    Raises:
        UserError: for whatever can be reported in one line.
    """
    strategy = strategy or tf.distribute.get_strategy()
    try:
        with tf.device(devices.choose_device(plan.run.settings.device)), devices.among_workers(strategy):
            perform_on(plan, strategy)
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(str(error).splitlines()[0]) from error


def perform_on(plan: Plan, strategy: tf.distribute.Strategy) -> None:
    """Perform the verbs in turn. Of several machines only the chief goes on after training."""
    run, dataset, header = plan.run, plan.dataset, plan.header
    settings, is_chief = run.settings, devices.is_chief(strategy)
    for line in plan.lines():
        print(line)
    if settings.slim:
        slim(run, header)
        return
    if settings.train and settings.batch_size % strategy.num_replicas_in_sync:
        raise FlagError(
            f"--batch_size {settings.batch_size} cannot be shared by {strategy.num_replicas_in_sync} replicas"
        )
    with strategy.scope():
        model = make_model(run, dataset)
    with holding(run.folders.both if settings.train and is_chief else ()):
        if header is not None:
            header = header | load_weights(model, run.source)  # a training may have replaced the file since it was read
            model.optimizer.learning_rate.assign(settings.learning_rate)
            if header.get("slim"):
                start_optimizer(run, model, header)
        state = TrainingState.from_header(header) if header else TrainingState()
        if settings.strategy == "multi_worker":
            refuse_other_workers(run, model, dataset, state)
        if settings.train:
            train(run, model, dataset, state, header)
        if not is_chief:
            return
        if settings.explore:
            explore(run, in_use(model, header, run.source), dataset)
            return
        if settings.compress or settings.decompress:
            from app.compress import compress, decompress  # only now: the coder is not installed everywhere

            trained = in_use(model, header, run.source)
            compress(run, trained, plan.stream) if settings.compress else decompress(run, trained)
            return
        if plan.stream is not None:
            use = next(use for verb, use in USES.items() if getattr(settings, verb))
            use(run, in_use(model, header, run.source), plan.stream)
            return
        make_folder(run.folders.outputs)
        with saying_what_is_missing() if settings.train else contextlib.nullcontext():
            if settings.train or settings.evaluate:
                evaluate(run, model, dataset, state, plan.other_data)
            if settings.train or settings.sample:
                sample(run, model, dataset, plan.class_names, plan.dataset_name)
            if settings.train or settings.evaluate:
                write_page(run, dataset, state.history)
    print(f"figures and pictures: {run.folders.outputs}")


def make_model(run: Run, dataset: Dataset | None) -> VAE:
    """A compiled model: a fresh one for the dataset, or one that fits the checkpoint's weights."""
    settings = run.settings
    objective = objective_of(settings, dataset) if settings.train else {}
    keras.utils.set_random_seed(settings.seed)  # initial weights
    try:
        model = build_model(**run.model_arguments, mixed_precision=settings.mixed_precision, **objective)
    except ValueError as error:
        raise FlagError(str(error)) from None
    if run.source is None and settings.features:
        model.take_features(load(settings.features).model)
    elif run.source is None:
        model.start_at_mean(dataset.mean())
    options = {name: getattr(settings, name) for name in arguments_of("optimizer", settings.model)}
    compile_model(model, settings.learning_rate, **options)
    return model


def objective_of(settings: Settings, dataset: Dataset) -> dict[str, float | str]:
    """The arguments of the model's objective; epochs as steps."""
    infers_labels = MODELS[settings.model].infers_labels
    num_labels = len(dataset.labelled) if dataset.is_partly_labelled and infers_labels else None
    num_steps = steps_per_epoch(len(dataset.train), settings.batch_size, num_labels)
    objective = {"beta": settings.beta, "free_bits": settings.free_bits}
    objective["warmup_steps"] = round(settings.warmup_epochs * num_steps)
    if infers_labels:
        of_classifier = ("classification_weight", "consistency", "augmentation")
        objective |= {name: getattr(settings, name) for name in of_classifier}
        objective["classifier_warmup_steps"] = round(settings.classifier_warmup_epochs * num_steps)
    return objective


def start_optimizer(run: Run, model: VAE, header: Mapping[str, Any]) -> None:
    """Set up the optimizer of a model from a slim checkpoint, which holds nothing for it."""
    model.optimizer.start_averages()
    if run.settings.train:
        print(f"NOTE: {run.source} is a slim checkpoint: its weights were rounded, and the optimizer starts anew")
    else:
        model.optimizer.iterations.assign(header["iterations"])


def refuse_other_workers(run: Run, model: VAE, dataset: Dataset, state: TrainingState) -> None:
    """Raise a WorkersError on every worker unless all have the same settings, data and weights."""
    weights = hashlib.sha256(b"".join(variable.numpy().tobytes() for variable in all_variables(model)))
    shared = [name for name in names(kept=True) if not ROWS[name].per_machine]
    compared = {f"--{name}": getattr(run.settings, name) for name in shared} | {
        "data": dataset.fingerprint(),
        "checkpoints": [weights.hexdigest(), state.epoch, state.step],
    }
    devices.refuse_differences(compared, model.distribute_strategy)


@contextlib.contextmanager
def saying_what_is_missing():
    """Within this context, after training, a stop says that figures and pictures are missing."""
    try:
        yield
    except Stopped as stopped:
        message = "stopped among figures and pictures; the same command with --load_weights makes them again"
        raise Stopped(stopped.number, message) from None
