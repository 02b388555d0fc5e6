"""Keeps JSON documents in named buckets: the third party of the exporters beside it.

Shows a service that consists of routes alone, and blocking work in a thread, one call at a time.

Run it as a program of its own. In the program whose requests are monitored, every stored object
would be another request, whose points would be stored too: an endless loop.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TypeVar, TypeVarTuple

import attrs
import msgspec
import trio
from quart import Response, abort, request
from quart.typing import ResponseReturnValue

from trivet import BackgroundPlugin, route

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS objects (
    id INTEGER PRIMARY KEY,
    bucket TEXT NOT NULL REFERENCES buckets,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_bucket ON objects (bucket, id);
PRAGMA foreign_keys = ON;
"""
MOST = 1000
"""Objects in one answer."""


class Database:
    """The buckets in SQLite. Its methods block."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def create(self, bucket: str) -> bool:
        """Create a bucket; False if the name is taken."""
        with self._connection as connection:
            made = connection.execute("INSERT OR IGNORE INTO buckets VALUES (?)", (bucket,))
            return made.rowcount == 1

    def add(self, bucket: str, document: str) -> int | None:
        """Store a document under a new id; None if there is no such bucket."""
        insert = "INSERT INTO objects (bucket, document) VALUES (?, ?)"
        try:
            with self._connection as connection:
                return connection.execute(insert, (bucket, document)).lastrowid
        except sqlite3.IntegrityError:
            return None

    def buckets(self) -> dict[str, int]:
        """Count the objects of each bucket."""
        count = """
            SELECT name, count(id) FROM buckets LEFT JOIN objects ON bucket = name
            GROUP BY name ORDER BY name
        """
        return dict(self._connection.execute(count))

    def latest(self, bucket: str, limit: int) -> list[tuple[int, str]] | None:
        """Return the newest documents with their ids, newest last; None if there is no bucket."""
        find = "SELECT 1 FROM buckets WHERE name = ?"
        if self._connection.execute(find, (bucket,)).fetchone() is None:
            return None
        select = "SELECT id, document FROM objects WHERE bucket = ? ORDER BY id DESC LIMIT ?"
        return self._connection.execute(select, (bucket, limit)).fetchall()[::-1]


class BucketStore(BackgroundPlugin):
    """`/1/buckets` and `/1/buckets/<bucket>/objects`."""

    path: str = ":memory:"
    """The database's file. A database in memory is lost when the program ends."""

    _database: Database
    _one: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, 1))

    async def initialize(self) -> None:
        """Open the database."""
        database = await self._in_thread(Database, self.path)
        self._database = await self.enter(closing(database))

    @route("/1/buckets", methods=["POST"])
    async def create_bucket(self) -> ResponseReturnValue:
        """Create the bucket that the query names: 201, or 409 if it exists."""
        bucket = request.args.get("bucket", "")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket):
            abort(400, f"?bucket= is letters, digits, '.', '-' and '_', not {bucket!r}")
        if not await self._in_thread(self._database.create, bucket):
            abort(409, f"bucket {bucket!r} exists")
        return {"bucket": bucket}, 201

    @route("/1/buckets")
    async def list_buckets(self) -> ResponseReturnValue:
        """Answer with the buckets and the number of objects in each."""
        return {"buckets": await self._in_thread(self._database.buckets)}

    @route("/1/buckets/<bucket>/objects", methods=["POST"])
    async def add_object(self, bucket: str) -> ResponseReturnValue:
        """Store the body, which may be any JSON: 201 with its id."""
        body = await request.get_data(cache=False, as_text=False, parse_form_data=False)
        try:
            msgspec.json.decode(body)
        except (ValueError, RecursionError) as error:  # malformed, not UTF-8, nested too deeply
            abort(400, str(error))
        added = await self._in_thread(self._database.add, bucket, body.decode())
        if added is None:
            abort(404, f"no bucket {bucket!r}")
        return {"id": added}, 201

    @route("/1/buckets/<bucket>/objects")
    async def list_objects(self, bucket: str) -> ResponseReturnValue:
        """Answer with the newest `?limit=` objects, the newest last."""
        limit = request.args.get("limit", "100")
        if not limit.isdecimal() or not 1 <= int(limit) <= MOST:
            abort(400, f"?limit= is a number from 1 to {MOST}, not {limit!r}")
        rows = await self._in_thread(self._database.latest, bucket, int(limit))
        if rows is None:
            abort(404, f"no bucket {bucket!r}")
        objects = [{"id": number, "object": msgspec.Raw(document)} for number, document in rows]
        return Response(msgspec.json.encode({"objects": objects}), mimetype="application/json")

    async def _in_thread(self, call: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await trio.to_thread.run_sync(call, *arguments, limiter=self._one)
