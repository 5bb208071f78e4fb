"""The scripts under benchmarks/ import each other by name, as Python does for scripts of one folder."""

from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# A source distribution has the tests and not the benchmarks.
collect_ignore_glob = [] if BENCHMARKS.is_dir() else ["test_*.py"]
sys.path.insert(0, str(BENCHMARKS))
