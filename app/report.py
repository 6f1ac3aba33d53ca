"""The figures of a run on the screen, as tables."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tqdm

COLLAPSED = (
    "WARNING: posterior collapse: no latent is in use, the model ignores its code. {} --warmup_epochs 5, "
    "--free_bits 0.1, or a smaller --beta{}"
)


def print_epoch(row: Mapping[str, float], seconds: float, *, num_epochs: int, split: str) -> None:
    """A row of the history in one line, above the progress bar if there is one; figures in nats per example, and the
    error of classes in percent."""

    def figures(prefix: str, *names: str) -> str:
        return "  ".join(f"{name} {row[f'{prefix}_{name}']:.2f}" for name in names)

    epoch = f"epoch {row['epoch']:{len(str(num_epochs))}d}/{num_epochs}"
    train = figures("train", "loss", "elbo", "rate", "distortion")
    held_out = figures(split, "elbo", "rate", "distortion")
    if f"{split}_error" in row:
        held_out += f"  error {100 * row[f'{split}_error']:.2f}%"
    tqdm.tqdm.write(f"{epoch} | train {train} | {split} {held_out} | {seconds:.1f} s", file=sys.stdout)
    sys.stdout.flush()


# Each function below prints what the method of evaluation.Measurement with the same name returns.


def print_bounds(figures: Mapping[str, Any], *, split: str, binarize: str | None, bound_on: str) -> None:
    """The heading of the table, the ELBO and its terms; `binarize` is None for points, `bound_on` the model's."""
    conditions = "" if binarize is None else f"binarize {binarize}, "
    num = figures["num_examples"]
    examples = (
        f"{num:,} examples, in nats per example, ± standard error over examples" if num > 1 else "1 example, in nats"
    )
    print(f"{split} figures of {examples} ({conditions}seed {figures['seed']})")
    print_bound(figures, "elbo", "ELBO", f"bound on {bound_on}, one posterior sample", bits="bits_per_dim")
    print_row("rate", figures["rate"])
    print_row("distortion", figures["distortion"])


def print_latents(figures: Mapping[str, Any], *, has_window: bool, takes_features: bool) -> None:
    """The use of the latents; a warning if there is none."""
    print_row("active units", figures["active_units"], note=f"of {len(figures['rate_per_latent'])} latents")
    if "aggregate_posterior_kl" in figures:
        print_row("aggregate posterior KL", figures["aggregate_posterior_kl"], note="from the prior, by moments")
    if not figures["active_units"] and figures["num_examples"] > 1:  # one example cannot show whether a latent varies
        advice = "Train the VAE of --features with" if takes_features else "Try"
        print(COLLAPSED.format(advice, ", or a smaller --window" if has_window else ""))


def print_classification(figures: Mapping[str, Any], class_names: Sequence[str]) -> None:
    """How well q(y|x) tells the classes; a warning if it gives nearly all examples the same."""
    num, error = figures["num_labels"], figures.get("error_standard_error")
    note = f"of {figures['num_examples']:,} by q(y|x), trained with {num:,} labels"
    note += "" if num else "; classes matched to clusters"
    print_row("error", 100 * figures["error"], None if error is None else 100 * error, note, unit="%")
    print_row("calibration error", 100 * figures["expected_calibration_error"], unit="%", note="expected, of 15 bins")
    print_bound(figures, "elbo_of_unlabelled", "ELBO, class unknown", "bound on log p(x), all classes summed", bits="")
    if figures["collapsed"]:
        columns = [sum(column) for column in zip(*figures["confusion"], strict=True)]
        name = class_names[columns.index(max(columns))]
        share = 100 * figures["largest_share"]
        print(
            f"WARNING: q(y|x) has collapsed: it gives {share:.0f}% of the examples the class {name}. Try another "
            "--seed, a larger --classification_weight, or more labels"
        )


def print_log_likelihoods(figures: Mapping[str, Any]) -> None:
    """The importance-weighted bounds."""
    if "log_p_x" not in figures:
        print("NOTE: no log p(x): with several labels at a time there is no sum over classes")
    note = f"bound, K = {figures['num_importance_samples']:,} importance samples"
    for name, title in (("log_p_x_given_y", "log p(x|y)"), ("log_p_x", "log p(x)")):
        if name in figures:
            print_bound(figures, name, title, note, bits=f"{name}_bits_per_dim")


def print_probes(figures: Mapping[str, Any], *, knows_labels: bool) -> None:
    """How well classes can be read from posterior means and from samples; nothing where there are no such figures.
    `knows_labels`: whether the encoder is given them."""
    if not figures:
        return
    note = f"of classes by posterior means{'; the encoder is given the class' if knows_labels else ''}"
    print_row("linear probe", 100 * figures["linear_accuracy"], unit="%", note=note)
    name = f"{figures['num_neighbours']} nearest neighbours"
    print_row(name, 100 * figures["neighbours_accuracy"], unit="%", note=note)
    if "sample_agreement" in figures:
        right = f"{100 * figures['classifier_accuracy']:.1f}% of {figures['num_examples']:,} real ones"
        note = f"of {figures['num_samples']:,}, by a linear classifier that is right on {right}"
        print_row("samples of their class", 100 * figures["sample_agreement"], unit="%", note=note)


def print_out_of_distribution(figures: Mapping[str, Any], *, dataset: str, ood_dataset: str) -> None:
    """How well the bound on log p(x) separates the dataset from the other one; both by name."""
    note = f"of log p(x), {dataset} against {ood_dataset}"
    print_row("AUROC", figures["auroc"], digits=4, note=note)
    print_row("average precision", figures["average_precision"], digits=4)


def print_separations(auroc: Mapping[str, float], odd: Mapping[str, str], *, inliers: Sequence[str], data: str) -> None:
    """How well each score tells other classes from the inliers; `odd`: its "high" or its "low" values are."""
    if not auroc:
        print(f"NOTE: no AUROC: the examples of {data} are all of {', '.join(inliers)}, or none is")
        return
    print(f"AUROC of {data}, {', '.join(inliers)} against all other classes")
    for name, value in auroc.items():
        print_row(name, value, digits=4, note=f"{odd[name]} values are odd")


def print_bound(figures: Mapping[str, Any], name: str, title: str, note: str, *, bits: str) -> None:
    """A bound with its standard error, and in bits per dimension where that is one of the figures."""
    print_row(title, figures[name], figures.get(f"{name}_standard_error"), note)
    if bits in figures:
        print_row("  in bits/dim", figures[bits], digits=4)


def print_row(
    name: str, value: float, error: float | None = None, note: str = "", *, digits: int = 2, unit: str = ""
) -> None:
    number = str(value) if isinstance(value, int) else f"{value:,.{digits}f}{unit}"
    plus_minus = "" if error is None else f" ± {error:.{digits}f}"
    print(f"  {name:<24}{number:>12}{plus_minus:<9}  {note}".rstrip(), flush=True)
