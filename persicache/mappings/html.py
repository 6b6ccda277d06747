"""What a notebook shows of a dictionary: `summary`, and amounts and times for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape

__all__ = ["moment", "shown", "summary"]


def moment(seconds: float) -> str:
    """Return a time in POSIX seconds as people here say it, or as it is if no calendar has it.

    Examples
    --------
    >>> moment(1e9)[:8], moment(1e12)
    ('2001-09-', '1000000000000')
    """
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):  # files can have any time
        return f"{seconds:.0f}"


def shown(nbytes: float) -> str:
    """Return an amount of bytes as people say it.

    Examples
    --------
    >>> shown(100), shown(3 << 19)
    ('100 B', '1.5 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:  # noqa: PLR2004 - the units' ratio
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def summary(
    title: str, facts: Mapping[str, object], columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> str:
    r"""Return an HTML table: a caption, a line of facts, and rows below the names of columns.

    Everything is escaped.

    Examples
    --------
    >>> print(summary("d", {"entries": 1}, ["key"], [["<i>"]]).replace("><tr", ">\n<tr"))
    <table><caption><b>d</b><br/>entries: 1</caption>
    <tr><th>key</th></tr>
    <tr><td>&lt;i&gt;</td></tr></table>
    """
    told = ", ".join(f"{escape(name)}: {escape(str(fact))}" for name, fact in facts.items())
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    caption = f"<caption><b>{escape(title)}</b><br/>{told}</caption>"
    table = f"<table>{caption}{f'<tr>{head}</tr>' if body else ''}{body}</table>"
    return table.encode(errors="backslashreplace").decode()  # paths can have names that are no text
