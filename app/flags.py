"""The command line: flags -> what to do and with what values. Imports nothing heavy, so that it answers at once."""

import argparse
import difflib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from storage.errors import UserError

MODELS = ("vae", "cvae", "vlae")
WIDEST_WINDOW = 63
LARGEST = 2**31 - 1  # of 32-bit whole numbers
SMALLEST = 1e-30  # above 0: what float32 still holds, with room for products
NO_WINDOW = "--likelihood {} has no window: take bernoulli or logistic, or --window 0"
CLUSTER = (
    '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}, the index being '
    "the worker's own"
)
DEFAULTS = {
    "model": "vae",
    "dataset": "mnist",
    "data_dir": "data",
    "image_size": None,
    "num_epochs": 10,
    "batch_size": 128,
    "latent_size": 15,
    "hidden_dims": None,
    "learning_rate": 1e-3,
    "network": "mlp",
    "activation": "gelu",
    "likelihood": "bernoulli",
    "prior": "standard",
    "window": 0,
    "binarize": "none",
    "beta": 1.0,
    "warmup_epochs": 0,
    "free_bits": 0.0,
    "validation_size": 0,
    "run_name": None,
    "num_importance_samples": None,
    "max_examples": None,
    "ood_dataset": None,
    "num_samples": 10,
    "labels": None,
    "sample_and_save_frequency": 5,
    "save_every_steps": 0,
    "checkpoint_dir": "model_ckpts",
    "output_dir": "outputs",
    "device": "auto",
    "strategy": "none",
    "num_replicas": None,
    "seed": 0,
}


class FlagError(UserError):
    """A flag's value does not fit the data or the checkpoint, which was not known when the flags were read."""


class Parser(argparse.ArgumentParser):
    """Answers a wrong flag with one line and, where there is one, the flag that was probably meant."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {' '.join(message.splitlines())} (see --help)", file=sys.stderr)
        sys.exit(2)

    def parse_all(self, argv: list[str] | None) -> argparse.Namespace:
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            flag = unknown[0].split("=")[0]
            self.error(f"unknown argument {flag}{suggestion(flag, self._option_string_actions)}")
        return namespace


def suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f": did you mean {close[0]}?" if close else ""


def number(kind: type, minimum: float, *, maximum: float = LARGEST) -> Callable[[str], int | float]:
    """An argparse type: a number within these bounds that 32 bits can tell from 0."""
    words = f"a {'whole ' if kind is int else ''}number of at least {minimum:g}"

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not value >= minimum:
            raise argparse.ArgumentTypeError(f"must be {words}, not '{text}'")
        if value > maximum:
            raise argparse.ArgumentTypeError(f"must be at most {maximum}, not '{text}'")
        if 0 < value < SMALLEST:
            raise argparse.ArgumentTypeError(f"must be 0 or at least {SMALLEST}, not '{text}'")
        return value

    return parse


def one_of(*words: str) -> dict[str, Any]:
    """Arguments of add_argument for a flag that takes one of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(not_among(words, text))
        return text

    return {"type": parse, "choices": words}


def not_among(words: Sequence[str], text: str) -> str:
    return f"must be {', '.join(words[:-1])} or {words[-1]}, not '{text}'{suggestion(text, words)}"


class ImageSize(argparse.Action):
    """One number is both height and width."""

    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) > 2:
            parser.error(f"argument --image_size: takes one number, or height and width, not {len(values)}")
        setattr(namespace, self.dest, [values[0], values[-1]])


def boolean(text: str) -> bool:
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(not_among(("true", "false"), text))
    return values[text.lower()]


def device(text: str) -> str:
    kind, _, index = text.partition(":")
    if text not in ("auto", "cpu", "gpu") and not (kind == "gpu" and index.isdecimal()):
        raise argparse.ArgumentTypeError(not_among(("auto", "cpu", "gpu", "gpu:N"), text))
    return text


