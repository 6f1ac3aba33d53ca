"""report.html: what a run did and how good its model is, for people who would rather look than read.

A page is one file that needs nothing else. Equal arguments give equal bytes.
"""

import base64
import functools
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from PIL import Image

from pages.charts import Curve, chart, history_curves

HERE = pathlib.Path(__file__).parent
MOST_BYTES = 700_000  # of all pictures together; base64 adds a third
SPLITS = ("test", "validation")
TERMS = {
    "elbo": "ELBO, nats: higher is better",
    "rate": "rate, nats: information in the code",
    "distortion": "distortion, nats: lower is better",
    "loss": "loss of training: what was minimized",
    "error": "error, % of examples: lower is better",
}
# The name of a figure, its digits, and what it means. {bound_on} and {latents} are filled in.
FIGURES = {
    "elbo": ("ELBO", 2, "A lower bound on {bound_on} of an image it has not seen, in nats. Higher is better."),
    "bits_per_dim": ("ELBO in bits/dim", 4, "The same in bits for each pixel and channel. Lower is better."),
    "rate": ("Rate", 2, "Nats of information that the code carries about an image."),
    "distortion": ("Distortion", 2, "Nats that the image costs once its code is known. Lower is better."),
    "log_p_x_given_y": ("log p(x|y)", 2, "A tighter bound, for images whose class is known. Higher is better."),
    "log_p_x_given_y_bits_per_dim": ("log p(x|y) in bits/dim", 4, "The same in bits. Lower is better."),
    "log_p_x": ("log p(x)", 2, "A tighter bound on the log-likelihood, from {samples} importance samples. Higher is "
                "better. This is the figure to set beside a paper's, if its pixels were binarized in the same way."),
    "log_p_x_bits_per_dim": ("log p(x) in bits/dim", 4, "The same in bits. Lower is better."),
    "elbo_of_unlabelled": ("ELBO, class unknown", 2, "A lower bound on log p(x), summed over all classes, in nats."),
    "error": ("Error", 4, "Share of images whose class q(y|x) gets wrong."),
    "expected_calibration_error": ("Calibration error", 4, "How far q(y|x) of its guess is from "
                                   "how often the guess is right."),
    "latents.active_units": ("Active units", 0, "Latents that the model uses, of {latents}."),
    "latents.aggregate_posterior_kl": ("Aggregate posterior KL", 3, "How far all codes together are from the prior, by "
                                       "their moments, in nats. Near 0, samples of the prior look like data."),
    "probes.linear_accuracy": ("Linear probe", 4, "Share of classes that a linear classifier reads from the codes."),
    "probes.neighbours_accuracy": ("Nearest neighbours", 4, "Share of classes that the nearest codes tell."),
    "probes.sample_agreement": ("Samples of their class", 4, "Share of samples that a linear classifier takes for the "
                                "class asked for."),
}  # fmt: skip
ERROR_OF_CLUSTERS = "Share of images outside of the cluster that was matched, by these images, to their class."
CAPTIONS = {
    "samples.png": "new examples, drawn through the prior",
    "reconstructions.png": "held-out examples above, and what comes back from their codes below",
    "style_transfer.png": "the codes of held-out examples, decoded as every class",
    "confusion.png": "right classes against those by q(y|x)",
    "calibration.png": "how often q(y|x) is right against how sure it is",
    "most_wrong.png": "the held-out images about which q(y|x) is most wrong",
    "interpolation.png": "from one held-out example to another",
    "traversals.png": "one code, with one latent changed at a time",
    "manifold.png": "what the plane of the two latents decodes to",
    "latent_space.png": "where the codes of held-out examples lie, by class",
}
PURPOSES = {
    "make": "Train such a run:",
    "continue": "Continue it for as many epochs again:",
    "evaluate": "Evaluate it, with log p(x):",
    "sample": "Draw new examples:",
    "compare": "Compare it with the run before it of the same name:",
}


