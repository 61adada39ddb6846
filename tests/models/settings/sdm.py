"""What the contract suite switches in these models."""

from __future__ import annotations

SMALL = {
    "sdm": {"width": 8, "heads": 2, "item_width": 6, "feature_width": 3, "user_width": 4, "field_width": 2, "dropout": 0.2},
}  # fmt: skip
# without a name: of sdm
SWITCHES = {
    "lstm": {},
    "gru": {"cell": "gru"},
    "gru reset before": {"cell": "gru_reset_before", "layers": 2},
    "two layers": {"layers": 2},
    "no residual": {"user_residual": False},
    "one residual": {"layers": 3, "residual_layers": 1},
    "no user id": {"user_width": 0},
    "actions": {"name": "sdm_actions"},
    "concat attention": {"user_attention": "concat"},
    "dot attention": {"user_attention": "dot"},
    "no user attention": {"user_attention": "none"},
    "no long term": {"long_term": False},
    "neither": {"user_attention": "none", "long_term": False},
    "dot scores": {"long_score": "dot"},
    "dot scores of equal widths": {"user_attention": "dot", "long_score": "dot", "item_width": 8, "feature_width": 8},
    "fusion feature_gated": {"fusion": "feature_gated"},
    "fusion add": {"fusion": "add"},
    "fusion multiply": {"fusion": "multiply"},
    "fusion concat": {"fusion": "concat"},
    "widths by name": {"feature_widths": {"brand": 5}, "field_widths": {"region": 3}},
    "left out by name": {"feature_widths": {"category": 0}, "field_widths": {"age": 0}},
    "ids alone": {"feature_width": 0, "field_width": 0},
    "tied": {"item_width": 8, "tie_item_embedding": True},
    "orthogonal": {"init": "orthogonal"},
}  # fmt: skip
# For every setting what it is changed from (over the small model) and to.
_SDM = {
    "width": ({}, 10),
    "heads": ({}, 4),
    "cell": ({}, "gru"),
    "layers": ({}, 2),
    "residual_layers": ({"layers": 2}, 0),
    "dropout": ({}, 0.4),
    "item_width": ({}, 7),
    "feature_width": ({}, 4),
    "feature_widths": ({}, {"brand": 5}),
    "user_width": ({}, 0),
    "field_width": ({}, 3),
    "field_widths": ({}, {"age": 1}),
    "user_attention": ({}, "dot"),
    "user_residual": ({}, False),
    "long_term": ({}, False),
    "long_score": ({}, "dot"),
    "fusion": ({}, "add"),
    "tie_item_embedding": ({"item_width": 8}, True),
    "init": ({}, "orthogonal"),
}  # fmt: skip
ALTERNATIVES = {"sdm": _SDM, "sdm_actions": _SDM}
