"""The profiles of stalls: what holds the event loop, as speedscope draws it."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import jsonschema
import pytest
import structlog
import trio

from trivet import BackgroundPlugin, Runtime, StallSettings
from trivet._faults._frames import Authors, Line, stack_below
from trivet._loop._kept_stalls import KEPT, KeptStalls, Stall
from trivet._loop._profile import CALLS, LARGEST, SAMPLES, Profile
from trivet.testing import open_plugins

from .samples import Samples

VENDOR = Path(__file__).parent / "speedscope"
SCHEMA: Any = json.loads((VENDOR / "schema.json").read_text("utf-8"))
QUICK = StallSettings(warn=0.02, error=20)


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Samples:
    """The samples that are taken."""
    return Samples(monkeypatch)


def read(document: bytes) -> Any:
    """A profile, which is as the schema wants it."""
    found = json.loads(document)
    jsonschema.validate(found, SCHEMA)
    return found


def stacks(document: Any) -> list[list[str]]:
    """The names of the calls of each sample."""
    names = [each["name"] for each in document["shared"]["frames"]]
    return [[names[call] for call in stack] for stack in document["profiles"][0]["samples"]]


def test_the_schema_is_as_published() -> None:
    """The schema and the licence are those of speedscope 1.25.0, of npm."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    assert found == {
        "LICENSE": "6244b13e9bf25cfd42d81c939d6c535d932596e8c320050234f2c2ac5a6f36a0",
        "schema.json": "03d098921294fca54ac1b67ea050138d867e44228c7cb140d958fbdfe345c911",
    }


class Hog(BackgroundPlugin):
    """A plugin that holds the loop when a test wants it."""

    async def initialize(self) -> None:
        self.begin = trio.Event()
        self.hold: Callable[[], object] = time.time

    async def run(self) -> None:
        await self.begin.wait()
        self.work()
        await trio.sleep_forever()

    def work(self) -> None:
        self.hold()


async def stalled(runtime: Runtime, hold: Callable[[], object]) -> Stall:
    """Have the hog hold the loop, and wait for the profile."""
    assert runtime.meter is not None
    hog = runtime.get(Hog)
    hog.hold = hold
    hog.begin.set()
    with trio.fail_after(60):
        while not runtime.meter.kept.all():
            await trio.sleep(0.001)
    return runtime.meter.kept.all()[-1]


@pytest.mark.real_time
async def test_a_stall_has_a_profile(samples: Samples) -> None:
    """Each function that held the loop is in the profile with its time, from the author's first
    line on; the calls of Trivet and Trio around it are not."""

    def first() -> None:
        samples.wait(3)

    def second() -> None:
        samples.wait(3)

    def both() -> None:
        first()
        second()

    began = time.perf_counter()
    async with open_plugins(Hog, stalls=QUICK) as runtime:
        stall = await stalled(runtime, both)
    took = time.perf_counter() - began
    assert (stall.number, stall.plugin, stall.doing) == (1, "hog", "waiting in a call")
    assert stall.at.startswith(f"{Path(__file__).parent / 'samples.py'}:")
    assert 0 < stall.seconds < took
    document = read(stall.document)
    assert document["name"] == f"hog: {stall.seconds} s"
    found = stacks(document)
    where = f"{test_a_stall_has_a_profile.__name__}.<locals>"
    for name in ("first", "second"):
        assert next(stack[:4] for stack in found if f"{where}.{name}" in stack) == [
            "Hog.run",
            "Hog.work",
            f"{where}.both",
            f"{where}.{name}",
        ]
    (profile,) = document["profiles"]
    assert 0 < sum(profile["weights"]) < took
    assert profile["endValue"] == pytest.approx(sum(profile["weights"]), abs=0.001)
    lines = {each["name"]: each for each in document["shared"]["frames"]}
    assert lines["Hog.work"]["file"] == __file__
    assert lines["Hog.work"]["line"] == inspect.getsourcelines(Hog.work)[1] + 1


@pytest.mark.real_time
async def test_nothing_is_sampled_without_a_stall(samples: Samples) -> None:
    """While nobody holds the loop for too long, no stack is read."""
    async with open_plugins(Hog, stalls=StallSettings(warn=5, error=20)) as runtime:
        assert runtime.meter is not None
        runtime.get(Hog).begin.set()
        steps = runtime.meter.steps
        while runtime.meter.steps < steps + 100:
            await trio.sleep(0.001)
        assert (samples.count, [*runtime.meter.kept.all()]) == (0, [])


@pytest.mark.real_time
async def test_a_profile_outlives_a_log_that_says_nothing(samples: Samples) -> None:
    """A stall that the log leaves out, since the same line was reported lately, has a profile."""

    class Often(Hog):
        async def run(self) -> None:
            for _ in range(2):
                samples.wait(1)
                await trio.lowlevel.checkpoint()
            await trio.sleep_forever()

    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Often, stalls=QUICK) as runtime:
            assert runtime.meter is not None
            with trio.fail_after(60):
                while len(runtime.meter.kept.all()) < 2:
                    await trio.sleep(0.001)
    assert [each.plugin for each in runtime.meter.kept.all()] == ["often", "often"]
    assert [log["event"] for log in logs].count("the event loop is held") == 1