@functools.cache
def template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html")


def run_page(
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    pictures: Mapping[str, bytes],
    settings: Sequence[str],
    commands: Mapping[str, str],
) -> str:
    """The page of one run.

    Args:
        metrics: what metrics.json holds.
        history: the rows of history.csv, as numbers.
        pictures: files by name.
        settings: the names of the metrics that are settings.
        commands: by the words of `PURPOSES`.
    """
    splits = [split for split in SPLITS if split in metrics]
    shown = {name: pictures[name] for name in CAPTIONS if name in pictures}
    shown |= {name: content for name, content in sorted(pictures.items()) if name.startswith("ood_")}
    versions = ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())
    stated = {name: metrics[name] for name in settings if name in metrics}
    stated |= {"parameters": metrics["parameters"], "optimizer": metrics["optimizer"]}
    stated |= {"versions": versions, "machine": metrics["machine"]}
    return template().render(
        title=f"{metrics['model']} / {metrics['run_name']}",
        style=style(),
        summary=summary(metrics),
        warnings=warnings(metrics, history),
        splits=[figures_of(metrics, split) for split in splits],
        table=None,
        keys=[curve.name for curve in history_curves(history, "elbo", ("train", *SPLITS))],
        charts=[
            chart(curves, caption=caption)
            for term, caption in TERMS.items()
            if (curves := history_curves(history, term, ("train", *SPLITS)))
        ],
        pictures=embedded(shown),
        commands=[{"purpose": PURPOSES[name], "text": text} for name, text in commands.items()],
        settings=[(name, in_words(value)) for name, value in stated.items()],
    )


def comparison_page(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    differences: Sequence[str],
) -> str:
    """The page of several runs.

    Args:
        columns, rows: the table, as texts.
        curves: for each run "epoch", and after each the terms that it has.
        differences: why figures are not comparable.
    """
    charts = [
        chart(
            [Curve(name, terms["epoch"], terms[term]) for name, terms in curves.items() if term in terms],
            caption=f"held-out {caption}",
        )
        for term, caption in TERMS.items()
        if any(term in terms for terms in curves.values())
    ]
    return template().render(
        title="Comparison",
        style=style(),
        summary=f"{len(curves)} runs, with their figures on held-out data.",
        warnings=[f"Not comparable with one another: {difference}." for difference in differences],
        splits=[],
        table={"columns": columns, "rows": rows},
        keys=list(curves),
        charts=charts,
        pictures=[],
        commands=[],
        settings=[],
    )


def style() -> jinja2.utils.markupsafe.Markup:
    return jinja2.utils.markupsafe.Markup((HERE / "style.css").read_text(encoding="utf-8"))


def summary(metrics: Mapping[str, Any]) -> str:
    """One line: what was trained on what, for how long."""
    shape = "x".join(map(str, metrics["data_shape"]))
    minutes, name = metrics["train_seconds"] / 60, metrics["model"].upper()
    known = f", of which {metrics['num_labels']:,} have a label," if metrics.get("num_labels") is not None else ""
    return (
        f"{'An' if name[0] == 'M' else 'A'} {name} with {metrics['latent_size']} latents and "
        f"{metrics['parameters']:,} parameters, "
        f"trained on {metrics['train_examples']:,} examples of {metrics['dataset']} ({shape}){known} for "
        f"{metrics['epochs']:,} epochs in {minutes:.1f} minutes, seed {metrics['seed']}."
    )


