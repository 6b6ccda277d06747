"""Make the golden entries: run once per format version, never again for an old one.

    python tests/golden/make.py

The files pin format version 1: a persicache that can't read them, or that writes other
bytes for the same input, has broken the format.
"""

from pathlib import Path

import msgpack
import numpy as np

from persicache.codecs import envelope
from persicache.codecs.compression import LZ4, NONE, ZSTD
from persicache.codecs.entry import signing_keys
from persicache.codecs.tree import pack_tree

HERE = Path(__file__).parent
SECRET = "golden secret"
VALUES = {
    "int": 42,
    "nested": {"a": (1, -2.5, None), b"b": [True, 2**80, {"x", 3}], "t": "é\ud800"},
    "array": np.arange(300, dtype="<i8").reshape(20, 15).T,
    "signed": ["signed", {"k": 1}],
    "lz4": ["lz4", np.zeros(1000, dtype="<f8")],
    "zstd": ["zstd", np.ones(1000, dtype="<f4"), "text " * 1000],
}


def entry(name: str) -> bytes:
    """Return the bytes of the entry of this name, the same in every run."""
    body, buffers = pack_tree(VALUES[name])
    return b"".join(
        envelope.seal(
            codec=1,
            metadata=msgpack.packb({"created": 1_700_000_000.5, "key": name, "writer": "golden"}),
            body=body,
            buffers=buffers,
            ad=envelope.associated_data("golden", name),
            compression={"lz4": LZ4, "zstd": ZSTD}.get(name, NONE),
            signing_key=signing_keys(SECRET)[0] if name == "signed" else None,
            cost_seconds=1.25,
            new_write_id=lambda n: bytes(range(n)),
        )
    )


if __name__ == "__main__":
    for each in VALUES:
        path = HERE / f"v1-{each}.pc"
        if not path.exists():
            path.write_bytes(entry(each))
