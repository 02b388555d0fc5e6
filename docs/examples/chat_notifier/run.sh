#!/usr/bin/env bash
# Serves a chat, and a program that posts to it; then it shows the messages.
set -euo pipefail
cd "$(dirname "$0")"
program=http://127.0.0.1:${PORT:-8080} chat=http://127.0.0.1:${CHAT_PORT:-8081}
trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT

trivet serve chat_room --config /dev/null --plugins plugins --bind "${chat#http://}" 2> chat.log &
until curl -sf "$chat/readyz" > ready.log; do kill -0 $! && sleep 0.1; done
TRIVET_PLUGINS__CHAT_NOTIFIER__URL=$chat/hooks/ops \
    trivet serve --bind "${program#http://}" 2> trivet.log &
until curl -sf "$program/readyz" > ready.log; do kill -0 $! && sleep 0.1; done

curl -sf -H 'Content-Type: application/json' -d '{"text": "Dinner is ready"}' \
    "$program/events/announcement?wait=true" > answer.log
curl -sf "$chat/rooms/ops"
