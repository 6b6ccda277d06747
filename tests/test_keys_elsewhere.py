"""Arguments that only say where to find what they hold, and datasets, which may hold it or not."""

from __future__ import annotations

import functools
import shelve
from multiprocessing.shared_memory import SharedMemory

import dask.array
import dask.bag
import diskcache
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
import xarray as xr
import zarr

import persicache
from persicache import UndigestibleValue, persistent_memoize, register_digest
from persicache.keys import digest


def shared_memory(_):
    shared = SharedMemory(create=True, size=8)
    shared.unlink()
    return shared


def zarr_array(place):
    return zarr.create_array(str(place), shape=(4,), dtype="i4", overwrite=True)


def table_file(place):
    pa.parquet.write_table(pa.table({"a": [1, 2]}), place)
    return place


def dataset():
    return xr.Dataset(
        {"v": (("t", "x"), np.arange(6.0).reshape(2, 3), {"unit": "m"})},
        coords={"x": [1, 2, 3], "name": ("x", ["p", "q", "r"])},
        attrs={"made": "here"},
    )


def in_file(place):
    dataset()[["v"]].drop_vars("name").to_netcdf(place, engine="scipy")
    return place


PLACES = {
    "zarr array": zarr_array,
    "zarr group": lambda place: zarr.open_group(str(place)),
    "zarr store": lambda place: zarr.storage.LocalStore(str(place)),
    "dask array of zarr": lambda place: dask.array.from_zarr(zarr_array(place)),
    "dask bag of files": lambda place: dask.bag.read_text(str(table_file(place))),
    "open file of fsspec": lambda place: fsspec.open(str(place)),
    "mapping of fsspec": lambda place: fsspec.get_mapper(str(place)),
    "arrow dataset": lambda place: pa.dataset.dataset(table_file(place)),
    "parquet dataset": lambda place: pa.parquet.ParquetDataset(table_file(place)),
    "shelf": lambda place: shelve.open(str(place)),  # noqa: SIM115 - closed by the test
    "diskcache": lambda place: diskcache.Cache(str(place)),
    "diskcache index": lambda place: diskcache.Index(str(place)),
    "shared memory": shared_memory,
    "persidict": persicache.open,
    "lazy xarray": lambda place: xr.open_dataset(in_file(place), engine="scipy"),
    "lazy xarray variable": lambda place: xr.open_dataset(in_file(place), engine="scipy").v,
}


@pytest.mark.parametrize("kind", PLACES)
def test_what_can_change_where_it_is_is_no_argument(tmp_path, kind):
    @persistent_memoize(tmp_path / "memo")
    def f(data):
        return 1

    value = PLACES[kind](tmp_path / "place")
    try:
        with pytest.raises(
            UndigestibleValue, match=r"argument 'data'.*can change.*pass what is read.*ignore="
        ):
            f([value])
    finally:
        getattr(value, "close", lambda: None)()


def test_a_registered_digest_stands_for_what_is_elsewhere():
    class Mapping(fsspec.FSMap):
        pass

    mapping = Mapping("a", fsspec.filesystem("memory"))
    with pytest.raises(UndigestibleValue, match="can change where it is"):
        digest(mapping)
    register_digest(Mapping, lambda mapping: mapping.root)
    assert digest(mapping) == digest(Mapping("a", mapping.fs)) != digest(Mapping("b", mapping.fs))


@pytest.mark.parametrize("opened", [persicache.open, fsspec.get_mapper])
def test_code_depends_on_the_place_that_it_refers_to(tmp_path, opened):
    def using(place):
        return persicache.fingerprint(lambda: len(place)).digest

    first = using(opened(str(tmp_path / "a")))
    opened(str(tmp_path / "a"))["key"] = b"1"
    assert using(opened(str(tmp_path / "a"))) == first
    assert using(opened(str(tmp_path / "b"))) != first


def test_arrays_of_zarr_in_memory_count_by_what_they_hold():
    array = zarr.create_array(zarr.storage.MemoryStore(), shape=(4,), dtype="i4")
    before = digest(array)
    assert digest(array) == before
    array[:] = 1
    assert digest(array) != before


def test_a_dataset_is_the_same_whatever_it_remembers(tmp_path):
    used = dataset()
    assert used.v.weighted(used.x).mean() > 0
    assert used.v.str is not None  # an accessor, which is kept
    assert digest(used) == digest(dataset()) == digest(dataset()[["name", "v"]])
    assert digest(used.v) == digest(dataset().v)
    assert digest(used.chunk()) == digest(dataset().chunk())
    place = in_file(tmp_path / "place")
    with xr.open_dataset(place, engine="scipy") as opened:
        opened.load()
        assert digest(opened) == digest(xr.load_dataset(place, engine="scipy"))


CHANGES = {
    "values": lambda data: data.assign(v=data.v + 1),
    "attributes": lambda data: data.assign_attrs(made="there"),
    "attributes of a variable": lambda data: data.assign(v=data.v.assign_attrs(unit="s")),
    "dimensions": lambda data: data.transpose("x", "t"),
    "names of dimensions": lambda data: data.rename_dims(t="u"),
    "names": lambda data: data.rename(v="w"),
    "coordinates": lambda data: data.assign_coords(x=[1, 2, 4]),
    "what is a coordinate": lambda data: data.reset_coords("name"),
    "indexes": lambda data: data.drop_indexes("x"),
    "dtype": lambda data: data.astype("f4"),
    "chunks": lambda data: data.chunk(),
}


def test_datasets_differ_by_all_that_they_hold():
    of_each = {digest(change(dataset())) for change in CHANGES.values()}
    assert len(of_each | {digest(dataset())}) == len(CHANGES) + 1
    arrays = [dataset().v, dataset().v.rename("w"), dataset().v.drop_vars("name"), dataset().v.variable]
    assert len(set(map(digest, arrays))) == len(arrays)


def test_trees_of_datasets_count_node_by_node():
    tree = functools.partial(xr.DataTree.from_dict, {"/": dataset(), "/child": dataset()})
    assert digest(tree()) == digest(tree())
    other = tree()
    other["child"].attrs["made"] = "there"
    assert len({digest(tree()), digest(other), digest(tree()["child"])}) == 3
