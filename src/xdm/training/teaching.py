"""Training a teacher (`xdm.training.teacher`) before its student."""

from __future__ import annotations

from xdm.console import Progress
from xdm.data.catalogue import Catalogue
from xdm.data.reversed_clicks import ReversedClicks
from xdm.log.store import Store
from xdm.models.encoder import Encoder
from xdm.models.retrieval_model import RetrievalModel
from xdm.schema import ConfigError, UsageError
from xdm.training.config import Config
from xdm.training.item2vec import pretrain
from xdm.training.loop import Loop, new_model, training_rows
from xdm.training.steps import need_inner_products
from xdm.training.teacher import Teacher


def teacher_of(store: Store, catalogue: Catalogue, config: Config, until: int, progress: Progress) -> Teacher | None:
    """The teacher that ``config`` asks for, trained on the clicks of ``store`` before ``until`` (seconds); None where it asks for
    none.

    It is the same for the same seed: a run that goes on trains it again.

    Raises:
        ConfigError: the model has a loss of its own, or scores that are no inner products.
        UsageError: no click follows another.
    """
    settings = config.training
    if not settings.teacher_weight:
        return None
    own = settings.model_copy(update={"teacher_weight": 0.0, "epochs": settings.teacher_epochs, "cpu_seconds": 0.0})
    without = config.unclicked.model_copy(update={"enabled": False})
    data = config.data.model_copy(update={"unclicked_source": "own"})
    teaching = config.model_copy(update={"training": own, "unclicked": without, "data": data})
    rows = training_rows(ReversedClicks(store, until), catalogue, teaching, until=until)
    if not rows.n_labels:
        raise UsageError(
            f"{store.path} holds no click that follows another; a teacher has nothing to read. Set training.teacher_weight=0"
        )
    model = new_model(teaching, catalogue)
    _check(model)
    pretrain(model, rows.log, teaching.item_vectors, own.seed)
    loop = Loop(model, rows, teaching)
    with progress.bar("training the teacher", own.epochs * loop.batches_an_epoch, unit="steps") as bar:
        for _ in range(own.epochs):
            loop.run_epoch(lambda record: bar.advance(f"epoch {record['epoch'] + 1}, loss {record['loss']:.3f}"))
    return Teacher(loop.model.eval(), rows, until, settings.teacher_temperature, settings.teacher_weight)


def _check(model: RetrievalModel) -> None:
    kind = type(model.encoder)
    if kind.own_loss is not Encoder.own_loss:
        raise ConfigError(
            f"training.teacher_weight: a teacher's word takes the place of a share of the objective, and {kind.__name__} has a loss "
            "of its own. Set it to 0"
        )
    need_inner_products(model, "training.teacher_weight")
