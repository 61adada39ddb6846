"""The not-to-recommend loss: skips in the objective instead of in the input.

Paper: Wang et al., "Learning from Negative User Feedback and Measuring Responsiveness for Sequential Recommenders",
RecSys 2023, arXiv 2308.12256. Its abstract was read; the formula is from general knowledge.
"""

from __future__ import annotations

import torch
from torch import Tensor


def not_to_recommend(queries: Tensor, point: Tensor, rejected_vectors: Tensor, item_vectors: Tensor) -> Tensor:
    """``-log(1 - p(i))`` of the rejected items i, summed over the pairs and divided by the number P of points.

    p is the full softmax over ``item_vectors`` ``[N, d]``. A random item has p near 0 and hardly a gradient: the loss
    acts where the model likes what was skipped.

    Args:
        queries: ``[P, d]``; point: int64 ``[M]``, the point of each pair; rejected_vectors: ``[M, d]``.
    """
    total = torch.logsumexp(queries @ item_vectors.T, dim=1)  # [P]
    log_p = (queries[point] * rejected_vectors).sum(-1) - total[point]  # [M], below 0
    # 1 - p of an item that has all the mass would be 0 in float32; its gradient must stay finite.
    return -torch.log1p(-log_p.clamp(max=-1e-6).exp()).sum() / queries.shape[0]
