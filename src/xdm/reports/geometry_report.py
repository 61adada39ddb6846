"""The two t-SNE pictures of the XDM paper and the distances behind them, as one folder."""

from __future__ import annotations

from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

import numpy as np

from xdm.bundle.model import TrainedModel, load_model
from xdm.evaluation.splits import Split
from xdm.folders import check_replaceable, new_folder, write_json
from xdm.log.store import Store
from xdm.reports.geometry import MeanDistance, Vectors, distances_of, embed, vectors_of
from xdm.reports.points import SampledPoints, View, sample_points
from xdm.reports.style import COLOURS, MARKERS, REPORT_FILE, drawing, save_figure, write_csv
from xdm.schema import ITEM_ID, TIMESTAMP, USER_ID, UsageError

UNCLICKED, QUERIES, DISTANCES = "unclicked", "queries", "distances"  # the files, without their endings
# What each cloud is called, and always the same colour and shape for the same thing.
H, N, C, Z = "h", "n", "c", "ẑ"
LOOKS = {H: (COLOURS[0], MARKERS[0]), N: (COLOURS[1], MARKERS[1]), C: (COLOURS[2], MARKERS[2]), Z: (COLOURS[3], MARKERS[3])}
MEANING = {H: "h, clicked", N: "n, unclicked", C: "c, label", Z: "ẑ, query"}


def write_geometry(
    store: Store, xdm: Path, sdm: Path | None, split: Split, out: Path, *,
    size: int = 500, seed: int = 0, distance: str | None = None, title: str | None = None, overwrite: bool = False,
) -> tuple[list[MeanDistance], int]:  # fmt: skip
    """Write the report of the bundle ``xdm``, beside the bundle ``sdm`` if there is one, as the folder ``out``; return the
    mean distances and the number of points.

    ``split`` asks for single clicks (`EACH_CLICK`, `LAST_CLICK`); ``size`` points are drawn with ``seed``; ``distance`` is
    that of the bundle's own metric loss unless it is given; ``title`` stands above the pictures.

    Raises:
        UsageError: ``out`` may not be written, ``xdm`` has no unclicked sequence, too few points, a missing library.
        BundleError: a bundle that cannot be loaded.
    """
    check_replaceable(out, REPORT_FILE, overwrite=overwrite)
    models = {"XDM": load_model(xdm)} | ({"SDM": load_model(sdm)} if sdm else {})
    if models["XDM"].model.unclicked is None:
        raise UsageError(f"{xdm} reads no unclicked sequence, so there is no n to look at; give a bundle of --model xdm")
    names = _names(models)
    distance = distance or models["XDM"].config.objective.distance
    points = sample_points(store, split, [View(one.recommender, store) for one in models.values()], size, seed)
    vectors = {name: vectors_of(one, store, points) for name, one in zip(names, models.values(), strict=True)}
    found = [row for name, one in vectors.items() for row in distances_of(name, one, distance)]
    with new_folder(out, REPORT_FILE, overwrite=overwrite) as folder:
        heading = title or store.path.resolve().name
        _write_unclicked(folder, store, points, vectors[names[0]], names[0], found, distance, seed, heading)
        if sdm:
            _write_queries(folder, store, points, vectors, found, distance, seed, heading)
        write_csv(folder / f"{DISTANCES}.csv", [field.name for field in fields(MeanDistance)], map(astuple, found))
        write_json(folder / REPORT_FILE, {
            "report": "geometry", "bundle": str(xdm), "against": str(sdm) if sdm else None, "store": str(store.path),
            "split": split.described(), "distance": distance, "points": len(points), "users_with_a_point": points.eligible,
            "seed": seed, "distances": [asdict(row) for row in found],
        })  # fmt: skip
    return found, len(points)


def _names(models: dict[str, TrainedModel]) -> list[str]:
    """The names of the models by their configuration, or their places where both have one name."""
    names = [one.config.name for one in models.values()]
    if len(set(names)) == len(names):
        return names
    return [f"{name} ({place})" for name, place in zip(names, ("first", "against"), strict=True)]


def _write_unclicked(
    folder: Path, store: Store, points: SampledPoints, vectors: Vectors, name: str, found: list[MeanDistance],
    distance: str, seed: int, heading: str,
) -> None:  # fmt: skip
    assert vectors.unclicked is not None
    clouds = {C: vectors.label, H: vectors.clicked, N: vectors.unclicked}
    places = dict(zip(clouds, embed(list(clouds.values()), distance, seed), strict=True))
    figure, axes = drawing().subplots(figsize=(8, 6.6), layout="constrained")
    _scatter(axes, places)
    axes.set_title(_sentence(found, name, ("D(h, c)", "D(n, c)", "D(n, h)")), fontsize=11)
    figure.suptitle(f"{heading}\nh, n and c of {name} at {len(points)} test points (t-SNE)", fontsize=13)
    save_figure(figure, folder, UNCLICKED)
    _write_places(folder / f"{UNCLICKED}.csv", store, points, {name: places})


def _write_queries(
    folder: Path, store: Store, points: SampledPoints, vectors: dict[str, Vectors], found: list[MeanDistance],
    distance: str, seed: int, heading: str,
) -> None:  # fmt: skip
    figure, panels = drawing().subplots(1, 2, figsize=(11, 5.8), layout="constrained")
    placed = {}
    for axes, (name, one) in zip(panels, vectors.items(), strict=True):
        # Two models are two spaces: no map of both together would mean anything.
        query = H if one.unclicked is None else Z
        clouds = {C: one.label, query: one.query}
        placed[name] = dict(zip(clouds, embed(list(clouds.values()), distance, seed), strict=True))
        _scatter(axes, placed[name])
        axes.set_title(f"{name}: {_sentence(found, name, (f'D({query}, c)',))}", fontsize=11)
    figure.suptitle(f"{heading}\nqueries and labels at {len(points)} test points (t-SNE, each model its own)", fontsize=13)
    save_figure(figure, folder, QUERIES)
    _write_places(folder / f"{QUERIES}.csv", store, points, placed)


def _scatter(axes: Any, places: dict[str, np.ndarray]) -> None:
    for what, place in places.items():
        colour, marker = LOOKS[what]
        axes.scatter(*place.T, s=22, c=colour, marker=marker, alpha=0.6, linewidths=0, label=MEANING[what])
    axes.set_xticks([])
    axes.set_yticks([])  # t-SNE's axes have no unit and no direction
    axes.margins(0.03)
    legend = axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=len(places), frameon=False, fontsize=11, markerscale=1.6
    )
    for handle in legend.legend_handles:
        handle.set_alpha(1)


def _sentence(found: list[MeanDistance], model: str, pairs: tuple[str, ...]) -> str:
    """``mean D(h, c) = 0.51, D(n, c) = 1.62``."""
    of = {row.pair: row for row in found if row.model == model}
    half = {pair: (of[pair].high - of[pair].low) / 2 for pair in pairs}
    return "mean " + ", ".join(f"{pair} = {of[pair].mean:.2f} ± {half[pair]:.2f}" for pair in pairs)


def _write_places(path: Path, store: Store, points: SampledPoints, placed: dict[str, dict[str, np.ndarray]]) -> None:
    users, items = points.user_ids(store), store.items.vocabulary.external_list(points.label)
    columns = ("model", "what", USER_ID, TIMESTAMP, ITEM_ID, "x", "y")
    rows = (
        (model, what, user, int(time), item, float(x), float(y))
        for model, clouds in placed.items()
        for what, place in clouds.items()
        for user, time, item, (x, y) in zip(users, points.time, items, place, strict=True)
    )
    write_csv(path, columns, rows)
