"""The files of the page, as browsers get them."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from trivet._web._page._files import DIRECTORY, POLICY, read_files
from trivet.testing import client, open_plugins

VENDOR = {
    DIRECTORY / "vendor": {
        "htm.LICENSE": "740725f7252e750af735d0028cc534970772f513331e9f68150fede8fb3ce00f",
        "preact.LICENSE": "1fe6958409c8c257a70c587a18b6f7f412b179b456630790d30b2ec9a8e4b7d4",
        "preact.js": "72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7",
    },
    Path(__file__).parent / "vendor": {
        "axe.LICENSE": "af175b9d96ee93c21a036152e1b905b0b95304d4ae8c2c921c7609100ba8df7e",
        "axe.min.js": "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
    },
}
"""The files of others, as they are in the packages htm 3.1.1 (whose `preact/standalone.module.js`
has Preact 10 in it), preact 10.29.8 and axe-core 4.14.1 of npm, with their SHA-256."""
LARGEST = 100 * 1024
"""Bytes that all of the page may have, compressed."""
STYLED = re.compile(r"""\sstyle=|<style|\.style\b|javascript:|\son[a-z]+="|eval\(|innerHTML""")
"""The forms that the content policy forbids, and those that make markup of a text."""


@pytest.mark.parametrize("directory", VENDOR, ids=["the page", "the tests"])
def test_vendored_files_are_as_published(directory: Path) -> None:
    """Nobody has changed a file of another project; its licence is beside it."""
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()
    }
    assert found == VENDOR[directory]


def test_weight() -> None:
    """All of the page, compressed, is at most 100 KiB."""
    files = read_files().by_name.values()
    assert sum(len(file.packed) for file in files) <= LARGEST


@pytest.mark.parametrize("path", [*DIRECTORY.glob("*.*")], ids=lambda path: path.name)
def test_nothing_of_what_the_policy_forbids(path: Path) -> None:
    """No file of the page's own has a script or a style within HTML, nor makes HTML of a text."""
    assert not STYLED.findall(path.read_text("utf-8"))


async def test_the_page() -> None:
    """The page is open to everybody, under a policy by which nothing of others runs in it; its
    files are at addresses that change with them, relative to the page's own."""
    async with open_plugins() as runtime:
        asking = client(runtime)
        answer = await asking.get("/-/")
        text = await answer.get_data(as_text=True)
        assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-cache"
        scripts = re.findall(r'src="(.*?)"', text)
        assert scripts == [f"page/{read_files().version}/{name}.js" for name in ("start", "page")]
        file = await asking.get(f"/-/{scripts[1]}")
        assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert file.content_type == "text/javascript; charset=utf-8"
        assert await file.get_data() == (DIRECTORY / "page.js").read_bytes()


async def test_every_import_leads_to_a_file() -> None:
    """Each script imports files of the page only, by their names beside it."""
    files = read_files().by_name
    for name, file in files.items():
        if name.endswith(".js"):
            imports = re.findall(rb'(?:import|from)\s*"(.*?)"', file.plain)
            assert {each.decode() for each in imports} <= {f"./{known}" for known in files}


async def test_compressed_and_known() -> None:
    """A browser gets the compressed form if it takes that, and 304 for the form that it has."""
    async with open_plugins() as runtime:
        asking = client(runtime)
        headers: Any = {"Accept-Encoding": "br, gzip"}
        packed = await asking.get("/-/", headers=headers)
        assert packed.headers["Content-Encoding"] == "gzip"
        plain = await asking.get("/-/")
        body = await packed.get_data(as_text=False)
        assert gzip.decompress(body) == await plain.get_data(as_text=False)
        assert packed.headers["ETag"] != plain.headers["ETag"]
        assert plain.headers["Vary"] == packed.headers["Vary"] == "accept-encoding"
        known = await asking.get("/-/", headers={"If-None-Match": plain.headers["ETag"]})
        assert (known.status_code, await known.get_data(as_text=False)) == (304, b"")
        other = await asking.get("/-/", headers={"If-None-Match": packed.headers["ETag"]})
        assert other.status_code == 200


@pytest.mark.parametrize("path", ["other/page.js", "{version}/none.js", "{version}/", "x", ""])
async def test_a_file_that_is_not_there(path: str) -> None:
    """An address of another version, or without a file, is unknown."""
    async with open_plugins() as runtime:
        path = path.format(version=read_files().version)
        answer = await client(runtime).get(f"/-/page/{path}")
        assert answer.status_code == 404
        assert (await answer.get_json())["error_code"] == "unknown_path"
