from __future__ import annotations

from pathlib import Path

import pytest
import trio

from trivet import Runtime
from trivet.testing import client, open_plugins


async def put(runtime: Runtime, bucket: str, body: bytes) -> tuple[int, object]:
    """Post an object, and return the answer's status and document."""
    answer = await client(runtime).post(f"/1/buckets/{bucket}/objects", data=body)
    return answer.status_code, await answer.get_json(force=True)


async def test_a_bucket_is_made_once() -> None:
    """The first request for a bucket is answered 201, another one for it 409."""
    async with open_plugins("bucket_store") as runtime:
        answers = [await client(runtime).post("/1/buckets?bucket=a") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 409]


@pytest.mark.parametrize("query", ["", "?bucket=", "?bucket=a/b", "?bucket=a%20b"])
async def test_a_bucket_has_a_name_that_fits_into_a_path(query: str) -> None:
    """A missing, empty or unusable name is answered 400, and makes no bucket."""
    async with open_plugins("bucket_store") as runtime:
        answer = await client(runtime).post(f"/1/buckets{query}")
        assert answer.status_code == 400
        assert await (await client(runtime).get("/1/buckets")).get_json() == {"buckets": {}}


async def test_list_of_buckets() -> None:
    """Every bucket is in the list with its number of objects, an empty one too."""
    async with open_plugins("bucket_store") as runtime:
        for bucket in ("full", "empty"):
            await client(runtime).post(f"/1/buckets?bucket={bucket}")
        for _ in range(3):
            await put(runtime, "full", b"{}")
        answer = await client(runtime).get("/1/buckets")
        assert await answer.get_json() == {"buckets": {"empty": 0, "full": 3}}


async def test_list_of_objects() -> None:
    """The objects of a bucket are listed verbatim, newest last, with the ids they were given."""
    documents = ['{"n":12345678901234567890}', '["é", null, 1.50]', '"text"']
    async with open_plugins("bucket_store") as runtime:
        for bucket in ("a", "b"):
            await client(runtime).post(f"/1/buckets?bucket={bucket}")
        await put(runtime, "b", b"0")
        answers = [await put(runtime, "a", document.encode()) for document in documents]
        answer = await client(runtime).get("/1/buckets/a/objects")
        text = await answer.get_data(as_text=True)
    assert answers == [(201, {"id": number}) for number in (2, 3, 4)]
    listed = [f'{{"id":{n},"object":{text}}}' for n, text in enumerate(documents, start=2)]
    assert text == f'{{"objects":[{",".join(listed)}]}}'


async def test_a_limit_keeps_the_newest() -> None:
    """With `limit`, the last objects are listed, still newest last."""
    async with open_plugins("bucket_store") as runtime:
        await client(runtime).post("/1/buckets?bucket=a")
        for number in range(5):
            await put(runtime, "a", str(number).encode())
        answer = await client(runtime).get("/1/buckets/a/objects?limit=2")
        objects = (await answer.get_json())["objects"]
    assert [kept["object"] for kept in objects] == [3, 4]


@pytest.mark.parametrize("limit", ["", "0", "-1", "1.5", "many", "1001", "9" * 30])
async def test_a_limit_is_a_sensible_number(limit: str) -> None:
    """Another limit than a number from 1 to 1000 is answered 400."""
    async with open_plugins("bucket_store") as runtime:
        await client(runtime).post("/1/buckets?bucket=a")
        answer = await client(runtime).get(f"/1/buckets/a/objects?limit={limit}")
        assert answer.status_code == 400


async def test_an_unknown_bucket_is_not_found() -> None:
    """Reading from, or writing to, a missing bucket is answered 404."""
    async with open_plugins("bucket_store") as runtime:
        status, _ = await put(runtime, "nowhere", b"{}")
        answer = await client(runtime).get("/1/buckets/nowhere/objects")
        assert (status, answer.status_code) == (404, 404)


@pytest.mark.parametrize("body", [b"", b'{"a":', b"{} {}", b"NaN", b'"\xff"', b"[" * 100_000])
async def test_wrong_bodies(body: bytes) -> None:
    """A body that is malformed, no UTF-8 or nested too deeply is answered 400, and not kept."""
    async with open_plugins("bucket_store") as runtime:
        await client(runtime).post("/1/buckets?bucket=a")
        status, _ = await put(runtime, "a", body)
        answer = await client(runtime).get("/1/buckets/a/objects")
        assert (status, await answer.get_json()) == (400, {"objects": []})


async def test_many_writers_at_once_lose_nothing() -> None:
    """Objects that are posted side by side are all kept, each under an id of its own."""
    answers: list[tuple[int, object]] = []

    async def write(runtime: Runtime, number: int) -> None:
        answers.append(await put(runtime, "a", str(number).encode()))

    async with open_plugins("bucket_store") as runtime:
        await client(runtime).post("/1/buckets?bucket=a")
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(write, runtime, number)
        answer = await client(runtime).get("/1/buckets/a/objects")
        objects = (await answer.get_json())["objects"]
    assert sorted(kept["object"] for kept in objects) == list(range(40))
    assert sorted(str(answer) for answer in answers) == sorted(
        str((201, {"id": kept["id"]})) for kept in objects
    )


async def test_a_file_keeps_the_objects(tmp_path: Path) -> None:
    """With `path`, the next program finds what the last one has stored."""
    settings = {"bucket_store": {"path": str(tmp_path / "buckets.sqlite3")}}
    async with open_plugins("bucket_store", settings=settings) as runtime:
        await client(runtime).post("/1/buckets?bucket=a")
        await put(runtime, "a", b'{"kept": true}')
    async with open_plugins("bucket_store", settings=settings) as runtime:
        answer = await client(runtime).get("/1/buckets/a/objects")
        assert await answer.get_json() == {"objects": [{"id": 1, "object": {"kept": True}}]}
