"""What entries are made of: `Buffer`."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["Buffer"]

#: Bytes in memory.
Buffer: TypeAlias = bytes | bytearray | memoryview
