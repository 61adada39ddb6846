"""`kill -9` of the whole service under write load, three times; `benchmarks/serve.py crash` does it two hundred times."""

from __future__ import annotations

from tests.serving.parts import run_part


def test_what_was_acknowledged_is_there_after_kill_9(bundle):
    found = run_part("crash", "--bundle", bundle, "--kills", 3)
    assert found["acknowledged events"] >= 3 * 3
    assert [found[wrong] for wrong in ("lost", "doubled", "torn", "miscounted", "lost later")] == [0] * 5
