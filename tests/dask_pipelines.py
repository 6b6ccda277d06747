"""Pipelines of every kind over real files; as a script, what a session of its own computes of them."""

import json
import os
import sys
from pathlib import Path

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import zarr

LOG = os.environ.get("CALLS", os.devnull)


def called(name, part=1):
    if not np.size(part):
        return  # dask looks what a function returns of nothing
    with Path(LOG).open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")


def doubled(part):
    """Double what there is."""
    called("doubled", part)
    return part * 2


def is_even(x):
    called("is_even")
    return x % 2 == 0


def total(*parts):
    called("total")
    return sum(float(np.asarray(part).sum()) for part in parts)


def frame(seed=0, rows=100):
    generator = np.random.default_rng(seed)
    return pd.DataFrame({"k": generator.integers(0, 7, rows), "v": generator.random(rows)})


def write_files(folder):
    """Write what the pipelines read."""
    folder = Path(folder)
    for i, name in enumerate(["a", "b"]):
        frame(i).to_csv(folder / f"{name}.csv", index=False)
        frame(i).to_json(folder / f"{name}.json", orient="records", lines=True)
    (folder / "frames").mkdir(exist_ok=True)
    for i in range(2):
        frame(i).to_parquet(folder / f"frames/{i}.parquet")
    array = zarr.create_array(folder / "z.zarr", shape=(20,), chunks=(10,), dtype="f8", overwrite=True)
    array[:] = np.arange(20)


META = frame(rows=0)


def pipelines(folder):
    """Return collections by name."""
    folder = str(folder)
    frames = dd.read_parquet(f"{folder}/frames").map_partitions(doubled, meta=META)
    return {
        "delayed": dask.delayed(total)(dask.delayed(doubled)(1), dask.delayed(doubled)(2)),
        "array": da.ones((20, 20), chunks=10).map_blocks(doubled, dtype="f8").sum(axis=0),
        "lambda": da.arange(20, chunks=10).map_blocks(
            lambda x: (called("lambda", x), x + 1)[1], dtype="i8"
        ),
        "zarr": da.from_zarr(f"{folder}/z.zarr").map_blocks(doubled, dtype="f8"),
        "bag": db.from_sequence(range(10), npartitions=2).filter(is_even),
        "text": db.read_text(f"{folder}/*.csv").map(len).filter(is_even),
        "csv": dd.read_csv(f"{folder}/*.csv").map_partitions(doubled, meta=META),
        "json": dd.read_json(f"{folder}/*.json", orient="records", lines=True, meta=META).map_partitions(
            doubled, meta=META
        ),
        "parquet": frames,
        "arrow": dd.read_parquet(f"{folder}/frames", filesystem="arrow").map_partitions(doubled, meta=META),
        "groupby": frames.groupby("k").v.sum(),
        "merge": frames.merge(frames.groupby("k").v.max().rename("most").reset_index(), on="k"),
        "shuffle": frames.shuffle("k"),
    }


def plain(value):
    """Return a result as JSON has it, whatever the order of rows."""
    if isinstance(value, pd.DataFrame):
        return value.sort_values(list(value.columns)).to_numpy().tolist()
    if isinstance(value, pd.Series):
        return value.sort_index().tolist()
    return np.asarray(value).tolist()


def main(folder, store, scheduler):
    import persicache_dask

    told = {}
    for name, collection in pipelines(folder).items():
        Path(LOG).unlink(missing_ok=True)
        cache = persicache_dask.ResultCache(store)
        with cache:
            result = collection.compute(scheduler=scheduler)
        calls = Path(LOG).read_text(encoding="utf-8").split() if Path(LOG).exists() else []
        told[name] = {"calls": calls, "result": plain(result), "stats": cache.stats()._asdict()}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
