#!/usr/bin/env bash
# Serves the shop with its plugins, and buys something.
set -euo pipefail
cd "$(dirname "$0")"
port=${PORT:-8080}
trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT

python -m uvicorn shop.app:app --port "$port" &> uvicorn.log &
until curl -sf "http://127.0.0.1:$port/plugins/readyz" > ready.log; do kill -0 $! && sleep 0.1; done
for total in 12.5 0 30; do
    curl -sf -X POST "http://127.0.0.1:$port/orders?customer=ann&total=$total"
    echo
done
until curl -sf "http://127.0.0.1:$port/plugins/loyalty/ann" | grep '{"points":8}'; do sleep 0.1; done
