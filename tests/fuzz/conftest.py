"""The fuzzer's modules and the zoo's nets are imported by name."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(path) for path in (HERE, HERE.parent / "model") if str(path) not in sys.path]
