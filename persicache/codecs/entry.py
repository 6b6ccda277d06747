"""Entries of format "auto": enveloped, self-describing, the codec chosen per value."""

# ruff: noqa: D102 - the protocol has the docstrings

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any, Final, Literal, cast, get_args
from zoneinfo import ZoneInfoNotFoundError

import msgpack
from blake3 import blake3

from persicache.codecs import compression as compressions
from persicache.codecs import envelope, pickled
from persicache.codecs.buffer import Buffer
from persicache.codecs.codec import Decoded, Metadata, Owner, Source
from persicache.codecs.frames import ArrowFrames, InexactFrame
from persicache.codecs.tree import NATIVE, NotATree, pack_native, pack_tree, unpack_tree
from persicache.codecs.trust import Trust
from persicache.codecs.verified import Verified
from persicache.errors import (
    CorruptEntry,
    MissingDependency,
    UnencodableValue,
    UnknownCodec,
    UnloadableValue,
    UntrustedPickle,
)

__all__ = ["EntryCodec", "SigningKey", "Verify", "signing_keys"]

Verify = Literal["first", "always", "header"]
SigningKey = str | bytes | Sequence[str | bytes]

TREE: Final = 1
PICKLE: Final = 2
FORMAT_VERSION: Final = "0.1"
#: Where the alternative to copies is a refusal.
MOST_REPEATS_WITHOUT_PICKLE: Final = 1_000_000
ARROW: Final = ArrowFrames()
_new: Final = tuple.__new__  # a third of the time of Decoded(...), on the path of every hit
CREATED: Final = Struct(">10sd4s")
#: Keys of our own in the metadata map.
OWN: Final = ("created", "key", "writer")


def signing_keys(secret: SigningKey | None) -> tuple[bytes, ...]:
    """Derive the MAC keys from one secret or several: the first signs, all are accepted.

    Examples
    --------
    >>> len(signing_keys(["this year's secret", "last year's secret"]))
    2
    """
    if secret is None:
        return ()
    several: list[object] = [secret] if isinstance(secret, (str, bytes)) else _listed(secret)
    if not several or not all(isinstance(one, (str, bytes)) and one for one in several):
        raise ValueError("signing_key must be a non-empty str or bytes, or a sequence of these")
    return tuple(
        blake3(
            one.encode() if isinstance(one, str) else cast("bytes", one),
            derive_key_context="persicache 2026-11 signing of entries v1",
        ).digest()
        for one in several
    )


def _listed(secret: object) -> list[object]:
    return list(secret) if isinstance(secret, (list, tuple)) else []


