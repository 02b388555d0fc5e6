"""The log, with the text that a client sends."""

from __future__ import annotations

import json
from typing import Literal

import pytest
import trio

from trivet import BackgroundPlugin, LogSettings, route
from trivet._log._logging import configure_logging
from trivet.testing import open_plugins, serving

FORGED = "2026-01-01T00:00:00Z [info     ] all is well"
ATTACKS = ["%0a", "%0d%0a", "%0a%0a", "%1b[31m", "%1b]0;x%07", "%9b", "%c2%85", "%e2%80%a8", "%00"]
"""Ways to end a line, or to command a terminal, in a path."""


class Cafe(BackgroundPlugin):
    @route("/cups/<cup>")
    async def cup(self, cup: str) -> str:
        self.log.info("asked for", cup=cup)
        self.log.warning(f"asked for {cup}")  # noqa: G004 - as authors do
        raise ValueError(f"there is no {cup}")


async def ask(url: str, target: bytes) -> bytes:
    """The answer to a GET whose target is sent as it is."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    answer = b""
    with trio.fail_after(60):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(
                b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            async for data in stream:
                answer += data
    return answer


async def logged(
    form: Literal["console", "json"], capsys: pytest.CaptureFixture[str], *targets: bytes
) -> tuple[list[bytes], str]:
    """Request some targets; returns their statuses, and everything that is logged meanwhile."""
    configure_logging(LogSettings(format=form))
    async with open_plugins(Cafe) as runtime, serving(runtime) as url:
        capsys.readouterr()
        answers = [await ask(url, target) for target in targets]
        text = capsys.readouterr().err
    return [answer.split(b" ", 2)[1] for answer in answers], text


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("form", ["console", "json"])
async def test_a_path_can_neither_split_a_line_nor_colour_it(
    form: Literal["console", "json"], attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path in the log stays on its line, as a value, in a text, in an exception, and for a
    404."""
    paths = [f"/cups/{attack}{FORGED}", f"/nowhere/{attack}{FORGED}"]
    targets = [path.replace(" ", "%20").encode("ascii") for path in paths]
    statuses, text = await logged(form, capsys, *targets)
    assert statuses == [b"500", b"404"]
    lines = text.removesuffix("\n").split("\n")
    assert FORGED not in lines
    assert all(character.isprintable() for character in text.replace("\n", ""))
    if form == "json":
        events = [json.loads(line)["event"] for line in lines]
        assert [event.partition(" ")[0] for event in events] == ["asked", "asked", "handler"]
    else:  # A traceback is indented, whatever is in it.
        begin = [line for line in lines if line and not line.startswith("    ")]
        assert len(begin) == 3


@pytest.mark.parametrize("character", [b"\n", b"\r", b"\x1b", b"\x00", b"\x9b"])
async def test_a_path_with_a_raw_control_character_is_refused(
    character: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A raw control character is a 400, with one line in the log that it cannot split or colour."""
    statuses, text = await logged("console", capsys, b"/cups/" + character)
    assert statuses == [b"400"]
    (line,) = text.removesuffix("\n").split("\n")
    assert "request refused" in line
    assert line.isprintable()
