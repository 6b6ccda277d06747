"""Equality that looks at types, signs, NaNs, dtypes and layouts."""

import math

import numpy as np
import pandas as pd


def assert_same(one, other):
    """Assert that two values are the same, down to the types of their parts."""
    assert type(one) is type(other), f"{type(one)} is not {type(other)}"
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_column_type="exact")
        assert repr(one.attrs) == repr(other.attrs)
        for a, b in zip(one.dtypes, other.dtypes, strict=True):
            assert a == b
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True)
        assert_same(one.name, other.name)
    elif isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact=True)
        assert getattr(one, "freq", None) == getattr(other, "freq", None)
    elif isinstance(one, np.ma.MaskedArray):
        assert_same(one.data, other.data)
        assert (one.mask is np.ma.nomask) == (other.mask is np.ma.nomask)
        assert_same(np.asarray(one.mask), np.asarray(other.mask))
        assert repr(one.fill_value) == repr(other.fill_value)
        assert one.hardmask == other.hardmask
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.dtype.isalignedstruct == other.dtype.isalignedstruct
        assert one.shape == other.shape
        if one.flags.f_contiguous and other.flags.f_contiguous:
            assert one.flags.c_contiguous == other.flags.c_contiguous
        if one.dtype == object:
            assert_same(list(one.flat), list(other.flat))
        elif one.dtype.itemsize:
            assert one.tobytes() == other.tobytes()
    elif isinstance(one, (np.str_, np.bytes_)):
        assert len(one) == len(other)
        assert list(one) == list(other)
    elif isinstance(one, np.generic):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    elif isinstance(one, float):
        assert math.copysign(1, one) == math.copysign(1, other)
        assert one == other or (math.isnan(one) and math.isnan(other))
    elif isinstance(one, complex):
        assert_same([one.real, one.imag], [other.real, other.imag])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, dict):
        assert_same(list(one.items()), list(other.items()))
    elif hasattr(one, "tzinfo"):
        assert one.replace(tzinfo=None) == other.replace(tzinfo=None)
        assert one.fold == other.fold
        assert repr(one.tzinfo) == repr(other.tzinfo)
    elif type(one).__name__ == "Decimal":
        assert str(one) == str(other)
    else:
        assert one == other
        assert repr(one) == repr(other) or isinstance(one, (set, frozenset))
