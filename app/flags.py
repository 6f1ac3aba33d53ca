"""The command line: flags -> the settings that were given, by name. Imports nothing heavy, so it answers at once.

`python -m app.flags` prints docs/flags.md.
"""

import argparse
import sys
import textwrap
from typing import Any, NoReturn

from app import rules, values
from app.settings import DEFAULTS, ROWS, Computed, Row, names

NEAR = 0.75  # least similarity of the flag suggested in place of an unknown one
# Flags that are short for others: name -> the setting and its help.
SHORT_FORMS = {
    "is_cvae": ("model", "short for --model cvae"),
    "cuda": ("device", "--cuda false is short for --device cpu, --cuda true for gpu"),
}


class Parser(argparse.ArgumentParser):
    """Answers a wrong flag with one line, which suggests the flag that was probably meant."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {' '.join(message.splitlines())} (see --help)", file=sys.stderr)
        sys.exit(2)

    def parse_all(self, argv: list[str] | None) -> argparse.Namespace:
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            flag = unknown[0].split("=")[0]
            known = [option.lstrip("-") for option in self._option_string_actions]
            self.error(f"unknown argument {flag}{values.suggestion(flag.lstrip('-'), known, NEAR, '--')}")
        return namespace


class ImageSize(argparse.Action):
    """One number is both height and width."""

    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) > 2:
            parser.error(f"argument --image_size: takes one number, or height and width, not {len(values)}")
        setattr(namespace, self.dest, (values[0], values[-1]))


def build_parser() -> Parser:
    parser = Parser(
        prog="assignment.py",
        description="Train, evaluate and sample variational autoencoders.",
        argument_default=argparse.SUPPRESS,  # so that the namespace has only the flags that were given
        allow_abbrev=False,
    )
    groups = {}
    for name, row in ROWS.items():
        group = groups.get(row.group) or groups.setdefault(row.group, parser.add_argument_group(row.group))
        group.add_argument(f"--{name}", *row.aliases, **arguments_of(name, row))
    groups[ROWS["model"].group].add_argument("--is_cvae", action="store_true", help=SHORT_FORMS["is_cvae"][1])
    groups[ROWS["device"].group].add_argument(
        "--cuda", type=values.boolean, metavar="BOOL", help=SHORT_FORMS["cuda"][1]
    )
    return parser


def arguments_of(name: str, row: Row) -> dict[str, Any]:
    """The arguments of add_argument for a row."""
    meaning = f"{row.help}{of_models(row)}"
    help = meaning if row.switch else f"{meaning}; default {described_default(name)}"
    if row.switch:
        return {"action": "store_true", "help": help}
    arguments = {"type": row.parse, "metavar": row.metavar, "choices": row.choices or None, "help": help}
    if row.several:
        arguments["nargs"] = "+"
    if row.optional_value:
        arguments |= {"nargs": "?", "const": True}
    if name == "image_size":
        arguments["action"] = ImageSize
    return arguments


def of_models(row: Row) -> str:
    """The models that have this setting, in brackets, unless all have it."""
    return "" if len(row.models) == len(ROWS["model"].choices) else f" (of {', '.join(row.models)})"


def described_default(name: str) -> str:
    """The default in words, followed by those for particular models and data."""
    row, default = ROWS[name], getattr(DEFAULTS, name)
    parts = [row.default_text] if row.default_text else [] if default is None else [shown(default)]
    merged: dict[str, list[str]] = {}
    for condition, value in row.by.items():
        merged.setdefault(shown(value), []).append(in_words(condition))
    parts += [f"{', '.join(conditions)}: {value}" for value, conditions in merged.items()]
    return "; ".join(parts)


def in_words(condition: str) -> str:
    """A condition of the table for a reader: "vlae images" is "vlae on images"."""
    words = {"many": "more than 10,000", "binary": "binary pixels", "levels": "with grey levels"}
    models = [word for word in condition.split() if word in ROWS["model"].choices]
    rest = [words.get(word, word) for word in condition.split() if word not in models]
    if "few" in rest:
        plural = [] if {"drawings", "photographs"} & {*rest} else ["images"]
        rest = ["few", *(word for word in rest if word != "few"), *plural]
    data = ", ".join(rest) if "many" in condition else " ".join(rest)
    return " on ".join(part for part in (*models, data) if part)


def shown(value: Any) -> str:
    if isinstance(value, Computed):
        return value.text
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse_flags(argv: list[str] | None = None) -> dict[str, Any]:
    """The flags that were given, by name, with short forms resolved. Exits with 2 on a wrong or contradictory flag."""
    parser = build_parser()
    given = vars(parser.parse_all(argv))
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    if given.pop("is_cvae", False) and given.setdefault("model", "cvae") != "cvae":
        parser.error(f"--is_cvae contradicts --model {given['model']}")
    if "cuda" in given:
        wanted = "gpu" if given.pop("cuda") else "cpu"
        if given.setdefault("device", wanted).partition(":")[0] not in ("auto", wanted):
            parser.error(f"--cuda contradicts --device {given['device']}")
        given["device"] = given["device"] if given["device"].startswith("gpu") else wanted
    if sentence := rules.refuse_flags(given):
        parser.error(sentence)
    return given


def page() -> str:
    """The text of docs/flags.md."""
    lines = [
        "# Flags",
        "",
        "This page is made from the table of settings (`app/settings.py`) by `python -m app.flags > docs/flags.md`.",
        "Defaults can depend on the model and the data; a flag that you give always wins. Drawings and photographs",
        "are grey images: drawings are mostly black and white. Few images are at most 10,000 to train on.",
    ]
    for group in dict.fromkeys(row.group for row in ROWS.values()):
        lines += ["", f"## {group.capitalize()}", "", "| flag | default | meaning |", "|---|---|---|"]
        lines += [page_row(name, row) for name, row in ROWS.items() if row.group == group]
        lines += [f"| `--{name}` | | {help} |" for name, (of, help) in SHORT_FORMS.items() if ROWS[of].group == group]
    lines += ["", "## What a checkpoint keeps", ""]
    lines += wrapped(f"A checkpoint fixes {listed(fixed=True)}: asking for another value is refused.")
    others = listed(fixed=False, kept=True, of_new_runs=False)
    lines += ["", *wrapped(f"A continued run also keeps {others}, unless you give them anew.")]
    lines += ["", *wrapped(f"It ignores {listed(of_new_runs=True)}, which is for new runs.")]
    return "\n".join(lines) + "\n"


def page_row(name: str, row: Row) -> str:
    words = f" {{{','.join(row.choices)}}}" if row.choices else f" {row.metavar}" if row.metavar else ""
    words = f" [{row.metavar}]" if row.optional_value else words
    words += " ..." if row.several else ""
    flags = ", ".join(f"`{flag}`" for flag in (f"--{name}{words}", *row.aliases))
    default = "off" if row.switch else described_default(name)
    text = f"{row.help}{of_models(row)}".replace("|", r"\|")
    return f"| {flags} | {default} | {text} |"


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def listed(**wanted: bool) -> str:
    return ", ".join(f"`--{name}`" for name in names(**wanted))


if __name__ == "__main__":
    print(page(), end="")
