"""The main job of persicache on real data: ``make demo``."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import persicache
from demo.bucket import bucket

HERE = Path(__file__).parent
console = Console(width=None if sys.stdout.isatty() else 100)


def lines(script: Path) -> Iterator[dict[str, Any]]:
    """Run a script in a process of its own, and yield the lines of JSON that it prints."""
    # Imported, not run as a script: its functions are then the same in all of the demo's processes.
    command = [sys.executable, "-c", f"import {script.stem}; {script.stem}.main()"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=script.parent) as child:
        assert child.stdout is not None
        for line in child.stdout:
            yield json.loads(line)
    if child.returncode:
        raise SystemExit(f"{script.name} failed")


def progress() -> Progress:
    """Return a progress bar."""
    return Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def run_pipeline(bar: Progress, title: str, script: Path) -> dict[str, dict[str, Any]]:
    """Run the pipeline once; return a report a step."""
    task = bar.add_task(title, total=4)
    reports = {}
    for report in lines(script):
        reports[report["step"]] = report
        bar.advance(task)
    assert len(reports) == bar.tasks[task].total
    return reports


def edit_helper(script: Path) -> None:
    """Change what counts as late: a function that some of the steps call."""
    old = script.read_text()
    new = old.replace("return minutes > 15", "return minutes > 30")
    assert new != old
    script.write_text(new)


def pipeline(results: Table, work: Path) -> None:
    """Run the flights cold, warm, and with one helper edited."""
    script = work / "pipeline.py"
    with progress() as bar:
        cold = run_pipeline(bar, "flights, cold", script)
        warm = run_pipeline(bar, "flights, in a new process", script)
        edit_helper(script)
        titles = ["flights, is_late edited", "flights, beside that one"]
        with ThreadPoolExecutor() as threads:
            both = list(threads.map(partial(run_pipeline, bar, script=script), titles))
    for step, first in cold.items():
        again = warm[step]
        add(results, step, first["seconds"], again["seconds"], first["nbytes"], first["peak_nbytes"])
    if any(report["computed"] for report in warm.values()):
        raise SystemExit("a step was computed twice")
    computed = {step: sum(reports[step]["computed"] for reports in both) for step in cold}
    if computed != {"load": 0, "with_weather": 0, "by_route": 1, "delay_model": 1}:
        raise SystemExit(f"the edit of is_late made the wrong steps recompute: {computed}")
    console.print("  in a new process: all 4 steps were found, none was computed")
    why = next(reports["by_route"]["why"][0] for reports in both if reports["by_route"]["computed"])
    console.print(f"  is_late edited, two processes at once: {why}", highlight=False)
    console.print("    by_route and delay_model use it: computed once, by one for both")
    console.print("    load and with_weather don't: found, in both")


def spilling(results: Table, work: Path) -> None:
    """Send 1 GiB through 128 MiB of memory."""
    with progress() as bar:
        task = bar.add_task("1 GiB through 128 MiB", total=256)
        for report in lines(work / "spilling.py"):
            bar.update(task, completed=report.get("done", 256))
    if report["wrong"]:
        raise SystemExit(f"{report['wrong']} arrays came back wrong")
    add(
        results,
        "SpillDict",
        report["in_seconds"],
        report["out_seconds"],
        report["nbytes"],
        report["peak_nbytes"],
    )
    if report["written_nbytes"] > report["weight"]:
        raise SystemExit("an array was written twice")
    console.print(
        "  all arrays came back right, each was written once; "
        f"peak over the start: {shown(report['peak_nbytes'])}"
    )


def dictionaries(results: Table, work: Path) -> None:
    """Keep the results in a directory and in a bucket."""
    sys.path.insert(0, str(work))
    from pipeline import by_route, delay_model

    kept = {"routes": by_route(), ("model", "ridge"): delay_model()}
    with bucket() as where:
        places: dict[str, dict[str, Any]] = {"directory": {"url": work / "results"}}
        if where is None:
            console.print("  S3 is skipped: it needs pip install 'persicache\\[s3]' moto")
        else:
            # Others may be able to write to a bucket, so pickled frames are signed.
            places["S3"] = {"url": where[0], "storage_options": where[1], "signing_key": "demo secret"}
        for place, options in places.items():
            start = time.perf_counter()
            persicache.open(**options).update(kept)
            wrote = time.perf_counter() - start
            start = time.perf_counter()
            again = dict(persicache.open(**options))
            read = time.perf_counter() - start
            assert again["routes"].equals(kept["routes"])
            assert np.array_equal(again["model", "ridge"]["weights"], kept["model", "ridge"]["weights"])
            add(
                results,
                f"PersiDict in {place}",
                wrote,
                read,
                sum(map(persicache.nbytes, kept.values())),
                None,
            )


def add(results: Table, step: str, cold: float, warm: float, nbytes: int, peak: int | None) -> None:
    """Add a row."""
    results.add_row(
        step,
        f"{cold:.4f}",
        f"{warm:.4f}",
        f"{cold / warm:,.1f} x",
        shown(nbytes),
        "" if peak is None else shown(peak),
    )


def shown(nbytes: int) -> str:
    """Show an amount of memory."""
    return f"{nbytes / 2**20:,.1f} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:,.1f} KiB"


def main() -> None:
    """Run the three parts, and print one table."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    console.print("[bold]persicache[/]: real flights, three tools, one engine")
    results = Table("step", "cold s", "warm s", "speed-up", "bytes", "peak memory")
    for column in results.columns[1:]:
        column.justify = "right"
    work = Path(tempfile.mkdtemp(prefix="persicache-demo-"))
    try:
        for script in ("memory.py", "pipeline.py", "spilling.py"):
            shutil.copy(HERE / script, work)
        sys.path.insert(0, str(work))
        from pipeline import STEPS

        for step in STEPS:
            step.clear()
        pipeline(results, work)
        spilling(results, work)
        dictionaries(results, work)
        console.print(results)
        console.print(
            "cold: computed, set, sent through memory; warm: found, read back.\n"
            f"The results of the steps are in {STEPS[0].url}"
        )
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
