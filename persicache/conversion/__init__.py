"""What other caches have stored, copied into a dictionary of persicache."""

from persicache.conversion.convert import Converted, convert

__all__ = ["Converted", "convert"]
