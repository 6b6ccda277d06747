"""Disks of a test's own, that run full, can't be written, or lose their power: `Image`, `small_disk`."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

PAGE_NBYTES = 4096
_IMAGE_NBYTES = 24 * 1024 * 1024


@contextlib.contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """Mount something at `folder`, which is made."""
    folder.mkdir()
    subprocess.run(["mount", *arguments, str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        # Lazily: a failed test may have left files open.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def small_disk(folder: Path, *, nbytes: int) -> contextlib.AbstractContextManager[Path]:
    """Mount an empty disk of so many bytes, in memory."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={nbytes},mode=700", "tmpfs")


@functools.cache
def no_small_disk() -> str | None:
    """Return why none can be had here."""
    return _trouble(lambda folder: small_disk(folder / "disk", nbytes=PAGE_NBYTES))


def fill_up(disk: Path, *, but_pages: int = 0) -> Path:
    """Fill a small disk but for some pages; return the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(PAGE_NBYTES))
    os.truncate(ballast, ballast.stat().st_size - but_pages * PAGE_NBYTES)
    return ballast


def free_nbytes(disk: Path) -> int:
    """Return how much can be written to a disk."""
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


class Image:
    """An ext4 filesystem in a file, whose power can be cut.

    What is in the file at some moment is what a disk would hold if the power failed then: neither
    what the kernel keeps of the filesystem in memory, nor what its journal has yet to commit.
    The kernel is told not to commit by itself meanwhile.

    Parameters
    ----------
    folder : Path
        Where to keep the images, and mount them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = count()
        self._file = folder / "image"
        shutil.copyfile(_empty_image(), self._file)

    @contextlib.contextmanager
    def powered(self) -> Iterator[Path]:
        """Give the disk."""
        with mounted(self._folder / "disk", "-o", "loop,commit=300", str(self._file)) as disk:
            yield disk

    @contextlib.contextmanager
    def after_power_cut(self) -> Iterator[Path]:
        """Give a disk as it would come up again, had the power failed now."""
        copy = self._folder / f"copy{next(self._number)}"
        shutil.copyfile(self._file, copy)
        try:
            with mounted(copy.with_suffix(".disk"), "-o", "loop", str(copy)) as disk:
                yield disk
        finally:
            copy.unlink()


@functools.cache
def no_image() -> str | None:
    """Return why none can be had here."""
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed"
    return _trouble(lambda folder: Image(folder).powered())


@functools.cache
def _empty_image() -> Path:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "image")
    with path.open("wb") as file:
        file.truncate(_IMAGE_NBYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True, capture_output=True)
    return path


def _trouble(made: Callable[[Path], contextlib.AbstractContextManager[Path]]) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with made(Path(folder)):
                return None
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", None) or b"").decode().strip()
            return f"nothing can be mounted here: {said.partition(chr(10))[0] or error}"
