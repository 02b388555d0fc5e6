"""The same route without Trivet, for `hypercorn -k trio bare:app`; as a script it serves itself.

python bare.py HOST:PORT
"""

from __future__ import annotations

import sys
from functools import partial
from typing import cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve  # pyright: ignore[reportUnknownVariableType]
from hypercorn.typing import ASGIFramework
from quart_trio import QuartTrio

app = QuartTrio(__name__)


@app.route("/hello")
async def hello() -> dict[str, str]:
    """Say hello."""
    return {"hello": "world"}


if __name__ == "__main__":
    config = Config()
    config.bind = [sys.argv[1]]
    trio.run(partial(serve, cast("ASGIFramework", app), config))
