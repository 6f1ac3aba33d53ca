"""quickstart.ipynb runs, and its stored results are those of this code."""

import re

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient

NOTEBOOK = REPOSITORY / "quickstart.ipynb"


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook) -> str:
    return "".join(
        output["text"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )


def pictures(notebook) -> int:
    return sum("image/png" in output.get("data", {}) for cell in code_cells(notebook) for output in cell.outputs)


@pytest.mark.slow
def test_the_notebook_runs_and_finds_what_is_stored_in_it():
    stored = nbformat.read(NOTEBOOK, as_version=4)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(REPOSITORY)}}).execute()
    assert len(code_cells(stored)) == 10
    assert [cell.execution_count for cell in code_cells(stored)] == list(range(1, 11))
    assert pictures(notebook) == pictures(stored) >= 9
    number = re.compile(r"-?\d+\.\d")
    found, wanted = (list(map(float, number.findall(printed(each)))) for each in (notebook, stored))
    assert found == pytest.approx(wanted, abs=1.0)
    assert number.sub("", printed(notebook)) == number.sub("", printed(stored))


def test_the_stored_results_hold_no_messages_of_the_machine_that_made_them():
    stored = nbformat.read(NOTEBOOK, as_version=4)
    assert not [output for cell in code_cells(stored) for output in cell.outputs if output.get("name") == "stderr"]
    assert not re.search(r"/(root|home|tmp|work)/", NOTEBOOK.read_text("utf-8"))
