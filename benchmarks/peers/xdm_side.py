"""This package: the store, the training loop, the evaluation and the HTTP service as they are used, with SASRec."""

from __future__ import annotations

import atexit
import http.client
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import TOP, AfterStep, Sequences, Side, Task, chunks, run

from xdm.bundle.writing import write_bundle
from xdm.data.catalogue import build_catalogue
from xdm.data.rows import TrainingRows
from xdm.evaluation.running import evaluate
from xdm.evaluation.splits import Split, questions
from xdm.log.preparing import prepare_log
from xdm.log.store import Store
from xdm.retrieval.types import Points
from xdm.training.config import Config, load_config
from xdm.training.loop import Loop, new_model, set_threads, training_rows
from xdm.training.run import recommender_of

BEGIN = 1_700_000_000  # seconds; of a new user's first click

OBJECTIVES = {
    "sampled": ("objective.name=sampled_softmax", "objective.negatives=512"),
    "softmax": ("objective.name=softmax",),
    "bce": ("objective.name=bce", "objective.sampler=uniform", "objective.negatives=1", "objective.negatives_for=label"),
}


class Xdm(Side):
    LOSSES = tuple(OBJECTIVES)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        set_threads(1)
        self._load_kernels()

    def _load_kernels(self) -> None:
        """The compiled kernels from their cache, by a log of a few clicks: what a wheel's library does when it is imported."""
        with tempfile.TemporaryDirectory(dir=self.task.folder) as folder:
            user, click = np.repeat(np.arange(20), 10), np.arange(200)
            pq.write_table(pa.table({
                "user_id": user.astype(str), "item_id": (click % 7).astype(str), "timestamp": BEGIN + click % 10,
                "clicked": np.ones(200, bool),
            }), Path(folder) / "log.parquet")  # fmt: skip
            self._first_batch(Path(folder) / "log.parquet", Path(folder))

    @property
    def config(self) -> Config:
        task = self.task
        return load_config("sasrec", None, [
            f"model.width={task.width}", f"model.blocks={task.blocks}", f"model.heads={task.heads}",
            f"model.dropout={task.dropout}", f"model.length={task.length}", f"behaviours.history_max={task.length}",
            f"training.batch_size={task.batch}", f"training.learning_rate={task.learning_rate}",
            "behaviours.long_window=0", "behaviours.unclicked_window=1",  # SASRec reads neither
            f"training.seed={task.seed}", *OBJECTIVES[task.loss],
        ])  # fmt: skip

    def _open(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.test = self.store.time_range[1]  # every user's last click; the one before is for validation
        self.catalogue = build_catalogue(self.store, self.test - 1)

    def _rows(self) -> TrainingRows:
        return training_rows(self.store, self.catalogue, self.config, until=self.test - 1)

    def _first_batch(self, log: Path, folder: Path) -> None:
        prepare_log(log, folder / "store")
        self._open(folder)
        rows = self._rows()
        next(rows.batches(np.arange(rows.n_rows), self.task.batch))

    def first_batch(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.task.folder) as folder:
            self._first_batch(self.task.log, Path(folder))

    def prepare(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.task.folder))
        command = [sys.executable, "-m", "xdm", "prepare", str(self.task.log), "--out", str(folder / "store")]
        subprocess.run(command, check=True)  # as it is used: a store is prepared once, and then trained on and judged
        self._open(folder)
        self.model = new_model(self.config, self.catalogue)

    def train(self, after_step: AfterStep) -> None:
        loop = Loop(self.model, self._rows(), self.config)
        while True:
            loop.run_epoch(lambda record: after_step(int(record["labels"])))

    def _recommender(self):
        self.model.eval()
        return recommender_of(self.model, self.catalogue, self.config)

    def evaluate(self) -> int:
        split = Split("last-click", self.test, self.test + 1)
        found = evaluate(self._recommender(), self.store, split, ks=(TOP,), baselines=(), exclude_seen=True)
        return found["questions"]

    def lists(self) -> np.ndarray:
        recommender, data = self._recommender(), Sequences(self.task.folder)
        ids = recommender.catalogue.external(np.arange(1, len(recommender.catalogue) + 1))
        number = np.array([0, *map(int, ids.to_pylist())])
        lists = np.zeros((data.n_users, TOP), np.int64)
        for first_user, stored in self.store.parts():
            events = stored.in_catalogue(self.catalogue.of_store)
            asked = questions(stored, Split("last-click", self.test, self.test + 1))
            user = (first_user + asked.row + 1).astype(np.int32)
            place = np.array([int(name) for name in self.store.users.vocabulary.external(user).to_pylist()]) - 1
            points = Points(events, asked.row, user, asked.time)
            for some in chunks(len(user)):
                span = slice(some.start, some.stop)
                seen = [np.unique(number.argsort()[data.of(u)[:-1]]) for u in place[span]]
                lists[place[span]] = number[recommender.top_k(points.take(span), TOP, seen).items]
        self.model.train()
        return lists

    def answerer(self) -> Callable[[int], None]:
        folder = Path(tempfile.mkdtemp(dir=self.task.folder))
        self.model.eval()
        write_bundle(folder / "bundle", self.model, self.catalogue, self.config, {"model": "sasrec"}, [], b"", overwrite=False)
        command = [sys.executable, "-m", "xdm", "serve", str(folder / "bundle"), "--port", "0"]
        server = subprocess.Popen([*command, "--state", str(folder / "state.sqlite")], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        host, port = re.search(r"http://([\d.]+):(\d+)", server.stdout.readline()).groups()  # type: ignore[union-attr]
        atexit.register(server.terminate)
        data = Sequences(self.task.folder)

        def answer(user: int) -> None:
            items = data.of(user % data.n_users)[-self.task.length :].tolist()
            events = [{"item_id": str(item), "timestamp": BEGIN + i, "clicked": True} for i, item in enumerate(items)]
            question = {"user_id": f"new {user}", "k": TOP, "events": events, "exclude_clicked": True}
            connection = http.client.HTTPConnection(host, int(port))  # a client of its own, as a new user has
            connection.request("POST", "/v1/recommend", json.dumps(question), {"Content-Type": "application/json"})
            found = json.loads(connection.getresponse().read())
            connection.close()
            assert found["source"] == "model", found
            assert len(found["items"]) == TOP, found

        return answer


if __name__ == "__main__":
    run(Xdm)
