"""Memory: what freed memory that is kept saves, as page faults of making a large array again, and what is not loaded at all.

Each in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

FAULTS = """
import resource, sys
import numpy as np
from xdm.training.memory import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
def touch():
    np.ones(40 * 2**20, np.uint8)  # more than any threshold that glibc adapts to
touch(), touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, kept)
"""


def faults(how: str) -> tuple[int, bool]:
    out = subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout.split()
    return int(out[0]), out[1] == "True"


def test_a_large_array_made_again_costs_no_page_faults():
    by_default, kept_by_default = faults("default")
    kept, really = faults("keep")
    assert not kept_by_default
    if platform.libc_ver()[0] == "glibc":
        assert really
        assert kept * 10 < by_default
    else:  # nothing to tell, and nothing breaks
        assert not really


def test_deterministic_algorithms_come_without_torchs_compiler():
    program = (
        "import sys, torch; from xdm.training.loop import set_threads; set_threads(1); "
        "print(torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(), "
        "sum(name.startswith(('torch._inductor', 'torch._dynamo', 'sympy')) for name in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert out == ["True", "False", "0"]
