"""The house: which rooms there are, and that imports run one way. The sources are read, nothing is imported."""

import ast
import functools
import graphlib
import pathlib
import re

import pytest
from conftest import REPOSITORY

ROOMS = ("assignment", "vae", "data", "visualize")  # modules on top; all others live in packages
# What the modules of a room may import of ours, beside one another.
MAY_IMPORT = {
    "assignment": {"app", "training", "evaluation", "pictures", "coding", "pages", "explorer", "vae", "trained", "data",
                   "sources", "parts", "visualize", "storage"},
    "app": {"training", "evaluation", "pictures", "coding", "pages", "explorer", "vae", "trained", "data", "sources",
            "parts", "visualize", "storage"},
    "training": {"vae", "data", "sources", "parts", "storage"},
    "evaluation": {"vae", "trained", "data", "sources", "parts", "storage"},
    "pictures": {"vae", "trained", "data", "sources", "parts", "storage", "visualize"},
    "coding": {"parts", "storage"},
    "pages": set(),
    "explorer": {"parts"},
    "vae": {"trained", "parts", "storage"},
    "trained": {"sources", "parts", "storage"},
    "parts": {"storage"},
    "data": {"sources", "storage"},
    "sources": {"storage"},
    "visualize": {"storage"},
    "storage": set(),
}  # fmt: skip
# Modules that answer before TensorFlow is imported, which takes seconds.
QUICK = ("assignment", "app.flags", "app.settings", "app.run", "app.compare", "data", "sources", "storage", "visualize")
SLOW = ("sources.batches",)
HEAVY = ("tensorflow", "keras", "tensorflow_datasets")


@pytest.fixture(scope="session", autouse=True)
def no_xla():
    """Nothing is trained here: the fixture of this name in conftest.py would import TensorFlow."""


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = [path for room in MAY_IMPORT for path in ([REPOSITORY / f"{room}.py"] if room in ROOMS else
                                                  sorted((REPOSITORY / room).rglob("*.py")))]  # fmt: skip
MODULES = {module_name(path): path for path in PATHS}


class Imports(ast.NodeVisitor):
    """What a module imports, by the full names that its text can mean; `at_top` are those of its import time."""

    def __init__(self, tree: ast.Module):
        self.all, self.at_top, self.stars, self.in_function = set(), set(), [], False
        self.visit(tree)

    def visit_Import(self, node):
        self.note(*(alias.name for alias in node.names))

    def visit_ImportFrom(self, node):
        assert not node.level, "imports are absolute"
        self.stars += [node.module for alias in node.names if alias.name == "*"]
        self.note(node.module, *(f"{node.module}.{alias.name}" for alias in node.names))

    def visit_FunctionDef(self, node):
        before, self.in_function = self.in_function, True
        self.generic_visit(node)
        self.in_function = before

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":  # not at import time
            before, self.in_function = self.in_function, True
            self.generic_visit(node)
            self.in_function = before
        else:
            self.generic_visit(node)

    def note(self, *names):
        self.all.update(names)
        if not self.in_function:
            self.at_top.update(names)


@functools.cache
def imports(module: str) -> Imports:
    return Imports(ast.parse(MODULES[module].read_text()))


def room(name: str) -> str:
    return name.split(".")[0]


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name in MODULES}


def test_the_root_holds_the_named_rooms_and_packages_only():
    assert {path.stem for path in REPOSITORY.glob("*.py")} == {*ROOMS}
    packages = {path.parent.name for path in REPOSITORY.glob("*/*.py")} - {"tests", "benchmarks", ".venv"}
    assert packages == MAY_IMPORT.keys() - {*ROOMS}
    assert len(MODULES) > 30, "the sources were found"


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    allowed = MAY_IMPORT[room(module)] | {room(module)}
    reached = {room(name) for name in imports(module).all if room(name) in MAY_IMPORT}
    assert reached <= allowed, f"{module} must not import {reached - allowed}"
    assert not {room(name) for name in imports(module).all} & {"tests", "benchmarks", "conftest"}
    assert not imports(module).stars, f"{module} has a star import"


def test_no_modules_import_one_another_in_a_circle():
    """Imports within functions count."""
    graph = {module: ours(imports(module).all) - {module} for module in MODULES}
    assert sum(map(len, graph.values())) > 60, "imports were found"
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError that names them


@pytest.mark.parametrize("module", [name for name in MODULES if {name, room(name)} & {*QUICK} and name not in SLOW])
def test_what_answers_at_once_does_not_import_tensorflow(module):
    """Neither itself nor through what it imports at its import time."""
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        heavy = {room(imported) for imported in imports(name).at_top} & {*HEAVY}
        assert not heavy, f"{module} imports {heavy} by {name}"
        seen.add(name)
        waiting += ours(imports(name).at_top) - seen


def test_the_reader_sees_imports_wherever_they_stand():
    tree = ast.parse(
        "import a.b\nfrom c import d\nif e:\n    import f\nclass G:\n    import h\n    def i(self):\n        import j\n"
        "try:\n    from k import *\nexcept ImportError:\n    pass\n"
    )
    found = Imports(tree)
    assert found.all == {"a.b", "c", "c.d", "f", "h", "j", "k", "k.*"}
    assert found.all - found.at_top == {"j"}
    assert found.stars == ["k"]


# The table of promises in tests/README.md


def test_every_test_that_the_table_of_promises_names_exists():
    """A file as `test_x.py`, a test as `test_x.py::test_y`, or `::test_y` and `test_y` of the file named before it;
    ... stands for the rest of a name."""
    files = {path.name: path for path in (REPOSITORY / "tests").rglob("test_*.py")}
    rows = [line for line in (REPOSITORY / "tests/README.md").read_text().splitlines() if line.startswith("| ")]
    named = 0
    for row in rows[1:]:
        file = None
        for quoted in re.findall(r"`([^`]*test_[^`]*)`", row.split("|")[-2]):
            file_name, _, test = quoted.rpartition("::") if not quoted.endswith(".py") else (quoted, "", "")
            if file_name:
                file = files[pathlib.PurePath(file_name).name]
            if test:
                defined = re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
                pattern = re.escape(test.removesuffix("...")) + (r"\w*" if test.endswith("...") else "")
                assert any(re.fullmatch(pattern, name) for name in defined), quoted
            named += 1
    assert named >= len(rows) - 1 > 15
