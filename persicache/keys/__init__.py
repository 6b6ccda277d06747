"""Keys: their storage names, the digest of values and calls, the identity of a function's code."""

from persicache.keys.atoms import Key
from persicache.keys.code import CodeMode, Fingerprint, fingerprint
from persicache.keys.digest import CallDigest, digest, feed
from persicache.keys.names import KeyName, decode_name, encode_key, encode_prefix, name_of
from persicache.keys.naming import OWN_NAMES, Naming
from persicache.keys.objects import register_digest
from persicache.keys.signed_names import SignedNames
from persicache.keys.texts import decode_text

__all__ = [
    "OWN_NAMES",
    "CallDigest",
    "CodeMode",
    "Fingerprint",
    "Key",
    "KeyName",
    "Naming",
    "SignedNames",
    "decode_name",
    "decode_text",
    "digest",
    "encode_key",
    "encode_prefix",
    "feed",
    "fingerprint",
    "name_of",
    "register_digest",
]
