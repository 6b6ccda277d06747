"""Keys: their storage names, the digest of values and calls, the identity of a function's code."""

from persicache.keys.atoms import Key
from persicache.keys.names import KeyName, decode_name, encode_key, encode_prefix, name_of
from persicache.keys.texts import decode_text

__all__ = ["Key", "KeyName", "decode_name", "decode_text", "encode_key", "encode_prefix", "name_of"]