def lines_here() -> list[Line]:
    """The lines of this call."""
    frame = inspect.currentframe()
    assert frame is not None
    return stack_below(frame)


def test_a_long_stall_has_a_bounded_number_of_samples() -> None:
    """A stall that lasts keeps fewer and fewer samples, and all of its time."""
    ((frame, line),) = lines_here()[-1:]
    profile = Profile(Authors(), 0.01)
    for number in range(10 * SAMPLES):
        profile.add([(frame, line + number)], number * 0.01)
    document = read(profile.document("long"))
    (found,) = document["profiles"]
    assert len(found["samples"]) <= SAMPLES
    assert sum(found["weights"]) == pytest.approx(10 * SAMPLES * 0.01)
    first, second = ([each["line"] for each in document["shared"]["frames"]][at] for at in (0, 1))
    assert first < second


def test_the_same_stack_is_one_sample() -> None:
    """A call that blocks is one sample, with the time of all of them."""
    profile = Profile(Authors(), 0.01)
    lines = lines_here()
    for number in range(1000):
        profile.add(lines, number * 0.02)
    (found,) = read(profile.document("blocked"))["profiles"]
    assert found["weights"] == [pytest.approx(0.01 + 999 * 0.02)]


def called(files: list[tuple[str, str]]) -> list[Line]:
    """The lines of functions that call one another, by their files and names; then of this one."""
    found: list[Line] = []

    def innermost(*_: object) -> None:
        frame = inspect.currentframe()
        assert frame is not None
        found.extend(stack_below(frame))

    rest: Callable[..., object] = innermost
    for file, name in reversed(files):
        values: dict[str, Any] = {"rest": rest}
        exec(compile(f"def {name}():\n    rest()", file, "exec"), values)
        rest = values[name]
    rest()
    start = next(at for at, (frame, _) in enumerate(found) if _file(frame) == files[0][0])
    return found[start:-1]


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename


TRIO = str(Path(trio.__path__[0]) / "_some.py")
LIBRARY = str(Path(json.__file__))


def test_calls_of_the_runtime_are_folded() -> None:
    """Calls of Trio's between an author's are counted; those of other libraries are shown."""
    files = ["/shop/a.py", TRIO, TRIO, "/shop/b.py", LIBRARY, "/shop/c.py", TRIO]
    profile = Profile(Authors(), 0.01)
    profile.add(called([(file, f"f{at}") for at, file in enumerate(files)]), 0.0)
    assert stacks(read(profile.document("folded"))) == [
        ["f0", "… 2 more", "f3", "f4", "f5", "… 1 more"]
    ]


def test_without_an_author_all_is_there() -> None:
    """A stall of Trivet's own shows each call."""
    profile = Profile(Authors(), 0.01)
    profile.add(called([(TRIO, "f0"), (LIBRARY, "f1"), (TRIO, "f2")]), 0.0)
    assert stacks(read(profile.document("own"))) == [["f0", "f1", "f2"]]


def test_a_deep_stack_has_its_innermost_calls() -> None:
    """A deep recursion shows its innermost calls, and counts the others."""
    profile = Profile(Authors(), 0.01)
    profile.add(called([("/shop/deep.py", f"f{at}") for at in range(100)]), 0.0)
    (stack,) = stacks(read(profile.document("deep")))
    assert stack[0] == f"… {100 - CALLS} more"
    assert stack[1:] == [f"f{at}" for at in range(100 - CALLS, 100)]


def test_a_document_has_a_bounded_size() -> None:
    """However long the names are and however many, and with bytes that are no UTF-8, a document
    has at most so many bytes, and the time of all samples."""
    profile = Profile(Authors(), 0.01)
    for number in range(SAMPLES):
        name = f"f{number}_" + "ü" * 5000
        profile.add(called([(f"/{'ö' * 5000}\udcff/{number}.py", name)] * CALLS), number * 0.01)
    document = profile.document("large")
    assert LARGEST / 4 < len(document) <= LARGEST
    (found,) = read(document)["profiles"]
    assert sum(found["weights"]) == pytest.approx(SAMPLES * 0.01)


def keep(kept: KeptStalls, plugin: str) -> None:
    """Keep a stall of a plugin."""
    kept.keep(plugin=plugin, began=0, seconds=1, doing="", task="", at="", document=b"{}")


def test_one_plugin_does_not_displace_the_stalls_of_another() -> None:
    """A number of stalls is kept; beyond it the plugin with the most loses its oldest one."""
    kept = KeptStalls()
    keep(kept, "quiet")
    for _ in range(10 * KEPT):
        keep(kept, "hog")
    assert [each.plugin for each in kept.all()] == ["quiet", *["hog"] * (KEPT - 1)]
    numbers = [each.number for each in kept.all()]
    assert numbers[-1] == 1 + 10 * KEPT
    assert all(b == a + 1 for a, b in pairwise(numbers[1:]))
    assert kept.get(1) is not None
    assert kept.get(2) is None
