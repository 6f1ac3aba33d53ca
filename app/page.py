"""report.html, beside the figures and pictures that it shows. That it cannot be written never fails a run."""

import contextlib
import pathlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.folders import previous
from app.records import read_metrics, reported_settings
from app.run import Run, default_run_name, defaults_for
from app.settings import DEFAULTS, ROWS, names
from data import Dataset, is_path, short_name
from storage.files import replacing

PAGE = "report.html"


def write_page(run: Run, dataset: Dataset, history: Sequence[Mapping[str, float]]) -> None:
    """Write the page of a run from what its outputs folder holds, and the history of its checkpoint."""
    folder = run.folders.outputs
    with noting_failure(folder):
        from pages.report import run_page

        metrics = read_metrics(folder)
        pictures = {path.name: path.read_bytes() for path in folder.glob("*.png")}
        settings = reported_settings(metrics["model"])
        text = run_page(metrics, history, pictures, settings, commands(run, dataset, metrics["epochs"]))
        write(folder, text)


def write_comparison(
    folder: pathlib.Path,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    differences: Sequence[str],
) -> None:
    """Write the page of several runs; see `pages.report.comparison_page`."""
    with noting_failure(folder):
        from pages.report import comparison_page

        named = {label: f"{shown_path(pathlib.Path(label))} ({number})" if pathlib.Path(label).is_absolute() else label
                 for number, label in enumerate(curves, 1)}  # fmt: skip
        rows = [[named.get(row[0], row[0]), *row[1:]] for row in rows]
        write(
            folder,
            comparison_page(columns, rows, {named[label]: curve for label, curve in curves.items()}, differences),
        )


def write(folder: pathlib.Path, text: str) -> None:
    with replacing(folder / PAGE) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def noting_failure(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # anything: the figures are written, and matter more
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"NOTE: no {PAGE} in {folder}: {reason}")


def commands(run: Run, dataset: Dataset, epochs: int) -> dict[str, str]:
    """What to type to make the run again, and to go on with it. Paths are shortened: the page may be handed on."""
    settings, folders = run.settings, run.folders
    is_own = settings.train or run.continues_itself
    checkpoint = shown_path(folders.newest if is_own else run.source)
    of_run = flags_of({"model": settings.model} | own_data(settings.dataset) | own_name(run))
    name = f"{folders.model}/{folders.name}"
    lines = {
        "make": flags_of(made_with(run, dataset)),
        "continue": [*of_run, "--load_weights", "--num_epochs", str(2 * epochs)],
        "evaluate": ["--evaluate", "--checkpoint", checkpoint],
        "sample": ["--sample", "--checkpoint", checkpoint],
        "compare": ["--compare", name, f"{name}.previous"],
    }
    absent = [] if is_own else ["continue", "compare"]
    absent += [] if previous(folders.checkpoints).exists() else ["compare"]
    return {
        purpose: shlex.join(["python", "assignment.py", *flags])
        for purpose, flags in lines.items()
        if purpose not in absent
    }


def made_with(run: Run, dataset: Dataset) -> dict[str, Any]:
    """The flags that differ from the defaults: a new run of these has the settings of this one."""
    wanted = {name: getattr(run.settings, name) for name in names(kept=True) if not ROWS[name].per_machine}
    given: dict[str, Any] = own_data(run.settings.dataset) | own_name(run)
    if run.settings.features:
        given["features"] = shown_path(pathlib.Path(run.settings.features))
    while True:  # a flag that is given can change the defaults of others
        defaults = defaults_for(given, dataset)
        missing = {name: value for name, value in wanted.items() if defaults[name] != value and name not in given}
        if not missing:
            return given
        given = given | dict([next(iter(missing.items()))])


def own_data(name: str) -> dict[str, Any]:
    """The dataset as a flag, by its short name if it is a path."""
    if name == DEFAULTS.dataset:
        return {}
    return {"dataset": f"path/to/{short_name(name)}" if is_path(name) else name}


def own_name(run: Run) -> dict[str, str]:
    name = run.folders.name
    return {} if name == default_run_name(run.settings.dataset) else {"run_name": name}


def flags_of(given: Mapping[str, Any]) -> list[str]:
    """Values as flags."""
    flags = []
    for name, value in given.items():
        if name == "model" and value == DEFAULTS.model:
            continue
        words = [] if ROWS[name].switch else [in_words(value) for value in as_list(value)]
        flags += [f"--{name}", *words]
    return flags


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


def in_words(value: Any) -> str:
    return (
        f"{value:.12g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
    )


def shown_path(path: pathlib.Path) -> str:
    """A path without what it says about this machine."""
    is_plain = not path.is_absolute() and ".." not in path.parts
    return path.as_posix() if is_plain else pathlib.PurePosixPath("path/to", *path.parts[-3:]).as_posix()
