"""The configuration: one typed tree that YAML files and ``--set a.b=c`` reach every key of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from xdm.behaviours.rules import BehaviourRules
from xdm.data.controls import UnclickedSource
from xdm.data.rows import LabelScope, UnclickedAt
from xdm.evaluation.metrics import METRICS
from xdm.models.presets import preset
from xdm.models.registry import MODELS, model_config
from xdm.models.sdm import SDMConfig
from xdm.models.unclicked import UnclickedConfig
from xdm.objectives.samplers import SamplerName
from xdm.objectives.triplet import Distance, Form
from xdm.schema import ConfigError, nearest
from xdm.training.item2vec import Item2VecConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class DataConfig(_Section):
    """Which clicks are labels, and what may be recommended."""

    label_scope: LabelScope = Field("user", description="session: labels within their session (SDM's way); user: all")
    unclicked_at: UnclickedAt = Field(
        "label", description="the unclicked sequence at each label, or at its session's start"
    )
    unclicked_source: UnclickedSource = Field(
        "own", description="controls: another user's lists, random items, or what is live now, for one's own skips"
    )
    n_targets: int = Field(
        1, ge=1, le=50, description="how many of the next clicks a label asks for, of its session or user as label_scope says"
    )
    labels_per_user: int = Field(
        0, ge=0, description="at most so many labels of each user an epoch, drawn anew each epoch, so that busy users weigh no more "
        "than others; 0: all (YouTubeDNN's equal examples)"
    )  # fmt: skip
    item_dropout: float = Field(
        0.0, ge=0, lt=1, description="in training each click that a sequence holds is left out (a vector of zeros) with this chance"
    )
    min_clicks: int = Field(1, ge=1, description="an item with fewer training clicks is never recommended nor a label")


class ItemVectorsConfig(_Section):
    """The vectors that are scored, V."""

    features: bool = Field(
        True, description="add a vector for each side feature: rare items share what their category has learned"
    )
    scoring: Literal["own", "cosine", "squared_distance"] = Field(
        "own", description="how query and item vector make a score; own: as the model has it. Another takes the place of all of it, "
        "of the model's item biases and temperature too"
    )
    temperature: float = Field(0.05, gt=0, description="of scoring cosine: what the cosine is divided by")
    pretrained: Literal["none", "item2vec"] = Field(
        "none", description="item2vec: vectors trained on the training part's clicks before the first epoch"
    )
    item2vec: Item2VecConfig = Item2VecConfig()
    inputs: bool = Field(False, description="pretrained and frozen hold for the items' input vectors too, where these are others")
    frozen: bool = Field(False, description="pretrained item vectors stay as they are")

    @model_validator(mode="after")
    def _frozen_can_stay(self) -> ItemVectorsConfig:
        if self.frozen and self.pretrained == "none":
            raise ValueError("frozen keeps what was trained beforehand, and pretrained is none; set item_vectors.pretrained=item2vec")
        if self.frozen and self.features:
            raise ValueError("frozen vectors stay, those of features would be learned on top of them; set item_vectors.features=false")
        return self


class SplitConfig(_Section):
    """What is learned from and what is judged. Times part the log: a number in (0, 1) is a share of the clicks; else seconds,
    ISO time or "1d" before the end."""

    protocol: Literal["time", "last-click"] = Field(
        "time", description="last-click: every user's last click is the test part, the one before it validation"
    )
    validation: float | int | str = Field(0.1, description="where validation begins, before the test part")
    test: float | int | str = Field(0.1, description="where the test part begins")

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _time_as_text(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, date) else value  # YAML turns ISO times into such objects


ObjectiveName = Literal[
    "sampled_softmax", "softmax", "bce", "gbce", "bpr", "bpr_max", "top1", "top1_max", "hinge", "warp", "squared_error", "cosine"
]  # fmt: skip
# Objectives that compare a query with its label and with nothing else, and the scoring that ranks by the same distance.
WITHOUT_NEGATIVES: dict[str, Literal["cosine", "squared_distance"]] = {"squared_error": "squared_distance", "cosine": "cosine"}


def _usual_sampler(settings: dict[str, Any]) -> SamplerName:
    """What most authors of the loss draw from."""
    return "log_uniform" if settings.get("name") in ("sampled_softmax", "softmax") else "uniform"


class ObjectiveConfig(_Section):
    """The loss: an objective over items plus XDM's metric loss where the model has an unclicked branch."""

    name: ObjectiveName = Field(
        "sampled_softmax",
        description="softmax over a sample, or over all; bce, gbce: binary cross-entropies; bpr, bpr_max, top1, top1_max, "
        "hinge, warp: ranking losses; squared_error, cosine: the distance of query and label alone, for frozen item vectors",
    )
    sampler: SamplerName = Field(
        default_factory=_usual_sampler,
        description="what a label is compared with: log_uniform (by rank), uniform, popularity (clicks to the power alpha), "
        "in_batch (the batch's labels), mixed (those and popularity's). Unless set, log_uniform for a softmax, else uniform",
    )
    negatives: int = Field(
        2000, ge=0, description="sampled items; all, where they are shared, distinct and half of the catalogue; not of in_batch"
    )
    negatives_for: Literal["batch", "label"] = Field(
        "batch", description="one set shared by the batch (one matrix product), or for each label a set of its own"
    )
    split: int = Field(
        1, ge=1, description="groups that the labels of a batch fall into, each with sampled items of its own"
    )
    batch_columns: int = Field(
        2000, ge=1, description="of in_batch and mixed: how many labels of the batch are compared with, at most"
    )
    alpha: float = Field(
        0.75, ge=0, le=4, description="of popularity and mixed: 0 draws uniformly, 1 by clicks; word2vec's and GRU4Rec's default"
    )
    mask_hits: bool = Field(
        True, description="leave out what is itself a label of the point; the authors of GRU4Rec and gSASRec do not"
    )
    logq: Literal["none", "expected", "support"] = Field(
        "expected",
        description="of sampled_softmax: what is taken off every score: the log of how often the item is to be expected among "
        "those compared with; or GRU4Rec's log of clicks (in_batch, mixed)",
    )
    t: float = Field(
        0.75, ge=0, le=1, description="of gbce: its calibration, 0 plain, 1 as if all items were negatives; gSASRec's default"
    )
    bpreg: float = Field(1.0, ge=0, description="of bpr_max: weight of the negatives' squared scores; GRU4Rec's default")
    elu: float = Field(0.5, ge=0, description="of bpr_max: scores first go through ELU with this α; 0 leaves them. GRU4Rec's default")
    ranking_margin: float = Field(1.0, ge=0, description="of hinge and warp: by how much a label is to lead; CML's code has 1.5 to 2")
    metric: Form | Literal["none"] = Field(
        "symmetric", description="form of the metric loss between h, n and the label; none switches it off"
    )
    distance: Distance = Field(
        "unit_squared", description="D of the metric loss: squared between unit vectors, in [0, 4]; or of raw vectors"
    )
    metric_weight: float = Field(0.1, ge=0, description="λ")
    margin: float = Field(0.5, ge=0, description="m, in the unit of the distance")
    not_to_recommend: float = Field(
        0.0, ge=0, description="weight of -log(1 - p(i)) over the unclicked items i of each label; 0 switches it off"
    )

    @property
    def of_labels_alone(self) -> bool:
        """Whether labels are compared with each other and with nothing else."""
        of_batch = self.sampler == "in_batch" or (self.sampler == "mixed" and not self.negatives)
        return of_batch and self.name not in ("softmax", *WITHOUT_NEGATIVES)

    @field_validator("margin")
    @classmethod
    def _can_be_met(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("distance") == "unit_squared" and value > 4:
            raise ValueError("squared distances between unit vectors reach 4 at most, so no larger margin can be met")
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> ObjectiveConfig:
        of_batch, own = self.sampler in ("in_batch", "mixed"), self.negatives_for == "label"
        faults = [
            (of_batch and self.split > 1, f"sampler {self.sampler} takes the labels of the whole batch; leave split at 1"),
            (of_batch and own, f"sampler {self.sampler} takes the labels of the whole batch; leave negatives_for at batch"),
            (own and self.split > 1, "negatives_for label gives each label a set of its own; leave split at 1"),
            (
                not self.negatives and self.sampler not in ("in_batch", "mixed"),
                "negatives 0 leaves nothing to compare with, but with sampler in_batch or mixed",
            ),
            (self.logq == "support" and not of_batch, "logq support is made for labels of the batch: sampler in_batch or mixed"),
            (self.name == "gbce" and self.sampler != "uniform", "gbce is calibrated for sampler uniform"),
        ]  # fmt: skip
        if wrong := [message for holds, message in faults if holds]:
            raise ValueError("; ".join(wrong))
        return self


class TrainingConfig(_Section):
    """The loop."""

    epochs: int = Field(20, ge=1, description="at most")
    batch_size: int = Field(
        128, ge=1, description="sessions (order points: labels) a step; SDM's 256 suits logs of many millions of clicks"
    )
    order: Literal["rows", "points", "session_parallel"] = Field(
        "rows",
        description="rows: whole sessions, shuffled; points: labels, shuffled, each with a row of its own, for models to which a "
        "row of many labels saves nothing; session_parallel: the next click of each of batch_size live sessions, in the "
        "order of time, the state carried on without its gradient (recurrent encoders)",
    )
    length_groups: int = Field(
        0, ge=0, le=64, description="order rows: 0: a batch holds rows of like length, which costs least; n: it is drawn at random "
        "and computed in n groups of like length, whose gradients are added (each draws its own negatives; an encoder's penalty is "
        "that of a group)"
    )  # fmt: skip
    optimizer: Literal["adam", "adagrad", "adagrad_momentum"] = Field(
        "adam",
        description="adagrad: TensorFlow's, sums starting at 0.1; adagrad_momentum: GRU4Rec's, sums starting at 0, with momentum",
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="of adagrad_momentum: the share of the last step that is taken again")
    learning_rate: float = Field(
        3e-3, gt=0, allow_inf_nan=False, description="the paper's 1e-3 needs three times the epochs on small logs"
    )
    decay: float = Field(1.0, gt=0, le=1, description="what the rate is multiplied with after every decay_epochs epochs")
    decay_epochs: int = Field(1, ge=1, description="how many epochs the rate stays; see decay")
    weight_decay: float = Field(0.0, ge=0, description="L2: so many times each weight is added to its gradient (adam, adagrad)")
    clip_norm: float = Field(5.0, gt=0, description="global norm that gradients are clipped to")
    patience: int = Field(3, ge=1, description="epochs without a better validation before training stops")
    monitor: str = Field(
        "recall@50", pattern=rf"^({'|'.join(METRICS)})@\d{{1,4}}$", description="what is better"
    )
    exclude_seen: bool = Field(
        False, description="validation leaves out what the user clicked before, as evaluate --exclude-seen does"
    )
    cpu_seconds: float = Field(
        0.0, ge=0, description="processor seconds of steps after which training ends, in the midst of an epoch too; 0: no limit. The "
        "same for all, it is an equal budget; what is reached then depends on the machine"
    )  # fmt: skip
    checkpoint_steps: int = Field(500, ge=1, description="steps between checkpoints; each epoch ends with one too")
    recent_share: float = Field(
        0.0, ge=0, lt=1, description="after the last epoch the best weights learn on from this share of the labels, the latest; 0: no"
    )
    recent_epochs: int = Field(5, ge=1, description="epochs over these, each judged as the others are")
    seed: int = Field(1, ge=0, lt=2**31, description="of weights, data order, sampling and dropout")
    threads: int = Field(1, ge=0, description="CPU threads; 0 for all. Another number rounds sums in another order")
    adversarial_weight: float = Field(
        0.0, ge=0, description="λ: weight of the loss where the weights are shifted along its gradient; 0 switches it off"
    )
    adversarial_noise: float = Field(1.0, gt=0, description="ε: how far, in deviations of each weight's tensor; AMASR's default")
    teacher_weight: float = Field(
        0.0, ge=0, le=1, description="λ: share of the loss that is a teacher's word, who reads what follows each label; 0: no teacher"
    )
    teacher_temperature: float = Field(1.0, gt=0, description="what its scores are divided by: above 1 it is less certain")
    teacher_epochs: int = Field(5, ge=1, description="the teacher's own, before the first; not counted in cpu_seconds")
    adversarial_after: int = Field(0, ge=0, description="epochs without it first: AMASR's authors go on from a trained model")

    @model_validator(mode="after")
    def _groups_have_rows(self) -> TrainingConfig:
        if self.length_groups and self.order != "rows":
            raise ValueError(f"length_groups parts a batch of rows; training.order={self.order} has rows of one click. Set it to 0")
        if self.length_groups and self.adversarial_weight:
            raise ValueError("adversarial_weight shifts along the gradient of a whole batch; set length_groups=0")
        return self

    @model_validator(mode="after")
    def _settings_have_their_optimizer(self) -> TrainingConfig:
        if self.momentum and self.optimizer != "adagrad_momentum":
            raise ValueError(f"momentum is a setting of adagrad_momentum; optimizer {self.optimizer} has none")
        if self.weight_decay and self.optimizer == "adagrad_momentum":
            raise ValueError("weight_decay is a setting of adam and adagrad; optimizer adagrad_momentum has none")
        if self.adversarial_weight and self.order == "session_parallel":
            raise ValueError("adversarial_weight asks every batch twice; order session_parallel carries its states on once")
        if self.teacher_weight and self.order == "session_parallel":
            raise ValueError("a teacher is asked about single labels; order session_parallel does not know which they are")
        return self


class Config(_Section):
    """Everything that decides what a training run does."""

    model: SerializeAsAny[BaseModel] = SDMConfig()
    unclicked: UnclickedConfig = UnclickedConfig()
    item_vectors: ItemVectorsConfig = ItemVectorsConfig()
    behaviours: BehaviourRules = BehaviourRules()
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()

    @field_validator("model", mode="before")
    @classmethod
    def _typed_model(cls, value: Any) -> Any:
        return value if isinstance(value, BaseModel) else model_config(value)

    @model_validator(mode="after")
    def _behaviours_for_their_reader(self) -> Config:
        if getattr(self.model, "reads_stream", False) and not self.behaviours.stream_max:
            name = self.model.name  # type: ignore[attr-defined]
            raise ValueError(f"model {name} reads the stream of exposures; set behaviours.stream_max, to 50 say")
        reads_stream, reads_clicks = getattr(self.model, "reads_stream", False), getattr(self.model, "reads_clicks", True)
        if self.data.item_dropout and (reads_stream or not reads_clicks):
            what = "reads the stream of exposures" if reads_stream else "learns from the user's vector alone"
            raise ValueError(f"data.item_dropout leaves out clicks of the sequence of clicks; this model {what}")
        length, rules = getattr(self.model, "length", None), self.behaviours
        key = "history_max" if rules.history_max else "session_max"
        if length is not None and length < getattr(rules, key):
            raise ValueError(
                f"model.length {length} is below behaviours.{key} {getattr(rules, key)}; the last clicks would have no position"
            )
        if rules.history_max and (self.data.label_scope, self.data.unclicked_at) != ("user", "label"):
            raise ValueError(
                "behaviours.history_max takes the user's clicks whatever their session; it goes with data.label_scope=user and "
                "data.unclicked_at=label alone"
            )
        return self

    @model_validator(mode="after")
    def _nothing_collapses(self) -> Config:
        scoring = WITHOUT_NEGATIVES.get(self.objective.name)
        if scoring is None:
            return self
        if not self.item_vectors.frozen:
            raise ValueError(
                f"objective.name {self.objective.name} has no negatives: item vectors that learn would all become one, at a loss of "
                "0. Set item_vectors.pretrained=item2vec, item_vectors.frozen=true and item_vectors.features=false"
            )
        if self.item_vectors.scoring != scoring:
            raise ValueError(f"objective.name {self.objective.name} goes with scores of the same kind: item_vectors.scoring={scoring}")
        return self

    @model_validator(mode="after")
    def _labels_can_be_left_out(self) -> Config:
        if self.data.labels_per_user and self.training.order == "session_parallel":
            raise ValueError(
                "data.labels_per_user draws labels, and training.order session_parallel walks through every click; set "
                "training.order=rows"
            )
        return self

    @model_validator(mode="after")
    def _state_to_carry(self) -> Config:
        name: str = self.model.name  # type: ignore[attr-defined]
        if self.training.order == "session_parallel" and not hasattr(MODELS[name].encoder, "advance"):
            able = [other for other, entry in MODELS.items() if hasattr(entry.encoder, "advance")]
            raise ValueError(
                f"training.order session_parallel carries a state from click to click, and model {name} has none. "
                f"Models that have: {', '.join(able)}; or set training.order=rows"
            )
        return self

    @property
    def name(self) -> str:
        """What the run is called: the encoder's name, and ``xdm`` for SDM with the unclicked extension."""
        encoder: str = self.model.name  # type: ignore[attr-defined]
        if not self.unclicked.enabled:
            return encoder
        return "xdm" if encoder == "sdm" else f"xdm({encoder})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return self.model_dump(mode="json")


def load_config(model: str | None = None, file: Path | None = None, assignments: Sequence[str] = ()) -> Config:
    """The configuration from a preset, then a YAML file, then ``key.key=value`` assignments, each over the ones before.

    Raises:
        ConfigError: an unknown key (named with the nearest right one), a wrong type or range, an unreadable file.
    """
    settings: dict[str, Any] = {}
    written = _read_yaml(file) if file is not None else {}
    name = model or written.get("preset")
    written.pop("preset", None)
    for layer in [preset(name) if name is not None else {}, written, *map(_assignment, assignments)]:
        _merge(settings, layer)
    return parse_config(settings)


def parse_config(settings: dict[str, Any]) -> Config:
    """The typed tree from plain values; see `load_config` for the errors."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(explain(error, Config, settings)) from None


def differences(asked: Config, held: Config) -> list[str]:
    """``key: held -> asked`` for every key on which two configurations differ."""
    left, right = dict(_leaves(held.to_dict())), dict(_leaves(asked.to_dict()))
    keys = [*left, *(key for key in right if key not in left)]
    return [f"{key}: {left.get(key)!r} -> {right.get(key)!r}" for key in keys if left.get(key) != right.get(key)]


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is no YAML ({error})") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{file}: must hold keys and values, such as 'training: {{epochs: 5}}', not a {type(value).__name__}"
        )
    return value


def _assignment(text: str) -> dict[str, Any]:
    """``a.b=c`` as ``{"a": {"b": c}}``; c is read as YAML."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {text!r}: must look like key.key=value, for example training.epochs=5")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text!r}: the value is no YAML") from None
    if isinstance(parsed, str):  # YAML 1.1 takes 1e-3 for text
        with contextlib.suppress(ValueError):
            parsed = float(parsed)
    for part in reversed(parts):
        parsed = {part: parsed}
    return parsed


def _merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = {**value} if isinstance(value, dict) else value


def explain(error: ValidationError, root: type[BaseModel], settings: Any) -> str:
    """One line a fault: the key, what is wrong, and the nearest right key where one is unknown."""
    lines = []
    for fault in error.errors(include_url=False):
        path = [str(part) for part in fault["loc"]]
        where = ".".join(path) or "configuration"
        if fault["type"] == "extra_forbidden":
            known = _fields_at(root, path[:-1], settings)
            lines.append(f"there is no key '{where}'.{nearest(path[-1], known)} Keys there: {', '.join(known)}")
        else:
            lines.append(f"{where}: {fault['msg'].removeprefix('Value error, ')}, got {fault['input']!r}")
    return "; ".join(lines)


def _fields_at(root: type[BaseModel], path: list[str], settings: Any) -> list[str]:
    """The keys that exist at ``path``."""
    current: Any = root
    for part in path:
        if part == "model" and current is Config:
            name = (settings.get("model") or {}).get("name", "sdm")
            current = MODELS[name].config
        else:
            current = current.model_fields[part].annotation
    return list(current.model_fields)
