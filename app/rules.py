"""Which settings contradict which, and the sentence that says so.

A rule is checked on the flags as soon as all of its settings are given, and on every new run once the data are known.
"""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Container, Mapping
from typing import Any

from app.settings import ALONE, DEFAULTS, ROWS, VERBS
from parts.catalogue import LIKELIHOODS, MODELS, NETWORKS
from storage.errors import UserError

CLUSTER = (
    '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}, the index being '
    "the worker's own"
)
NOTHING_MISSING = "--fill_in {data}: say with --hide what is missing, since no pixels are transparent"

DENSITIES = [name for name, entry in LIKELIHOODS.items() if entry.pixels is None]
OF_PIXELS = [name for name in LIKELIHOODS if name not in DENSITIES]
OF_BINARY_PIXELS = [name for name, entry in LIKELIHOODS.items() if entry.suits_binary_pixels]


class FlagError(UserError):
    """A flag's value does not fit the data or the checkpoint, which are read after the flags."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """`contradicts` is given the values of `settings`, in this order; `sentence` is formatted with them by name.

    kind: "points" for a rule that holds for points only, else "".
    of_flags: the rule holds where the first of its settings was given as a flag.
    """

    settings: tuple[str, ...]
    contradicts: Callable[..., Any]
    sentence: str
    kind: str = ""
    of_flags: bool = False


RULES = (
    Rule(("window",), lambda window: window, "--window {window} is for images, and {data} are points", "points"),
    Rule(
        ("binarize",),
        lambda binarize: binarize != "none",
        "--binarize {binarize} is for images, and {data} are points",
        "points",
    ),
    Rule(
        ("classifier",),
        lambda classifier: classifier and not NETWORKS[classifier].reads_points,
        "--classifier {classifier} is for images: points need mlp",
        "points",
    ),
    Rule(
        ("augmentation", "consistency"),
        lambda augmentation, consistency: consistency and augmentation != "adversarial",
        "--augmentation {augmentation} changes images, and {data} are points: take adversarial",
        "points",
    ),
    Rule(("flip",), lambda flip: flip, "--flip is for images, and {data} are points", "points"),
    Rule(
        ("likelihood",),
        lambda likelihood: LIKELIHOODS[likelihood].pixels is not None,
        f"--likelihood {{likelihood}} is for pixels: points need {' or '.join(DENSITIES)}",
        "points",
    ),
    Rule(
        ("network",),
        lambda network: not NETWORKS[network].reads_points,
        "--network {network} is for images: points need mlp",
        "points",
    ),
    Rule(
        ("likelihood", "window"),
        lambda likelihood, window: window and LIKELIHOODS[likelihood].pixels is None,
        f"--likelihood {{likelihood}} has no window: take {' or '.join(OF_PIXELS)}, or --window 0",
    ),
    Rule(
        ("likelihood", "binarize"),
        lambda likelihood, binarize: binarize != "none" and not LIKELIHOODS[likelihood].suits_binary_pixels,
        f"--likelihood {{likelihood}} is for grey levels: binary pixels need {' or '.join(OF_BINARY_PIXELS)}",
    ),
    Rule(
        ("warmup_epochs", "beta"),
        lambda warmup_epochs, beta: warmup_epochs and beta == 0,
        "--warmup_epochs contradicts --beta 0, which leaves the rate out of the loss",
        of_flags=True,
    ),
    Rule(
        ("free_bits", "beta"),
        lambda free_bits, beta: free_bits and beta == 0,
        "--free_bits contradicts --beta 0, which leaves the rate out of the loss",
        of_flags=True,
    ),
    Rule(
        ("augmentation", "consistency"),
        lambda augmentation, consistency: consistency == 0,
        "--augmentation contradicts --consistency 0, which changes no images",
        of_flags=True,
    ),
    Rule(
        ("labels", "model", "prior"),
        lambda labels, model, prior: labels and not MODELS[model].is_conditional(len(labels), prior),
        "--labels contradicts --prior {prior}: it knows no classes, and the label reaches no other part of a {model}",
        of_flags=True,
    ),
    Rule(
        ("model", "prior"),
        lambda model, prior: MODELS[model].takes_features and prior == "standard",
        "--model {model} contradicts --prior standard, which knows no classes: the label reaches no other part of it",
    ),
    Rule(
        ("labels", "unconditional"),
        lambda labels, unconditional: labels and unconditional,
        "--labels contradicts --unconditional, which ignores them",
        of_flags=True,
    ),
    Rule(
        ("label_seed", "num_labels"),
        lambda label_seed, num_labels: num_labels is None,
        "--label_seed goes with --num_labels",
        of_flags=True,
    ),
    Rule(("levels", "lossy"), lambda levels, lossy: not lossy, "--levels goes with --lossy", of_flags=True),
    Rule(
        ("append", "lossy"),
        lambda append, lossy: append and lossy,
        "--append is for images without loss, and contradicts --lossy",
        of_flags=True,
    ),
    Rule(
        ("append", "to"),
        lambda append, to: append and to is None,
        "--append needs --to with the file to which the images are added",
        of_flags=True,
    ),
    Rule(
        ("num_replicas", "strategy"),
        lambda num_replicas, strategy: num_replicas and strategy != "mirrored",
        "--num_replicas goes with --strategy mirrored",
        of_flags=True,
    ),
    Rule(
        ("num_replicas", "batch_size"),
        lambda num_replicas, batch_size: num_replicas and batch_size % num_replicas,
        "--batch_size {batch_size} cannot be shared by {num_replicas} replicas",
        of_flags=True,
    ),
    Rule(
        ("device", "strategy"),
        lambda device, strategy: strategy != "none" and ":" in device,
        "--device {device} contradicts --strategy {strategy}",
        of_flags=True,
    ),
)
NEEDS_BINARY_PIXELS = Rule(  # of new runs only: by default the data may still make the pixels binary
    ("likelihood", "window", "binarize"),
    lambda likelihood, window, binarize: window and LIKELIHOODS[likelihood].pixels == "binary" and binarize == "none",
    "--likelihood {likelihood} with a window needs binary pixels: --binarize dynamic or threshold",
)


def contradiction(
    settings: Mapping[str, Any], kind: str = "", data: str = "", given: Container[str] | None = None
) -> str | None:
    """The sentence of the first rule that these settings break; rules about missing ones are skipped.

    Args:
        settings: the flags that were given; or those of a whole run, with the `kind` and name of its `data`, and the
            flags that were `given` among them.
    """
    rules = [*RULES, NEEDS_BINARY_PIXELS] if kind else RULES
    for rule in rules:
        holds = not rule.of_flags or rule.settings[0] in (settings if given is None else given)
        if holds and rule.kind in ("", kind) and all(name in settings for name in rule.settings):
            values = {name: settings[name] for name in rule.settings}
            if rule.contradicts(*values.values()):
                return rule.sentence.format(**values, data=data)
    return None


def refuse_flags(given: Mapping[str, Any]) -> str | None:
    """What is wrong with these flags taken together, in one sentence; None if nothing is."""
    verbs = verbs_of(given)
    if verbs == {"compare"} and (others := [name for name in given if "compare" not in ROWS[name].verbs]):
        allowed = [
            name for name in ROWS if "compare" in ROWS[name].verbs and ROWS[name].group == ROWS["run_name"].group
        ]
        return f"--compare takes runs as they are, without --{others[0]}: only {flag_list(allowed)} go with it"
    if "compare" in given and len(verbs) > 1:
        return "--compare takes runs as they are: it goes with no other verb"
    if len(verbs) > 1 and (alone := [verb for verb in ALONE if verb in verbs]):
        return f"--{alone[0]} goes with no other verb"
    if "checkpoint" not in given:
        for name in given:
            if given.get("model", DEFAULTS.model) not in ROWS[name].models:
                return f"--{name} needs --model {' or '.join(ROWS[name].models)}"
    for name in given:
        if ROWS[name].strict and not verbs & {*ROWS[name].verbs}:
            return f"--{name} goes with {verb_list(ROWS[name].verbs)}, not with {verb_list(verbs)}"
    if starts_anew(given) and "features" not in given and MODELS[given.get("model", DEFAULTS.model)].takes_features:
        return f"--model {given['model']} needs --features with the checkpoint of a VAE"
    needed = {"num_replicas": {"strategy": "none"}, "levels": {"lossy": False}, "append": {"to": None}}
    assumed = {name: value for flag, setting in needed.items() if flag in given for name, value in setting.items()}
    if given.get("strategy") == "multi_worker" and (reason := wrong_cluster(os.environ.get("TF_CONFIG"))):
        return f"--strategy multi_worker: TF_CONFIG {reason}; it should be like {CLUSTER}"
    return contradiction(assumed | dict(given))


def verbs_of(given: Mapping[str, Any]) -> set[str]:
    """The verbs that were asked for; training if none was."""
    return {verb for verb in VERBS if given.get(verb)} or {"train"}


def starts_anew(given: Mapping[str, Any]) -> bool:
    """Whether a new run is to be trained."""
    return "train" in verbs_of(given) and not (given.get("load_weights") or given.get("checkpoint"))


def ignored(given: Container[str], verbs: set[str]) -> list[str]:
    """The given settings that these verbs do not use with a checkpoint."""
    return [name for name, row in ROWS.items() if name in given and (row.of_new_runs or not verbs & {*row.verbs})]


def verb_list(verbs: Container[str]) -> str:
    *most, last = ["training" if verb == "train" else f"--{verb}" for verb in VERBS if verb in verbs]
    return f"{', '.join(most)} or {last}" if most else last


def flag_list(names: list[str]) -> str:
    flags = [f"--{name}" for name in names]
    return ", ".join(flags[:-1]) + f" and {flags[-1]}"


def wrong_cluster(text: str | None) -> str | None:
    """What is wrong with TF_CONFIG, which gives a worker all addresses and its own index; None if nothing is wrong."""
    if text is None:
        return "is not set"
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        if config["cluster"].keys() != {"worker"} or task["type"] != "worker":
            return "may have workers only; worker 0 is the chief"
        if len(workers) < 2 or not all(re.fullmatch(r"[^:/]+:\d+", worker) for worker in workers):
            return "must name two workers or more, each as host:port"
        if task["index"] not in range(len(workers)):
            return f"has no worker {task['index']}"
    except (ValueError, TypeError, KeyError, AttributeError):
        return "is not JSON with cluster and task"
    return None
