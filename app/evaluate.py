"""--evaluate, and the end of a training: figures on the screen and in metrics.json, pictures of held-out data."""

from typing import Any

from app import records, report
from app.draw import album_of, draw_held_out
from app.run import Run
from data import Dataset
from evaluation.classification import calibration
from evaluation.measurement import Measurement
from parts.catalogue import MODELS
from pictures.album import Album
from pictures.charts import draw_history, draw_separation
from pictures.classification import draw_classification
from training.state import TrainingState
from vae import VAE


def evaluate(run: Run, model: VAE, dataset: Dataset, state: TrainingState, other_data: Dataset | None) -> None:
    """Write metrics.json, the history and the pictures of held-out data. The slow figures come last."""
    settings, outputs = run.settings, run.folders.outputs
    album = album_of(run, dataset.name)
    measurement = Measurement(
        model, dataset, binarize=settings.binarize, seed=settings.seed, max_examples=settings.max_examples
    )
    metrics = records.describe(run, model, dataset, state)
    metrics |= records.figures_of_other_split(outputs, metrics["weights"], dataset.split)
    figures = metrics[dataset.split] = measurement.bounds()
    report.print_bounds(
        figures,
        split=dataset.split,
        binarize=None if dataset.is_points else settings.binarize,
        bound_on=model.bound_on,
    )
    figures["latents"] = measurement.latents()
    takes_features = MODELS[model.arguments["model"]].takes_features
    report.print_latents(figures["latents"], has_window=bool(model.arguments["window"]), takes_features=takes_features)
    if model.infers_labels:
        classify(measurement, album, figures)
    records.write_metrics(outputs, metrics)
    records.remove_separations(outputs)
    if settings.train:  # an older checkpoint has only the first part of the run's history
        records.write_history(outputs, state.history)
        draw_history(album, state.history)
    draw_held_out(run, album, model, dataset, measurement.terms)
    if settings.evaluate:
        figures["probes"] = measurement.probes()
        report.print_probes(figures["probes"], knows_labels=model.is_conditional and model.labels_reach_encoder)
    if settings.num_importance_samples:
        figures |= measurement.log_likelihoods(settings.num_importance_samples)
        report.print_log_likelihoods(figures)
    records.write_metrics(outputs, metrics)
    if other_data is not None:
        figures["out_of_distribution"] = {other_data.name: separate(run, measurement, album, other_data)}
        records.write_metrics(outputs, metrics)


def classify(measurement: Measurement, album: Album, figures: dict[str, Any]) -> None:
    """Measure, print and draw how well q(y|x) tells the classes of the held-out data; add that to the figures."""
    probs, examples = measurement.class_probs_of_held_out(), measurement.held_out
    figures |= measurement.classification(probs)
    dataset, classes = measurement.dataset, examples.labels.argmax(axis=1)
    report.print_classification(figures, dataset.class_names)
    draw_classification(
        album,
        examples.x,
        probs,
        classes,
        figures["confusion"],
        calibration(probs, classes),
        dataset.class_names,
        of_clusters=dataset.hides_all_labels,
    )


def separate(run: Run, measurement: Measurement, album: Album, other_data: Dataset) -> dict[str, Any]:
    """Measure, print and draw how well the bound on log p(x) separates the held-out data from other data."""
    num_samples = max(run.settings.num_importance_samples, 1)
    figures, scores = measurement.out_of_distribution(other_data, num_samples)
    report.print_out_of_distribution(figures, dataset=measurement.dataset.name, ood_dataset=other_data.name)
    draw_separation(album, other_data.name, scores, figures["auroc"], num_samples)
    return figures
