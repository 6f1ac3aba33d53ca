"""What a run leaves in outputs/ besides its pictures: figures and history as files."""

import csv
import importlib
import json
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any


def versions() -> dict[str, str]:
    modules = [importlib.import_module(name) for name in ("tensorflow", "keras", "numpy", "h5py")]
    return {"python": platform.python_version()} | {module.__name__: module.__version__ for module in modules}


def machine() -> str:
    """What the run's speed was measured on."""
    import tensorflow as tf

    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return ", ".join([f"{platform.system()} {platform.machine()}", f"{os.cpu_count()} cores", *gpus])


def write_history(folder: pathlib.Path, history: Sequence[Mapping[str, float]]) -> None:
    """history.csv: a row an epoch."""
    if history:
        with open_atomically(folder / "history.csv") as file:
            writer = csv.DictWriter(file, fieldnames=list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)


def write_metrics(folder: pathlib.Path, metrics: Mapping[str, Any]) -> None:
    """metrics.json"""
    with open_atomically(folder / "metrics.json") as file:
        json.dump(metrics, file, indent=2)
        file.write("\n")


class open_atomically:
    """A text file that replaces an earlier one only when it is whole."""

    def __init__(self, path: pathlib.Path):
        self.path, self.partial = path, path.with_name(f".{path.name}.partial")

    def __enter__(self):
        self.file = open(self.partial, "w", encoding="utf-8", newline="")
        return self.file

    def __exit__(self, kind, *_):
        self.file.close()
        if kind is None:
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink(missing_ok=True)
