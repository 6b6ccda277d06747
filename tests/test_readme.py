"""The README's examples run, and it names what is there."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_examples_run(tmp_path):
    # One script, as a reader would type it; memoize needs a file of its own to be read again.
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks("python")))
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": ""}
    command = [sys.executable, "-W", "error", script]
    for printed in ("computing\n", ""):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == (printed, "")


def test_the_commands_and_rooms_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make (\w+)", README)) - {"and"} <= targets
    for room in re.findall(r"^\| `(persicache/[\w./]+|\w+/)`", README, flags=re.MULTILINE):
        assert (ROOT / room).exists(), room
    extras = re.findall(r"persicache\[(\w+)\]", README)
    project = (ROOT / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in project for extra in extras)
