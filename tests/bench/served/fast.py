"""One path, on FastAPI and uvicorn.

python fast.py HOST:PORT
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/livez")
async def alive() -> dict[str, str]:
    """Answer as the probe does."""
    return {"status": "alive"}


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    uvicorn.run(app, host=host, port=int(port), log_level="warning", access_log=False)
