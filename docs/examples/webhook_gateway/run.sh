#!/usr/bin/env bash
# Serves the gateway, sends it requests, stops it, and shows the payments.
set -euo pipefail
cd "$(dirname "$0")"
url=http://127.0.0.1:${PORT:-8080}
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT

rm -f payments.ndjson trivet.sqlite3*  # of an earlier run
trivet serve --bind "${url#http://}" 2> trivet.log &
until curl -sf "$url/readyz" > /dev/null; do kill -0 $! && sleep 0.1; done
python send.py "$url/hooks/payments"
kill %1
wait %1
cat payments.ndjson
