"""What a run learns from, what chooses its epoch, and what is left for the one look at the end."""

from __future__ import annotations

from dataclasses import dataclass

from xdm.evaluation.held_back import StoreBefore
from xdm.evaluation.splits import LAST_CLICK, TIME, Split, parse_time, time_boundaries
from xdm.log.store import Store
from xdm.schema import ConfigError
from xdm.training.config import SplitConfig


@dataclass(frozen=True)
class Parts:
    """Labels are the clicks of ``training`` strictly before ``until`` (seconds); ``validation`` and ``test`` are put to the
    whole store; ``described`` is what the manifest says of them."""

    training: Store
    until: int
    validation: Split
    test: Split
    described: dict[str, str | int]


def parts_of(store: Store, split: SplitConfig, *, without_test: bool = False) -> Parts:
    """The parts of ``store`` by ``split``. ``without_test``: under ``last-click`` the store holds no test clicks any more.

    Raises:
        ConfigError: boundaries that do not part the log.
    """
    if split.protocol == LAST_CLICK:
        first, end = store.time_range[0], store.time_range[1] + 1
        validation = Split(LAST_CLICK, first, end, nth_last=1 if without_test else 2)
        return Parts(
            StoreBefore(store.path, validation), end, validation, Split(LAST_CLICK, first, end),
            {"protocol": LAST_CLICK, "validation_from": first, "until": end},
        )  # fmt: skip
    validation_from, test_from, until = boundaries(store, split)
    return Parts(
        store, validation_from, Split(TIME, validation_from, test_from), Split(TIME, test_from, until),
        {"protocol": TIME, "validation_from": validation_from, "test_from": test_from, "until": until},
    )  # fmt: skip


def boundaries(store: Store, split: SplitConfig) -> tuple[int, int, int]:
    """``(validation_from, test_from, until)`` in seconds, from the shares or times of the configuration."""
    end = store.time_range[1] + 1

    def share(value: float | int | str) -> bool:
        return isinstance(value, int | float) and 0 < value < 1

    shares = [value if share(value) else 0.1 for value in (split.validation, split.test)]
    validation_from, test_from, until = (0, 0, end)
    if share(split.validation) or share(split.test):
        validation_from, test_from, until = time_boundaries(store, float(shares[0]), float(shares[1]))
    if not share(split.test):
        test_from = parse_time(str(split.test), end)
    if not share(split.validation):
        # A duration counts back from the test part, as the share does.
        validation_from = parse_time(str(split.validation), test_from)
    if not store.time_range[0] < validation_from < test_from < until:
        raise ConfigError(
            f"split: validation from {validation_from} and test from {test_from} do not part the log, which reaches "
            f"from {store.time_range[0]} to {until - 1}; both must lie inside, in this order"
        )
    return validation_from, test_from, until
