"""The notebooks run, say nothing that a reader shouldn't see, and leave nothing behind."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(home|root|Users|tmp|var|work|opt|usr|private|mnt)/|[A-Z]:\\")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


@pytest.fixture
def environment(tmp_path):
    # Not what this machine's user has set up for Jupyter, and no remains of it.
    importlib.import_module("matplotlib.font_manager")  # the first import on a machine talks of its cache
    (tmp_path / "tmp").mkdir()
    names = ["TMPDIR", "IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"]
    return os.environ | {name: str(tmp_path / "tmp") for name in names}


def outputs(path):
    cells = json.loads(path.read_text())["cells"]
    return [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]


def kinds(shown):
    return Counter(output["output_type"] for output in shown)


def claims(shown):
    """Return what the outputs say is so, or isn't; times and sizes may differ."""
    texts = ("".join(output.get("data", {}).get("text/plain", "")) for output in shown)
    return [said for text in texts if (said := re.findall(r"\b(?:True|False)\b", text))]


def test_it_runs_in_a_fresh_kernel(notebook, environment, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(notebook, folder)
    command = [sys.executable, "-m", "jupyter", "execute", "--timeout=60", "--output=done", notebook.name]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    new = outputs(folder / "done.ipynb")
    assert [output for output in new if output.get("name") == "stderr"] == []  # warnings, that is
    # What is stored is of this code, not of an older version; a slow disk may add a progress bar.
    assert kinds(outputs(notebook)) <= kinds(new)
    assert claims(outputs(notebook)) == claims(new)
    assert {path.name for path in folder.iterdir()} == {"done.ipynb", notebook.name}
    assert list((tmp_path / "tmp").glob("persicache*")) == []


def test_its_outputs_name_no_path_of_a_machine(notebook):
    text = json.dumps([{**output, "data": textual(output)} for output in outputs(notebook)])
    assert len(text) > len("[]")
    assert MACHINE_PATH.search(text) is None


def textual(output):
    return {kind: data for kind, data in output.get("data", {}).items() if not kind.startswith("image/png")}


@pytest.mark.parametrize("text", ["in /tmp/persicache-spill-x", "/home/a/b.py", r"C:\Users", "'/work/x'"])
def test_a_path_would_be_seen(text):
    assert MACHINE_PATH.search(json.dumps([text])) is not None
