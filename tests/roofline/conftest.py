"""Helpers beside the tests can be imported by name: `import small_villages`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
