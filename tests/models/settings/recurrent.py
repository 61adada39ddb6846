"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "gru4rec": {"width": 8},
}  # fmt: skip
SWITCHES = {
    "gru4rec two layers": {"name": "gru4rec", "lower_layers": [6], "input_dropout": 0.3},
    "gru4rec with features": {"name": "gru4rec", "feature_width": 3},
    "gru4rec one-hot": {"name": "gru4rec", "tie_item_embedding": False, "lower_layers": [6]},
    "gru4rec separate": {"name": "gru4rec", "tie_item_embedding": False, "item_width": 5},
    "gru4rec paper's cell": {"name": "gru4rec", "cell": "paper", "bias": False},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
ALTERNATIVES = {
    "gru4rec": {
        "width": ({}, 10),
        "lower_layers": ({}, [6]),
        "input_dropout": ({}, 0.4),
        "hidden_dropout": ({}, 0.2),
        "cell": ({}, "paper"),
        "item_width": ({"tie_item_embedding": False}, 5),
        "feature_width": ({}, 4),
        "bias": ({}, False),
        "tie_item_embedding": ({}, False),
    },
}  # fmt: skip
