"""README.md and the pages in docs/: their links lead somewhere, and their commands are commands."""

import pathlib
import re
import shlex

import pytest

from app.flags import parse_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
LONGEST_README = 160
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "tests/README.md",
    ROOT / "benchmarks/README.md",
    ROOT / "pretrained/README.md",
]
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)")
TEST_COMMAND = ".venv/bin/pip install -r requirements-dev.txt && .venv/bin/python -m pytest -n auto"


def text_of(page: pathlib.Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list[tuple[pathlib.Path, str]]:
    found = [(page, target) for page in PAGES for target in LINK.findall(text_of(page))]
    return [(page, target) for page, target in found if not target.startswith(("http://", "https://"))]


def commands() -> list[tuple[pathlib.Path, str]]:
    lines = [(page, line) for page in PAGES for block in FENCE.findall(page.read_text("utf-8"))
             for line in block.splitlines()]  # fmt: skip
    return [(page, line) for page, line in lines if line.startswith("python assignment.py")]


def named(found: list[tuple[pathlib.Path, str]]) -> list:
    return [pytest.param(page, text, id=f"{page.relative_to(ROOT)}: {text}") for page, text in found]


@pytest.mark.parametrize(("page", "target"), named(links()))
def test_a_link_leads_to_a_file_and_a_heading(page, target):
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    assert there.exists()
    if anchor:
        assert anchor in anchors(there)


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").glob("*.png")), ids=lambda path: path.name)
def test_every_picture_in_docs_is_on_a_page_with_a_text_in_its_place(picture):
    shown = [alt for page in PAGES for alt in re.findall(rf"!\[(.*?)\]\([\w./]*{picture.name}\)", text_of(page))]
    assert shown
    assert all(len(alt) > 20 for alt in shown)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_the_readme_links_every_page_in_docs(page):
    assert f"](docs/{page.name})" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize(("page", "line"), named(commands()))
def test_a_command_has_flags_that_parse(page, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the paths that the pages name for example are made up
    (tmp_path / "path/to/pictures").mkdir(parents=True)
    (tmp_path / "path/to/images.npz").touch()
    if "multi_worker" in line:  # the command stands below the line that sets it
        setting = re.search(r"^export TF_CONFIG='(.+)'$", page.read_text("utf-8"), re.MULTILINE)
        monkeypatch.setenv("TF_CONFIG", setting[1])
    parse_flags(shlex.split(line, comments=True)[2:])


def test_pages_have_links_pictures_and_commands_to_test():
    assert len(links()) > 30
    assert len(commands()) > 20


def test_the_readme_is_a_front_page():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= LONGEST_README


def test_the_readme_has_the_two_commands():
    """.ci/run takes the first line that names requirements-dev.txt and runs it."""
    readme = (ROOT / "README.md").read_text("utf-8")
    start = "python3 -m venv .venv && .venv/bin/pip install -U pip && "
    first = next(line for line in readme.splitlines() if "requirements-dev.txt" in line)
    assert first == start + TEST_COMMAND
    blocks = [block for block in FENCE.findall(readme) if block.startswith("```sh\n")]
    assert f"```sh\n{first}\n```" in blocks
    assert f"```sh\n{start}.venv/bin/pip install -r requirements.txt && .venv/bin/python assignment.py\n```" in blocks


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_wraps_at_120_columns(page):
    """All but tables, and lines that hold one picture or link with its text."""
    long = [line for line in text_of(page).splitlines() if len(line) > 120 and not line.startswith(("|", "!["))]
    assert long == []
