"""Ends the process when it is imported, behind Python's back."""

from __future__ import annotations

import ctypes

ctypes.CDLL(None)._exit(0)