def window(text: str) -> int:
    if not text.isdecimal() or (text != "0" and (int(text) % 2 == 0 or not 3 <= int(text) <= WIDEST_WINDOW)):
        raise argparse.ArgumentTypeError(f"must be odd, from 3 to {WIDEST_WINDOW}, or 0, not '{text}'")
    return int(text)


def name(text: str) -> str:
    is_odd = not text.isprintable() or text != text.strip() or any(part in text for part in ("/", "\\"))
    if is_odd or not text or text.startswith(".") or text.endswith(".previous"):
        raise argparse.ArgumentTypeError(f"must be a plain folder name, not '{text}'")
    return text


def path(text: str) -> str:
    if not text:  # a shell variable that was never set
        raise argparse.ArgumentTypeError("must be a path, not ''")
    return text


def dataset(*others: str) -> Callable[[str], str]:
    """An argparse type: the name or path of a dataset, or one of `others`."""

    def parse(text: str) -> str:
        from data import DataError, resolve_name  # only now: it imports NumPy

        try:
            return resolve_name(text, others)
        except (DataError, OSError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def build_parser() -> Parser:
    parser = Parser(
        prog="assignment.py",
        description="Train, evaluate and sample variational autoencoders.",
        argument_default=argparse.SUPPRESS,  # so that flags which were given can be told from defaults
        allow_abbrev=False,
    )
    actions = parser.add_argument_group("what to do (default: --train)")
    actions.add_argument("--train", action="store_true", help="train, then evaluate and draw the pictures")
    actions.add_argument("--evaluate", action="store_true", help="evaluate a checkpoint on held-out data: metrics.json")
    actions.add_argument("--sample", action="store_true", help="draw from a checkpoint: samples.png and samples.npz")
    actions.add_argument(
        "--compare", nargs="+", metavar="RUN", help="runs side by side, each a checkpoint or MODEL/RUN"
    )

    add = parser.add_argument_group("evaluation").add_argument
    add("--num_importance_samples", type=number(int, 0, maximum=1_000_000), metavar="K",
        help="draws for each example to estimate log p(x) with; default 100 for --evaluate, else 0: the ELBO "
        "alone")  # fmt: skip
    add("--max_examples", type=number(int, 1), metavar="N",
        help="evaluate a random choice of so many held-out examples; default all")  # fmt: skip
    add("--ood_dataset", type=dataset("noise"), metavar="NAME_OR_PATH",
        help="other data, or noise: how well the bound on log p(x) tells them from the test set")  # fmt: skip

    add = parser.add_argument_group("data").add_argument
    add("--dataset", type=dataset(), metavar="NAME_OR_PATH",
        help="mnist, mnist_sample, fashion_mnist, kmnist, cifar10, svhn, chestmnist, octmnist, tissuemnist, "
        "pneumoniamnist, moons, circles, blobs; or a folder of images, or an .npz; default mnist")  # fmt: skip
    add("--data_dir", type=path, metavar="DIR", help="where local dataset files are looked for first; default data")
    add("--image_size", type=number(int, 1, maximum=2048), nargs="+", action=ImageSize, metavar="N",
        help="bring images to N x N, or to height and width; default as they are")  # fmt: skip
    add("--offline", action="store_true", help="never use the network")
    add(
        "--binarize",
        **one_of("none", "dynamic", "threshold"),
        help="default none: grey pixels in [0, 1]; vlae on drawings: dynamic",
    )
    add("--validation_size", type=number(int, 0), metavar="N",
        help="hold out the last N training examples, report on those, not the test set; default 0")  # fmt: skip

    add = parser.add_argument_group("model").add_argument
    add("--model", **one_of(*MODELS), help="default vae")
    add("--is_cvae", action="store_true", help="short for --model cvae")
    add(
        "--latent_size",
        "--latent_dim",
        type=number(int, 1, maximum=4096),
        metavar="N",
        help="default 15; points 2, colour 64, vlae 12",
    )
    add("--network", **one_of("mlp", "conv", "resnet"), help="default mlp; colour images conv; vlae resnet")
    add("--hidden_dims", type=number(int, 1, maximum=8192), nargs="+", metavar="N",
        help="widths of the encoder, reversed in the decoder; "
        "default 400 400 (mlp), 32 64 (conv, resnet); points 128 128 128")  # fmt: skip
    add("--activation", **one_of("gelu", "leaky_relu", "relu", "elu"), help="default gelu; points leaky_relu, vlae elu")
    add("--likelihood", **one_of("bernoulli", "gaussian", "sigma", "logistic"),
        help="p(x|z); default bernoulli, sigma for colour images and points; vlae bernoulli or logistic")  # fmt: skip
    add("--prior", **one_of("standard", "gaussian", "flow"), help="p(z|y) of a vlae; default flow")
    add("--window", type=window, metavar="N",
        help="pixels' window of a vlae: odd, 0 for none; default 7")  # fmt: skip

    add = parser.add_argument_group("training").add_argument
    add(
        "--num_epochs",
        "--n_epochs",
        type=number(int, 1),
        metavar="N",
        help="total epochs of the run; default 10; points 50, colour 20, vlae 30",
    )
    add("--batch_size", type=number(int, 1), metavar="N", help="default 128; points 256")
    add(
        "--learning_rate",
        "--lr",
        type=number(float, SMALLEST, maximum=1e30),
        metavar="X",
        help="default 1e-3; many drawings, as MNIST, 2e-3; vlae 2e-3",
    )
    add("--beta", type=number(float, 0), metavar="X", help="weight of the rate in the loss; default 1")
    add(
        "--warmup_epochs",
        type=number(float, 0),
        metavar="X",
        help="epochs of linear warm-up of that weight; default 0; vlae 2",
    )
    add("--free_bits", type=number(float, 0), metavar="X", help="nats each latent may spend freely; default 0")
    add("--load_weights", action="store_true", help="continue the run from its checkpoint, up to --num_epochs")
    add("--seed", type=number(int, 0), metavar="N", help="default 0")

    add = parser.add_argument_group("files and pictures").add_argument
    add(
        "--checkpoint",
        type=path,
        metavar="FILE",
        help="checkpoint to evaluate, sample or continue; default the run's own",
    )
    add("--run_name", type=name, metavar="NAME", help="names the run's folders; default the dataset's name")
    add(
        "--num_samples",
        type=number(int, 1, maximum=100_000),
        metavar="N",
        help="images to draw, of each class if conditional; default 10; points 1000",
    )
    add("--labels", type=number(int, 0), nargs="+", metavar="CLASS", help="classes to draw (conditional); default all")
    add("--sample_and_save_frequency", type=number(int, 1), metavar="N",
        help="epochs between pictures and kept checkpoints; default 5; points 10, vlae 1")  # fmt: skip
    add("--save_every_steps", type=number(int, 0), metavar="N",
        help="also save the run's checkpoint every N steps of an epoch; default 0: after each epoch only")  # fmt: skip
    add("--checkpoint_dir", type=path, metavar="DIR", help="default model_ckpts")
    add("--output_dir", type=path, metavar="DIR", help="default outputs")
    add("--tensorboard", action="store_true", help="also write curves and epoch pictures for TensorBoard")

    add = parser.add_argument_group("machine").add_argument
    add("--device", type=device, help="auto, cpu, gpu or gpu:N; default auto: a GPU if there is one")
    add("--strategy", **one_of("none", "mirrored", "multi_worker"),
        help="train on several devices of this machine, or on several machines (TF_CONFIG); default none")  # fmt: skip
    add("--num_replicas", type=number(int, 1, maximum=1024), metavar="N",
        help="of --strategy mirrored: the first N GPUs, or N shares of the CPU; default all GPUs")  # fmt: skip
    add("--mixed_precision", type=boolean, nargs="?", const=True, metavar="BOOL",
        help="networks compute in bfloat16, for GPUs that are fast at it; CPUs are slower; default false")  # fmt: skip
    add("--cuda", type=boolean, metavar="BOOL", help="--cuda false is short for --device cpu, --cuda true for gpu")
    return parser


def parse_flags(argv: list[str] | None = None) -> dict[str, Any]:
    """The flags that were given, by name, with short forms resolved. Exits with 2 on a wrong or contradictory flag."""
    parser = build_parser()
    given = vars(parser.parse_all(argv))
    if given.pop("is_cvae", False) and given.setdefault("model", "cvae") != "cvae":
        parser.error(f"--is_cvae contradicts --model {given['model']}")
    if "cuda" in given:
        wanted = "gpu" if given.pop("cuda") else "cpu"
        if given.setdefault("device", wanted).partition(":")[0] not in ("auto", wanted):
            parser.error(f"--cuda contradicts --device {given['device']}")
        given["device"] = given["device"] if given["device"].startswith("gpu") else wanted
    refuse_strategy(parser, given)
    for flag in ("prior", "window"):
        if flag in given and given.get("model", "vae") != "vlae" and "checkpoint" not in given:
            parser.error(f"--{flag} needs --model vlae")
    if given.get("window") and given.get("likelihood") in ("sigma", "gaussian"):
        parser.error(NO_WINDOW.format(given["likelihood"]))
    if given.get("binarize", "none") != "none" and given.get("likelihood") in ("sigma", "logistic"):
        parser.error(f"--likelihood {given['likelihood']} is for grey levels: binary pixels need bernoulli")
    for flag in ("warmup_epochs", "free_bits"):
        if given.get(flag) and given.get("beta") == 0:
            parser.error(f"--{flag} contradicts --beta 0, which leaves the rate out of the loss")
    if "labels" in given and given.get("model", "vae") == "vae" and "checkpoint" not in given:
        parser.error("--labels needs a conditional model: --model cvae or vlae")
    if "compare" in given and not given.keys() <= {"compare", "checkpoint_dir", "output_dir", "run_name"}:
        parser.error("--compare takes runs as they are: only --checkpoint_dir, --output_dir and --run_name go with it")
    if given.keys() & {"evaluate", "sample"} and "train" not in given:
        for flag in ("tensorboard", "strategy"):
            if flag in given:
                parser.error(f"--{flag} goes with training")
    if "sample" in given and not given.keys() & {"train", "evaluate"}:
        for flag in ("num_importance_samples", "max_examples", "ood_dataset"):
            if flag in given:
                parser.error(f"--{flag} goes with --evaluate or training, not with --sample")
    if "labels" in given and given.get("prior") == "standard":
        parser.error("--labels contradicts --prior standard, which knows no classes")
    return given


def refuse_strategy(parser: Parser, given: dict[str, Any]) -> None:
    """End with a wrong flag unless --strategy, what goes with it and TF_CONFIG make sense together."""
    strategy, num_replicas = given.get("strategy", "none"), given.get("num_replicas")
    if num_replicas and strategy != "mirrored":
        parser.error("--num_replicas goes with --strategy mirrored")
    if num_replicas and given.get("batch_size", num_replicas) % num_replicas:
        parser.error(f"--batch_size {given['batch_size']} cannot be shared by {num_replicas} replicas")
    if strategy != "none" and ":" in given.get("device", ""):
        parser.error(f"--device {given['device']} contradicts --strategy {strategy}")
    if strategy == "multi_worker" and (reason := wrong_cluster(os.environ.get("TF_CONFIG"))):
        parser.error(f"--strategy multi_worker: TF_CONFIG {reason}; it should be like {CLUSTER}")


def wrong_cluster(text: str | None) -> str | None:
    """What is wrong with TF_CONFIG, which tells a worker the addresses of all and its own place; None if nothing is."""
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
