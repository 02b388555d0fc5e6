#!/usr/bin/env bash
# Sends orders through Redis, raises the limit that one of them exceeds, and delivers it again.
set -euo pipefail
cd "$(dirname "$0")"
shop=127.0.0.1:${SHOP_PORT:-8080} billing=127.0.0.1:${BILLING_PORT:-8081}
redis=127.0.0.1:${REDIS_PORT:-6379}
trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT

rm -f ./*.sqlite3* billing.overlay.toml  # of an earlier run
: > bills.ndjson
redis-server --bind "${redis%:*}" --port "${redis#*:}" --save '' > redis.log &
until redis-cli -p "${redis#*:}" ping > ping.log 2>&1; do kill -0 $! && sleep 0.1; done
TRIVET_PLUGINS__REDIS_SINK__URL=redis://$redis \
    trivet serve --config shop.toml --bind "$shop" 2> shop.log &
TRIVET_PLUGINS__REDIS_SOURCE__URL=redis://$redis \
    trivet serve --config billing.toml --bind "$billing" 2> billing.log &
for address in "$shop" "$billing"; do
    until curl -sf "http://$address/readyz" > ready.log; do kill -0 $! && sleep 0.1; done
done

printf '{"order_id": "%s", "customer": "%s", "total": %s}\n' o-1 ann 9.5 o-2 ben 250 o-3 ann 20 |
    curl -sf -H 'Content-Type: application/x-ndjson' --data-binary @- \
        "http://$shop/events/order_placed" > answer.log
until trivet dead-letters list --config billing.toml | grep -o 'a total of .*'; do sleep 0.1; done
until [ "$(wc -l < bills.ndjson)" = 2 ]; do sleep 0.1; done

export TRIVET_TOKEN=correct-horse-battery
trivet set --url "http://$billing" --reason "ben has paid before" plugins.billing.limit=1000
trivet dead-letters replay --config billing.toml --plugin billing
until [ "$(wc -l < bills.ndjson)" = 3 ]; do sleep 0.1; done
cat bills.ndjson
