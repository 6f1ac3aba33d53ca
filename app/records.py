"""What a run leaves in outputs/ besides its pictures: figures and history as files."""

import csv
import json
import os
import pathlib
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.run import Run
from app.settings import as_stored, foreign_arguments, names
from data import Dataset
from storage.checkpoints import weights_digest
from storage.files import replacing

if TYPE_CHECKING:  # they import TensorFlow
    from training.state import TrainingState
    from vae import VAE

SPLITS = ("test", "validation")


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that are imported so far."""
    modules = [sys.modules[name] for name in ("tensorflow", "keras", "numpy", "h5py") if name in sys.modules]
    return {"python": platform.python_version()} | {module.__name__: module.__version__ for module in modules}


def machine() -> str:
    """The machine on which the run's speed was measured."""
    import tensorflow as tf

    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return ", ".join([f"{platform.system()} {platform.machine()}", f"{os.cpu_count()} cores", *gpus])


def describe(run: Run, model: "VAE", dataset: Dataset, state: "TrainingState") -> dict[str, Any]:
    """What metrics.json says about the run, beside its figures."""
    settings = {name: as_stored(getattr(run.settings, name)) for name in reported_settings(run.settings.model)}
    settings |= {name: value for name, value in model.arguments.items() if name in settings}
    return {
        "model": run.settings.model,
        "dataset": dataset.name,
        "dataset_source": dataset.source,
        "data_shape": list(dataset.data_shape),
        "fallback_from": run.fallback_from,
        "run_name": run.folders.name,
        "epochs": state.epoch,
        "steps": int(model.optimizer.iterations.numpy()),
        "seed": run.settings.seed,
        **settings,
        "settings_by_epoch": state.settings,
        "bound_on": model.bound_on,
        "optimizer": model.optimizer.name,
        "parameters": model.count_params(),
        "weights": weights_digest(model),
        "train_examples": len(dataset.train),
        "train_seconds": round(state.train_seconds, 2),
        "images_per_second": round(state.train_images / state.train_seconds, 1),
        "versions": versions(),
        "machine": machine(),
    }


def reported_settings(model: str) -> list[str]:
    """The settings that metrics.json has, without those of another model's optimizer or objective."""
    others = foreign_arguments(model)
    return [name for name in names(reported=True) if name not in others]


def write_history(folder: pathlib.Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write history.csv, a row per epoch."""
    if history:
        write_table(folder / "history.csv", columns_of(history), history)


def columns_of(history: Sequence[Mapping[str, float]]) -> list[str]:
    """The names of all figures; epochs of an older version of the program may lack some."""
    return list(dict.fromkeys(name for row in history for name in row))


def read_history(folder: pathlib.Path) -> list[dict[str, str]]:
    """The rows of history.csv as texts; none if it is not there or cannot be read."""
    try:
        with open(folder / "history.csv", encoding="utf-8", newline="") as file:
            return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return []


def write_table(path: pathlib.Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file; what UTF-8 cannot hold of a file's name is written as its code."""
    with (
        replacing(path) as partial,
        open(partial, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_metrics(folder: pathlib.Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json."""
    with replacing(folder / "metrics.json") as path, open(path, "w", encoding="utf-8") as file:
        json.dump(metrics, file, indent=2)
        file.write("\n")


def read_metrics(folder: pathlib.Path) -> dict[str, Any]:
    """The content of metrics.json; an empty dict if there is none, or it is not of this program."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) else {}


def figures_of_other_split(folder: pathlib.Path, weights: str, split: str) -> dict[str, Any]:
    """Earlier figures of the same weights on the other split, which stay in metrics.json.

    Those of --ood_dataset are dropped and their pictures removed, because the pictures' names do not say the split.
    """
    metrics = read_metrics(folder)
    found = [name for name in SPLITS if name != split and name in metrics and metrics.get("weights") == weights]
    return {
        name: {key: value for key, value in metrics[name].items() if key != "out_of_distribution"} for name in found
    }


def remove_separations(folder: pathlib.Path) -> None:
    """Remove the pictures of --ood_dataset, whose figures metrics.json no longer holds."""
    for path in folder.glob("ood_*.png"):
        path.unlink(missing_ok=True)
