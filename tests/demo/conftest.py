import sys
from pathlib import Path

# Where the demo is a script, its neighbours are modules of their own.
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "stdlib_census"))