class EntryCodec:
    """Encodes a value as one enveloped entry.

    Parameters
    ----------
    namespace : str, default ""
        Entries of one namespace are not valid in another.
    compression : {None, "lz4", "zstd"}, default None
        For new entries; old ones are read whatever they use.
    signing_key : str, bytes or a sequence of these, optional
        Secret that signs every entry; entries without a valid signature are refused. The
        first of several signs.
    allow_pickle : bool, optional
        See `Trust`.
    verify : {"first", "always", "header"}, default "first"
        When the checksums of large buffers are verified: when this process first reads them
        and whenever their file has changed, on every read, or never. The head of an entry,
        and all that is unpickled, is verified on every read.
    hashes_buffers : bool, default True
        Whether new entries have checksums of large buffers. Those without can be read with
        ``verify="header"`` only: for what no other process reads, and doesn't go with compression.
    clock : callable
        Returns POSIX seconds.

    Examples
    --------
    >>> from persicache.codecs import Bytes
    >>> codec, owner = EntryCodec(), Owner("k", "k", "here")
    >>> entry = b"".join(codec.encode([1, "two"], owner, is_private=True))
    >>> codec.decode(Bytes(entry, is_private=True), owner).value
    [1, 'two']
    """

    extension: Final = ".pc"
    keeps_keys: Final = True

    def __init__(
        self,
        *,
        namespace: str = "",
        compression: str | None = None,
        signing_key: SigningKey | None = None,
        allow_pickle: bool | None = None,
        verify: Verify = "first",
        hashes_buffers: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if verify not in get_args(Verify):
            raise ValueError(f"verify must be one of {get_args(Verify)}, not {verify!r}")
        if not isinstance(namespace, str):
            raise TypeError(f"namespace must be a str, not {namespace!r}")
        if allow_pickle is not None and not isinstance(allow_pickle, bool):
            raise TypeError(f"allow_pickle must be True, False or None, not {allow_pickle!r}")
        self._ad = envelope.associated_data(namespace)
        self._compression = compressions.named(compression)
        self._keys = signing_keys(signing_key)
        self._trust = Trust(allow_pickle=allow_pickle, signs=bool(self._keys))
        self._verify = verify
        self._verified = Verified()
        if compression is not None and not hashes_buffers:
            raise ValueError("what is compressed needs checksums: it is verified before it is decompressed")
        self._hashes_buffers = hashes_buffers
        self._clock = clock

    @staticmethod
    def identify(head: Buffer) -> str | None:
        return envelope.identify(head)

    def encode(
        self,
        value: object,
        owner: Owner,
        *,
        is_private: bool,
        cost_seconds: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Sequence[Buffer]:
        if type(value) in NATIVE and not extra and not self._keys:
            plain = self._plain(value, owner.text, cost_seconds)
            if plain is not None:
                return [plain]
        codec, body, buffers = self._pack(value, owner, is_private=is_private)
        about = {
            **(extra or {}),
            "created": self._clock(),
            "key": owner.text,
            "writer": _Writer.name,
        }
        return envelope.seal(
            codec=codec,
            metadata=msgpack.packb(about),
            body=body,
            buffers=buffers,
            ad=self._ad + owner.text.encode(),
            compression=self._compression,
            signing_key=self._keys[0] if self._keys else None,
            cost_seconds=math.nan if cost_seconds is None else cost_seconds,
            hashes_buffers=self._hashes_buffers,
        )

    def _plain(self, value: object, text: str, cost_seconds: float | None) -> bytes | None:
        """Return the entry of a number or a short text, in half the time; None of any other."""
        try:
            body = pack_native(value)
        except (ValueError, OverflowError):
            return None
        if len(body) >= envelope.COMPRESSIBLE_NBYTES:
            return None
        # As msgpack writes the map of three that `encode` makes.
        created = CREATED.pack(b"\x83\xa7created\xcb", self._clock(), b"\xa3key")
        metadata = created + msgpack.packb(text) + _Writer.packed
        cost = math.nan if cost_seconds is None else cost_seconds
        return envelope.seal_plain(TREE, metadata, body, self._ad + text.encode(), cost, os.urandom(16))

    def _pack(self, value: object, owner: Owner, *, is_private: bool) -> tuple[int, bytes, list[Any]]:
        pickles = self._trust.can_store(is_private=is_private)
        try:
            if pickles:
                return TREE, *pack_tree(value)
            return TREE, *pack_tree(value, frames=ARROW, most_repeats=MOST_REPEATS_WITHOUT_PICKLE)
        except (NotATree, InexactFrame) as why:
            if not pickles:
                reason = f"its value can only be stored as a pickle ({why})"
                raise UntrustedPickle(key=owner.key, place=owner.place, reason=reason) from None
        try:
            return PICKLE, *pickled.dump(value)
        except pickled.CannotPickle as why:
            raise UnencodableValue(key=owner.key, reason=str(why)) from why

    def decode(self, source: Source, owner: Owner) -> Decoded:
        key, text, place = owner
        data = source.buffer
        ad = self._ad + text.encode()
        if type(data) is bytes and not self._keys:
            plain = envelope.open_plain(data, ad, TREE)
            if plain is not None:
                return _new(Decoded, (self._load_tree(plain[0], [], owner), plain[1]))
        opened = envelope.open_envelope(data, ad, key=key, place=place, signing_keys=self._keys)
        body, buffers = opened.body, []
        if opened.n_buffers:
            buffers = self._buffers(source, opened, owner)
            if opened.body_in_buffer:
                body = buffers.pop()
        if opened.codec == TREE:
            value = self._load_tree(body, buffers, owner)
        elif opened.codec == PICKLE:
            is_signed = opened.is_signed and bool(self._keys)
            self._trust.check_load(is_private=source.is_private, is_signed=is_signed, key=key, place=place)
            value = self._load_pickle(body, buffers, owner)
        else:
            raise UnknownCodec(key=key, place=place, reason=f"codec {opened.codec} is unknown here")
        return _new(Decoded, (value, opened.cost_seconds))

    def _buffers(self, source: Source, opened: envelope.Envelope, owner: Owner) -> list[Buffer]:
        data, stamp = source.buffer, source.stamp
        seen = (stamp, opened.digest)
        is_first = self._verify == "first" and stamp is not None and seen not in self._verified
        trusted = self._verify == "header" or (
            self._verify == "first" and stamp is not None and not is_first
        )
        buffers = envelope.open_buffers(data, opened, key=owner.key, place=owner.place, trusted=trusted)
        if is_first:
            self._verified.add(seen)
        if memoryview(data).readonly:
            # A result is the caller's own and writable, wherever it was read from.
            buffers = [bytearray(b) if memoryview(b).readonly else b for b in buffers]
        return buffers

    def _load_tree(self, body: Buffer, buffers: list[Any], owner: Owner) -> Any:
        try:
            return unpack_tree(body, buffers, frames=ARROW)
        except (MissingDependency, MemoryError, RecursionError):
            raise  # for want of something here, not for anything in the entry
        except ZoneInfoNotFoundError as error:
            raise UnloadableValue(
                key=owner.key, place=owner.place, reason=f"this machine has no time zone data: {error}"
            ) from error
        except Exception as error:
            # Its checksum is right, so it was written so: by other code, or on purpose.
            raise CorruptEntry(
                key=owner.key, place=owner.place, reason=f"its tree makes no sense ({error})"
            ) from error

    def _load_pickle(self, body: Buffer, buffers: list[Any], owner: Owner) -> Any:
        try:
            return pickled.load(body, buffers)
        except MemoryError:
            raise
        except Exception as error:
            raise UnloadableValue(
                key=owner.key, place=owner.place, reason=f"{type(error).__name__}: {error}"
            ) from error

    def metadata(self, data: Buffer, owner: Owner) -> Metadata:
        key, text, place = owner
        opened = envelope.open_envelope(
            data, self._ad + text.encode(), key=key, place=place, signing_keys=self._keys
        )
        return _metadata(data, opened.cost_seconds)

    def peek(self, data: Buffer, owner: Owner) -> Metadata:
        try:
            return _metadata(data, envelope.peek_cost(data))
        except Exception as error:
            reason = "its beginning says nothing of it"
            raise CorruptEntry(key=owner.key, place=owner.place, reason=reason) from error

    def key_text(self, data: Buffer, owner: Owner) -> str:
        try:
            text = msgpack.unpackb(envelope.peek_metadata(data))["key"]
        except Exception as error:
            raise CorruptEntry(key=owner.key, place=owner.place, reason="it names no key") from error
        return str(text)


def _metadata(data: Buffer, cost_seconds: float) -> Metadata:
    about = msgpack.unpackb(envelope.peek_metadata(data))
    extra = {name: value for name, value in about.items() if name not in OWN}
    return Metadata(about["created"], cost_seconds, about["key"], about["writer"], extra)


class _Writer:
    """What entries call the process that writes them."""

    _python = f"{sys.version_info.major}.{sys.version_info.minor}"
    _version = f"persicache/{FORMAT_VERSION} python/{_python} {platform.node()}"
    name = f"{_version}:{os.getpid()}"
    packed = msgpack.packb("writer") + msgpack.packb(name)

    @classmethod
    def renew(cls) -> None:
        cls.name = f"{cls._version}:{os.getpid()}"
        cls.packed = msgpack.packb("writer") + msgpack.packb(cls.name)


os.register_at_fork(after_in_child=_Writer.renew)
