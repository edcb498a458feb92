"""Tiny language models: docs/architecture.md says what lies where."""

import os
import sys

_PLACE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and os.path.realpath(sys.path[0]) != _PLACE:
    del sys.path[0]  # `python -m tlm.…` would import whatever lies where the user stands: their random.py, for one
