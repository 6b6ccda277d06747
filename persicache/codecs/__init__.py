"""Objects to chunks of bytes and back: the entry envelope, the codecs, the trust rule."""

from persicache.codecs.codec import Bytes, Codec, Decoded, Metadata, Owner, Source
from persicache.codecs.entry import EntryCodec, SigningKey, Verify
from persicache.codecs.formats import codec_for
from persicache.codecs.hashing import hasher
from persicache.codecs.joblib_format import joblib_format
from persicache.codecs.jsonpickle_format import jsonpickle_format
from persicache.codecs.pickled import PicklingError, dump_object, load_object
from persicache.codecs.plain import FORMATS, PlainCodec, PlainFormat, file_format
from persicache.codecs.trust import Trust
from persicache.codecs.verified import Verified

__all__ = [
    "FORMATS",
    "Bytes",
    "Codec",
    "Decoded",
    "EntryCodec",
    "Metadata",
    "Owner",
    "PicklingError",
    "PlainCodec",
    "PlainFormat",
    "SigningKey",
    "Source",
    "Trust",
    "Verified",
    "Verify",
    "codec_for",
    "dump_object",
    "file_format",
    "hasher",
    "joblib_format",
    "jsonpickle_format",
    "load_object",
]
