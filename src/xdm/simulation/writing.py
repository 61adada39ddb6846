"""Writes a simulated world to Parquet: the tables that `xdm prepare` reads, and the truth that no log would hold."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xdm.folders import MANIFEST, new_folder, write_json
from xdm.schema import CLICKED, ITEM_ID, POSITION, SESSION_ID, TIMESTAMP, USER_ID
from xdm.simulation.catalogue import AGE_GROUPS, Catalogue
from xdm.simulation.users import REGIONS, UserBatch
from xdm.simulation.world import World

FORMAT = "xdm-simulated-log"
FORMAT_VERSION = 1
EXPOSURES, ITEMS, USERS, TRUTH = "exposures.parquet", "items.parquet", "users.parquet", "truth.parquet"


def write_world(
    world: World,
    folder: Path | str,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Simulate ``world`` into ``folder``, some users at a time, and return the manifest (settings and counts).

    ``exposures.parquet``: ``user_id``, ``item_id``, ``timestamp`` (seconds), ``clicked``, ``session_id``, ``position``
    (from 1, in the visit). ``items.parquet``: ``item_id``, ``category`` (the topic), ``brand``. ``users.parquet``:
    ``user_id``, ``age_group``, ``region``. ``truth.parquet``: ``user_id``, ``category``, ``first_day``, ``last_day``: one
    row for each time that a user likes a topic, from which day to which of the log (from 1, both included).
    ``progress`` is called with the users done and the users in all.

    Raises:
        UsageError: ``folder`` exists already and may not be replaced.
    """
    counts = {"exposures": 0, "clicks": 0}
    with new_folder(folder, FORMAT, overwrite=overwrite) as partial:
        pq.write_table(item_table(world), partial / ITEMS)
        with ExitStack() as stack:
            writers: dict[str, pq.ParquetWriter] = {}
            for batch in world.batches():
                for name, table in tables_of(world, batch).items():
                    if name not in writers:
                        writers[name] = stack.enter_context(pq.ParquetWriter(partial / name, table.schema))
                    writers[name].write_table(table)
                counts["exposures"] += len(batch.item)
                counts["clicks"] += int(batch.clicked.sum())
                if progress is not None:
                    progress(batch.first_user + len(batch.cluster), world.users)
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "simulated": True,
            "settings": world.model_dump(),
            "users": world.users,
            "items": world.n_items,
            **counts,
        }
        write_json(partial / MANIFEST, manifest)
    return manifest


def tables_of(world: World, batch: UserBatch) -> dict[str, pa.Table]:
    """One batch of users as the tables of the three files that grow with the users."""
    user_id = numbered("u", batch.first_user + 1 + np.arange(len(batch.cluster)), world.users)
    user, liked, first_day, last_day = spells(batch.likes)
    topic = batch.cluster[user] * world.topics + liked
    return {
        EXPOSURES: pa.table(
            {
                USER_ID: user_id.take(pa.array(batch.user)),
                ITEM_ID: item_ids(world).take(pa.array(batch.item)),
                TIMESTAMP: batch.time,
                CLICKED: batch.clicked,
                SESSION_ID: batch.session,
                POSITION: batch.position.astype(np.int32),
            }
        ),
        USERS: pa.table(
            {
                USER_ID: user_id,
                "age_group": pa.array(AGE_GROUPS).take(pa.array(batch.age)),
                "region": pa.array(REGIONS).take(pa.array(batch.region)),
            }
        ),
        TRUTH: pa.table(
            {
                USER_ID: user_id.take(pa.array(user)),
                "category": topic_names(world).take(pa.array(topic)),
                "first_day": (first_day + 1).astype(np.int32),
                "last_day": (last_day + 1).astype(np.int32),
            }
        ),
    }


def spells(likes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """User row, topic, first and last day (from 0, both included) of each run of days in bool ``[days, B, topics]``,
    by user, topic and day."""
    by_user = likes.transpose(1, 2, 0)
    edge = np.zeros((*by_user.shape[:2], 1), np.int8)
    change = np.diff(by_user.astype(np.int8), axis=2, prepend=edge, append=edge)
    user, topic, first_day = np.nonzero(change == 1)
    return user, topic, first_day, np.nonzero(change == -1)[2] - 1


def item_table(world: World) -> pa.Table:
    """All items in the order of their ids."""
    catalogue: Catalogue = world.catalogue
    order = np.argsort(catalogue.item_number)
    brands = int(catalogue.brand.max()) + 1
    return pa.table(
        {
            ITEM_ID: item_ids(world).take(pa.array(order)),
            "category": topic_names(world).take(pa.array(order // world.items_per_topic)),
            "brand": numbered("brand-", np.arange(brands) + 1, brands).take(pa.array(catalogue.brand[order])),
        }
    )


def item_ids(world: World) -> pa.Array:
    """The ids by row of the catalogue."""
    return numbered("i", world.catalogue.item_number, world.n_items)


def topic_names(world: World) -> pa.Array:
    """The names by number of the topic; the first ``topics`` are those of the first cluster, and so on."""
    return numbered("topic-", np.arange(world.n_topics) + 1, world.n_topics)


def numbered(prefix: str, numbers: np.ndarray, largest: int) -> pa.Array:
    """``u0001``, ``u0002`` …: wide enough for ``largest``, so that names sort as their numbers do."""
    width = len(str(largest))
    return pa.array([f"{prefix}{number:0{width}d}" for number in numbers.tolist()], pa.string())
