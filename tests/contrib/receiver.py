"""A receiver of webhooks: a process that answers after it has written an event to its disk.

    python receiver.py PORT DIRECTORY

Every event that it takes is a line of the file `taken` in the directory. A sender needs the token
in the file `token` there. The receiver refuses an event with a negative number.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MANY = "application/cloudevents-batch+json"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # An answer is one packet: a second packet would wait for the first.

    def do_GET(self) -> None:
        self.answer(200, "ready")

    def do_POST(self) -> None:
        body: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        events: list[Any] = body if self.headers["Content-Type"] == MANY else [body]
        numbers: list[int] = [event["data"]["number"] for event in events]
        directory = Path(sys.argv[2])
        if self.headers["Authorization"] != f"Bearer {(directory / 'token').read_text()}":
            self.answer(401, "I do not know " + str(self.headers["Authorization"]))
        elif min(numbers) < 0:
            self.answer(400, f"{min(numbers)} is less than nothing")
        else:
            with (directory / "taken").open("a") as taken:
                taken.writelines(f"{number}\n" for number in numbers)
            self.answer(200, "")

    def answer(self, status: int, message: str) -> None:
        body = json.dumps({"message": message}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answering).serve_forever()
