"""Generalised distillation: a student learns what a teacher, who knows more, thinks of all items.

Paper: Tan, Xu, Liu, "Improved Recurrent Neural Networks for Session-based Recommendations", DLRS 2016, arXiv 1606.08117,
section 3.3, after Lopez-Paz et al., "Unifying distillation and privileged information", ICLR 2016.
"""

from __future__ import annotations

from torch import Tensor


def distillation(scores: Tensor, taught: Tensor) -> Tensor:
    """``-Σ_i q(i) log p(i)`` of each point: the cross-entropy of the student's full softmax p beside what is ``taught``, q.

    Args:
        scores: ``[P, n]``, the student's; taught: ``[P, n]``, the teacher's probabilities, each row's sum 1.

    Returns:
        ``[P]``.
    """
    return -(taught * scores.log_softmax(dim=1)).sum(1)
