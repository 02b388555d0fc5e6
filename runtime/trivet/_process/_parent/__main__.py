"""The parent's process, which runs this folder: `python -I -S _parent CONFIG`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).parent
    # The folder is a package here, too, so that its modules find one another as within Trivet.
    sys.path[0] = str(folder.parent)
    sys.exit(import_module(f"{folder.name}._keeper").main())
