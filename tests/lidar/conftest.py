"""Helpers beside the tests can be imported by name: `from small_store import small_store`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
