"""The service: `uvicorn shop.app:app`.

Owns the shop's own routes, and the life of the program with the plugins.
Never knows which plugins there are: `trivet.toml` names them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from trivet import aio, load_settings

from .events import OrderPlaced


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Run the plugins as long as the service, and show their routes at `/plugins`."""
    settings = load_settings("trivet.toml")
    async with aio.open_runtime(settings, event_types=[OrderPlaced]) as runtime:
        app.state.runtime = runtime
        app.mount("/plugins", runtime.app)
        yield


app = FastAPI(lifespan=lifespan)
numbers = count(1)


def plugins(request: Request) -> aio.EmbeddedRuntime:
    """The program with the plugins."""
    runtime: aio.EmbeddedRuntime = request.app.state.runtime
    return runtime


@app.post("/orders", status_code=201)
async def place(
    customer: str, total: float, runtime: Annotated[aio.EmbeddedRuntime, Depends(plugins)]
) -> dict[str, str]:
    """Place an order. A plugin that fails, or is slow, does not keep anybody from buying."""
    order = OrderPlaced(f"o-{next(numbers)}", customer, total)
    outcome = await runtime.publish(order)
    if not (outcome.accepted or outcome.unrouted):
        raise HTTPException(503, "try again later")
    return {"order_id": order.order_id}
