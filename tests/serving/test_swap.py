"""Models swapped under load: no failed request, no answer that mixes two models."""

from __future__ import annotations

from tests.serving.parts import run_part


def test_no_request_fails_and_no_answer_mixes_two_models(bundle, other_bundle):
    found = run_part("swap", "--bundles", bundle, other_bundle, "--seconds", 8, "--every", 1, "--clients", 2, "--users", 20)
    assert found["swaps"] >= 4
    assert found["failed requests and mixtures"] == 0
    assert min(found["by model"]) > 50
