"""Rolling evaluation: train up to t, judge the clicks of the next hours, move on. The only honest protocol for news."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from xdm.behaviours.rules import BehaviourRules
from xdm.console import Progress
from xdm.data.catalogue import Catalogue, build_catalogue
from xdm.data.controls import Control
from xdm.data.labels import labels_of
from xdm.evaluation.baselines import BESIDE_EVERY_MODEL, check_baselines
from xdm.evaluation.records import METRICS_FILE, PER_USER_FILE, RECOMMENDATIONS_FILE
from xdm.evaluation.running import RULES, evaluate
from xdm.evaluation.splits import EACH_CLICK, Split
from xdm.folders import new_folder, write_json
from xdm.log.store import Store
from xdm.models.retrieval_model import RetrievalModel
from xdm.schema import HOUR, USER_ID, ConfigError, UsageError
from xdm.training.config import Config
from xdm.training.item2vec import pretrain
from xdm.training.loop import Loop, new_model, set_threads, training_rows
from xdm.training.run import recommender_of
from xdm.training.teaching import teacher_of

# What a baseline's metrics.json has from the whole.
SHARED = ("split", "questions", "questions_with_unclicked", "rules", "category_feature")


@dataclass(frozen=True)
class Windows:
    """The cuts ``t``: the first at ``start`` (seconds), then every ``every`` seconds, ``count`` of them; each judges
    ``[t, t + horizon)``. ``warm_epochs``: 0 trains every window from scratch; else the model goes on from the window
    before for so many epochs, on the labels of the last ``warm_history`` seconds (0: on all)."""

    start: int
    every: int
    count: int
    horizon: int = 2 * HOUR
    warm_epochs: int = 0
    warm_history: int = 0

    def cuts(self) -> list[int]:
        return [self.start + n * self.every for n in range(self.count)]


def roll(
    store: Store, config: Config, windows: Windows, out: Path | str, *, ks: tuple[int, ...] = (20, 50, 100),
    recent_window: int = 4 * HOUR, overwrite: bool = False, progress: Progress | None = None,
    rules: BehaviourRules = RULES, baselines: tuple[str, ...] = BESIDE_EVERY_MODEL,
) -> dict[str, Any]:  # fmt: skip
    """Train and judge every window; the folder ``out`` holds what `evaluate` writes, over all windows together, and each
    window's own results in ``windows/NUMBER``. Every click of a window is a question, asked at its own time with the
    behaviours up to then; the model knows nothing after the window's cut. ``rules`` and ``baselines`` are those of `evaluate`.

    Raises:
        ConfigError: no such baseline; frozen item vectors and windows that go on from the one before.
        UsageError: windows outside of the log, overlapping ones, or one without a click to judge.
    """
    check_baselines(baselines)
    first, last = store.time_range
    cuts = windows.cuts()
    if not first < cuts[0] or cuts[-1] > last:
        raise UsageError(
            f"the cuts reach from {cuts[0]} to {cuts[-1]}, the log from {first} to {last}; cuts must lie inside"
        )
    if windows.every < windows.horizon:
        raise UsageError(f"windows of {windows.horizon} s every {windows.every} s overlap; judge each click once")
    empty = [cut for cut in cuts if not _clicks(store, cut, cut + windows.horizon)]
    if empty:  # said before the first window is trained, not after
        raise UsageError(f"no click lies within {windows.horizon} s after {empty}; move the start or judge longer")
    if windows.warm_epochs and config.item_vectors.frozen:
        raise ConfigError(
            "item_vectors.frozen: a window that goes on from the one before has no trained vectors for new items; train each from "
            "scratch (warm epochs 0), or let the vectors learn"
        )
    if config.training.recent_share:
        raise ConfigError(
            "training.recent_share belongs to one run, not to rolling windows; set it to 0 (a window "
            "can go on from the one before on recent labels alone: warm epochs, warm history)"
        )
    progress = progress or Progress(quiet=True)
    set_threads(config.training.threads)
    warm: tuple[RetrievalModel, Catalogue] | None = None
    done: list[dict[str, Any]] = []
    with new_folder(out, METRICS_FILE, overwrite=overwrite) as folder:
        for number, cut in enumerate(cuts):
            model, catalogue, control = _train(store, config, windows, cut, warm, progress)
            warm = (model, catalogue) if windows.warm_epochs else None
            place = folder / "windows" / f"{number:05d}"
            metrics = evaluate(
                recommender_of(model, catalogue, config, control), store, Split(EACH_CLICK, cut, cut + windows.horizon), ks,
                out=place, baselines=baselines, recent_window=recent_window, rules=rules,
            )  # fmt: skip
            done.append(metrics)
            progress.say(
                f"window {number + 1} of {len(cuts)}: {metrics['questions']} clicks after {cut}, {_line(metrics, ks)}"
            )
        together = together_of(done, cuts, windows)
        join_files(folder, len(cuts), baselines)
        together["users"] = len(pq.read_table(folder / PER_USER_FILE, columns=[USER_ID])[USER_ID].unique())
        write_json(folder / METRICS_FILE, together)
        for name in baselines:
            shared = {key: together[key] for key in SHARED if key in together}
            figures = {**shared, **together["baselines"][name]}
            write_json(folder / "baselines" / name / METRICS_FILE, figures)
    return together


def _clicks(store: Store, first: int, until: int) -> int:
    return sum(len(labels_of(events, first, until)) for _, events in store.parts())


def _train(
    store: Store, config: Config, windows: Windows, cut: int, warm: tuple[RetrievalModel, Catalogue] | None, progress: Progress
) -> tuple[RetrievalModel, Catalogue, Control | None]:  # fmt: skip
    catalogue = build_catalogue(store, cut, config.data.min_clicks)
    since = cut - windows.warm_history if warm is not None and windows.warm_history else 0
    rows = training_rows(store, catalogue, config, until=cut, first=since)
    model = new_model(config, catalogue)
    if warm is None:
        pretrain(model, rows.log, config.item_vectors, config.training.seed)
    else:
        carry_over(*warm, model, catalogue)
    epochs = config.training.epochs if warm is None else windows.warm_epochs
    loop = Loop(model, rows, config, teacher_of(store, catalogue, config, cut, progress))
    with progress.bar(f"training up to {cut}", epochs * loop.batches_an_epoch, unit="steps") as bar:
        while loop.epoch < epochs and not loop.spent:
            loop.run_epoch(lambda record: bar.advance(f"loss {record['loss']:.3f}"))
    return model, catalogue, rows.control


def carry_over(old: RetrievalModel, known: Catalogue, new: RetrievalModel, catalogue: Catalogue) -> None:
    """Put the weights of ``old`` into ``new``, item rows by item id; items that ``old`` did not know keep fresh rows, and what
    belongs to a catalogue as a whole is made anew."""
    place = known.items.vocabulary.indices(
        catalogue.items.vocabulary.ids
    )  # by new index - 1: the old index, 0 if unknown
    # Where the two tables are one, all the items that it knows count.
    tables = {id(new.item_table.weight): known.n_candidates, id(new.encoder.items.tables[0].weight): known.n_items}
    if new.scoring.bias:
        tables[id(new.output_bias.weight)] = known.n_candidates
    renewed = {f"encoder.{name}" for name in new.encoder.of_catalogue}
    with torch.no_grad():
        for (name, weight), held in zip(new.named_parameters(), old.parameters(), strict=True):
            if name in renewed:
                continue
            if id(weight) not in tables:
                weight.copy_(held)
                continue
            rows = torch.from_numpy(place[: len(weight) - 1].astype("int64"))
            rows = torch.where(rows <= tables[id(weight)], rows, 0)
            weight[1:][rows > 0] = held[rows[rows > 0]]
        buffers = dict(old.named_buffers())
        for name in (new.state_dict().keys() & buffers.keys()) - renewed:  # what is kept with the weights; not the codes of items
            new.get_buffer(name).copy_(buffers[name])
        new.encoder.renew(new)


def _line(metrics: dict[str, Any], ks: tuple[int, ...]) -> str:
    k = 50 if 50 in ks else ks[0]
    baselines = metrics["baselines"]
    return f"hr@{k} {metrics[f'hr@{k}']:.4f} (" + ", ".join(
        f"{name.replace('_', ' ')} {baselines[name][f'hr@{k}']:.4f}" for name in baselines
    ) + ")"  # fmt: skip


def together_of(done: list[dict[str, Any]], cuts: list[int], windows: Windows) -> dict[str, Any]:
    """Averages over the questions of all windows."""
    n = sum(one["questions"] for one in done)

    def mean(of: list[dict[str, Any]], name: str) -> float | None:
        """Each window weighs as many questions as its figure is a mean of."""
        weights = [one["questions_with_unclicked" if name.startswith("skipped") else "questions"] for one in done]
        total = sum(figures[name] * weight for figures, weight in zip(of, weights, strict=True) if weight)
        return total / sum(weights) if any(weights) else None

    names = [name for name in done[0] if "@" in name]  # coverage too: its mean over windows, not that of all together
    counted = ("questions", "questions_with_unclicked")
    described: dict[str, Any] = {name: done[0][name] for name in ("rules", "category_feature", "recent_window") if name in done[0]}
    split = {
        "protocol": EACH_CLICK,
        "cut_off": cuts[0],
        "until": cuts[-1] + windows.horizon,
        "cuts": cuts,
        "horizon": windows.horizon,
    }
    truth = sum(one["truth_items_known"] * one["questions"] for one in done) / n
    return {
        "split": split, "windows": len(cuts), "questions": n,
        "questions_with_unclicked": sum(one["questions_with_unclicked"] for one in done),
        **described,
        **{name: mean(done, name) for name in names},
        "users_left_out": sum(one["users_left_out"] for one in done),
        "answered_by": {source: sum(one["answered_by"][source] for one in done) for source in done[0]["answered_by"]},
        "truth_items_known": truth,
        "baselines": {
            baseline: {name: mean([one["baselines"][baseline] for one in done], name) for name in names}
            for baseline in done[0]["baselines"]
        },
        "per_window": [{"cut_off": cut, **{name: one[name] for name in counted}, **{name: one[name] for name in names}}
                       for cut, one in zip(cuts, done, strict=True)],
    }  # fmt: skip


def join_files(folder: Path, count: int, baselines: tuple[str, ...] = BESIDE_EVERY_MODEL) -> None:
    """per_user.parquet and recommendations.parquet of all windows, in the order of time; the baselines' likewise."""
    for below in ("", *(f"baselines/{name}/" for name in baselines)):
        for name in (PER_USER_FILE, RECOMMENDATIONS_FILE):
            parts = [folder / "windows" / f"{number:05d}" / below / name for number in range(count)]
            if not parts[0].exists():
                continue
            target = folder / below / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(target, pq.read_schema(parts[0])) as writer:
                for part in parts:
                    table: pa.Table = pq.read_table(part)
                    writer.write_table(table)
