"""A store's file as a start needs it: of this version, and sound.

Owns the decision whether a file is made anew.
Never knows how a file is copied.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from ._anew import make_anew
from ._copying import first_row
from ._files import damaged_of, new_of, register_of
from ._lock import Lock
from ._migration import migrate
from ._register import Register
from ._salvage import salvage
from ._schema import LAST_REGISTER, SAME_TABLES, connect, is_sound, version_of


def bring_up_to_date(path: Path, lock: Lock, factory: type[sqlite3.Connection]) -> None:
    """Make the file anew where it is one of version 1, or damaged."""
    with closing(connect(path, factory)) as connection:
        version = version_of(connection, path)
        new_of(path).unlink(missing_ok=True)  # What a killed process has left.
        if not version or (version >= SAME_TABLES and is_sound(connection)):
            return
        (last,) = first_row(connection, f"{LAST_REGISTER} ORDER BY 1") or (0,)
    with closing(Register(register_of(path))) as register:
        if version >= SAME_TABLES:
            save_what_can_be_read(path, lock, register)
        else:
            migrate(path, lock, register.left_over(last))


def save_what_can_be_read(path: Path, lock: Lock, register: Register) -> None:
    """Put a sound file in the place of a damaged one, which is kept beside it."""
    counters = {"stored": register.stored, "register": register.opening}
    make_anew(path, lock, partial(salvage, path, counters), keep=damaged_of(path))
