"""persicache for Jupyter and IPython: cells that are run once.

``%load_ext persicache_ipython`` gives ``%%persist``, which keeps the variables that a cell makes, and
``%persicache``, which lists, explains and forgets them.
"""

from typing import Any

from persicache import MissingDependency

__all__ = ["load_ipython_extension"]


def load_ipython_extension(shell: Any) -> None:
    """Add the magics to a shell; ``%load_ext persicache_ipython`` calls this.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        The shell.

    Raises
    ------
    MissingDependency
        If IPython isn't installed.
    """
    try:
        from persicache_ipython.magics import PersistMagics  # noqa: PLC0415 - IPython comes with it
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"IPython", "traitlets"}:
            raise
        raise MissingDependency(package="IPython", extra="ipython") from error
    shell.register_magics(PersistMagics)
