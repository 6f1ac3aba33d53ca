"""What a run leaves in outputs/ besides its pictures: figures and history as files."""

import csv
import json
import os
import pathlib
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from storage.files import replacing


def versions() -> dict[str, str]:
    """Of Python, and of what has been imported so far."""
    modules = [sys.modules[name] for name in ("tensorflow", "keras", "numpy", "h5py") if name in sys.modules]
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
        with replacing(folder / "history.csv") as path, open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)


def write_metrics(folder: pathlib.Path, metrics: Mapping[str, Any]) -> None:
    """metrics.json"""
    with replacing(folder / "metrics.json") as path, open(path, "w", encoding="utf-8") as file:
        json.dump(metrics, file, indent=2)
        file.write("\n")
