"""The bundle: a trained model as one folder, enough to serve it without the store and without torch (contract 2).

Layout::

    manifest.json           format version, model, sizes, split, behaviour rules, and the SHA-256 of every other file
    config.yaml             the whole typed configuration of the run
    weights.safetensors     the model's weights, for training on; serving does not read them
    tower.onnx              behaviours -> queries, as a graph; inputs are the fields named in `TOWER_INPUTS`
    item_vectors.npy        float32 [candidates, d']; row i belongs to index i + 1; searched as the manifest's ``index`` says:
                            "exact" by inner product, "ivf" by inner product through index.faiss, "scorer" by scoring every
                            pair, "tree" by beam search
    index.faiss             index "ivf" alone (xdm.retrieval.ann), written by `xdm index`; the manifest's "ivf" says with what
                            parameters and what recall
    item_tower.onnx         where item vectors are sums with those of their features: feature codes [N, F] -> vectors [N, d'] of
                            items without a row of their own
    scorer.onnx             where scores are no inner products: queries [Q, K, d] and vectors [N, d] -> scores [Q, N]
    tree_nodes.npy          index "tree" alone: float32 [2^depth, d]; row c is inner node c, numbered in heap order from 1
    tree_leaves.npy         index "tree" alone: int64 [candidates]; the node of each item; the manifest's "beam" is the search's
    items.arrow             the catalogue: item_id, clicks, exposures (of the training period), features
    users.arrow             user_id, profile
    metrics.json            validation after each epoch
    steps.jsonl             the loss of every step
"""

from __future__ import annotations

FORMAT = "xdm-bundle"
FORMAT_VERSION = 1

CONFIG = "config.yaml"
WEIGHTS = "weights.safetensors"
TOWER = "tower.onnx"
ITEM_VECTORS = "item_vectors.npy"
INDEX = "index.faiss"
ITEM_TOWER = "item_tower.onnx"
SCORER = "scorer.onnx"
TREE_NODES, TREE_LEAVES = "tree_nodes.npy", "tree_leaves.npy"
EXACT, IVF, SCORED, TREE = "exact", "ivf", "scorer", "tree"  # kinds of index
ITEMS = "items.arrow"
USERS = "users.arrow"
METRICS = "metrics.json"
STEPS = "steps.jsonl"

# Inputs of the exported tower, in order: fields of `xdm.data.batches.Batch` at one point a row.
TOWER_INPUTS = (
    "short", "short_time", "short_session", "short_length", "long", "user", "profile", "unclicked", "unclicked_of", "time",
    "stream", "stream_action", "stream_position",
)  # fmt: skip
TOWER_OUTPUT = "queries"
SCORER_INPUTS, SCORER_OUTPUT = ("queries", "vectors"), "scores"
ITEM_TOWER_INPUT, ITEM_TOWER_OUTPUT = "codes", "vectors"
