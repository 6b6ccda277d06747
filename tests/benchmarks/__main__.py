"""Print how fast persicache is, as ratios to its peers in the same run: ``make bench``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import bucket, crowd, dask_spilling, dictionaries, memo, policies, spilling, tables
from tests.benchmarks.timing import Result


def shown(seconds: float) -> str:
    """Show a time with a fitting unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1 or unit == "us":
            return f"{seconds * factor:,.3g} {unit}"
    raise AssertionError


def add(table: Table, result: Result) -> None:
    """Add a row a contestant."""
    ours = result.seconds["persicache"]
    for i, (name, seconds) in enumerate(result.seconds.items()):
        ratio = "" if name == "persicache" else f"{ours / seconds:.2f}"
        table.add_row(result.work if i == 0 else "", name, shown(seconds), ratio)
    table.add_section()


def main() -> None:
    """Run all, and print tables."""
    console = Console()
    table = Table(
        "work", "who", "best time", "persicache / peer", title="less than 1: persicache is faster"
    )
    with tempfile.TemporaryDirectory(prefix="persicache-bench-") as place:
        for room in (memo, dictionaries, tables, crowd, bucket):
            for result in room.results(Path(place)):
                console.print(f"measured: {result.work}")
                add(table, result)
        console.print(table)
        console.print(memo.table(Path(place)))
        console.print(spilling.table(Path(place)))
    console.print(policies.table())
    console.print(dask_spilling.table())


if __name__ == "__main__":
    main()
