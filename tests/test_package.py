"""The package is what its metadata says, and imports little."""

import importlib.metadata
import pickle
import subprocess
import sys
from pathlib import Path

import persicache
from persicache import errors


def test_importing_it_imports_no_optional_library_and_little_that_takes_long():
    code = (
        "import sys, persicache; "
        "print(*{'pandas', 'pyarrow', 's3fs', 'aiobotocore', 'dask', 'distributed', 'joblib', "
        "'IPython', 'zarr', 'rich', 'lz4', 'zstandard', 'cbor2', 'lmdb', 'apsw', 'sqlite3', 'fsspec', "
        "'asyncio', 'ssl', 'psutil', 'importlib.metadata', 'numpy.ma'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_public_names_are_documented():
    for name in persicache.__all__:
        assert getattr(persicache, name).__doc__, name
    assert set(errors.__all__) <= set(persicache.__all__)


def test_the_wheel_is_typed_and_one_distribution():
    assert importlib.metadata.version("persicache") == persicache.__version__ == "0.1.0"
    assert (Path(persicache.__file__).parent / "py.typed").exists()


EXAMPLES = {
    "place": "s3://bucket",
    "name": "n",
    "key": ("k", 1),
    "reason": "why",
    "action": "read",
    "cause": OSError("x"),
    "expected": "v1",
    "actual": "v2",
    "path": "argument 'x'",
    "kind": "dict",
    "package": "s3fs",
    "extra": "s3",
    "attempts": 7,
    "policy": "append-only",
    "call": "f(x=3)",
}


def test_every_error_carries_its_data_and_a_builtin():
    for name in errors.__all__:
        kind = getattr(errors, name)
        if kind in (errors.PersicacheError, errors.PersicacheWarning):
            continue
        fields = {field for each in kind.__mro__ for field in getattr(each, "__annotations__", {})}
        data = {field: EXAMPLES[field] for field in fields if not field.startswith("_")}
        error = kind(**data)
        assert issubclass(kind, errors.PersicacheError)
        assert any(base.__module__ == "builtins" for base in kind.__mro__[1:-3]), kind
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert len(str(error)) > 20