def warnings(metrics: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> list[str]:
    """What a reader of the figures should know."""
    found = []
    if metrics.get("fallback_from"):
        found.append(
            f"{metrics['fallback_from']} was out of reach, so these are figures of {metrics['dataset']}. "
            "Do not compare the two."
        )
    for split in SPLITS:
        figures = metrics.get(split, {})
        if not figures:
            continue
        latents = figures.get("latents", {})
        if latents and not latents["active_units"] and figures["num_examples"] > 1:
            found.append(
                "Posterior collapse: no latent is in use, and the model ignores its code. Try --warmup_epochs 5, "
                "--free_bits 0.1, or a smaller --beta."
            )
        if figures.get("collapsed"):
            found.append("q(y|x) has collapsed: it gives nearly all images the same class.")
        if split == "validation":
            found.append(
                "Validation figures are for choosing settings; --evaluate --validation_size 0 uses the test set."
            )
        found += overfitting(history, split, figures)
    if metrics.get("likelihood") == "bernoulli" and metrics.get("binarize") == "none":
        found.append("Grey pixels under a Bernoulli likelihood: compare these figures with such ones only.")
    return list(dict.fromkeys(found))


def overfitting(history: Sequence[Mapping[str, float]], split: str, figures: Mapping[str, Any]) -> list[str]:
    """A sentence if the bound on held-out data fell at the end by more than its standard error."""
    name = f"{split}_elbo"
    if not history or name not in history[0]:
        return []
    values = [row[name] for row in history]
    best = max(range(len(values)), key=values.__getitem__)
    if values[best] - values[-1] <= figures.get("elbo_standard_error", 0.0):
        return []
    return [
        f"Overfitting: the {split} ELBO was highest after epoch {history[best]['epoch']} ({values[best]:.2f}) and has "
        f"fallen to {values[-1]:.2f} since. Fewer epochs or a smaller network may do better."
    ]


def figures_of(metrics: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The table of one split."""
    figures = metrics[split]
    flat = {**figures, **{f"{part}.{name}": value for part in ("latents", "probes")
                          for name, value in figures.get(part, {}).items()}}  # fmt: skip
    words = {
        "bound_on": metrics.get("bound_on", "the log-likelihood"),
        "latents": metrics["latent_size"],
        "samples": f"{figures.get('num_importance_samples', 0):,}",
    }
    rows = []
    for key, (name, digits, meaning) in FIGURES.items():
        if key not in flat:
            continue
        error = flat.get(f"{key}_standard_error")
        text = f"{flat[key]:,.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")
        meaning = ERROR_OF_CLUSTERS if key == "error" and not figures["num_labels"] else meaning.format(**words)
        rows.append({"key": f"{split}.{key}", "name": name, "text": text, "meaning": meaning})
    for other, separation in figures.get("out_of_distribution", {}).items():
        rows.append({
            "key": f"{split}.out_of_distribution.{other}.auroc", "name": f"AUROC against {other}",
            "text": f"{separation['auroc']:.4f}",
            "meaning": "How surely log p(x) tells an example of its own data from another's: 1 always, 0.5 by chance.",
        })  # fmt: skip
    pixels = f"binarize {metrics['binarize']}, " if len(metrics["data_shape"]) == 3 else ""
    num = f"{figures['num_examples']:,} {split} examples"
    conditions = f"{num}, {pixels}seed {figures['seed']}; ± is the standard error over examples"
    return {"title": split, "conditions": conditions, "rows": rows}


def embedded(pictures: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Pictures as WebP in base64: without loss where they are small enough together."""
    opened = {name: Image.open(io.BytesIO(content)) for name, content in pictures.items()}
    contents = {name: as_webp(picture, lossless=True) for name, picture in opened.items()}
    quality = 90
    while sum(map(len, contents.values())) > MOST_BYTES and quality > 0:
        contents = {name: as_webp(picture, quality=quality) for name, picture in opened.items()}
        quality -= 20
    return [
        {
            "name": name,
            "caption": CAPTIONS.get(name, "log p(x) of held-out data and of other data"),
            "width": opened[name].width,
            "height": opened[name].height,
            "content": base64.b64encode(content).decode(),
        }
        for name, content in contents.items()
    ]


def as_webp(picture: Image.Image, **options: Any) -> bytes:
    content = io.BytesIO()
    picture.convert("RGB").save(content, "WEBP", method=4, **options)
    return content.getvalue()


def in_words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)
