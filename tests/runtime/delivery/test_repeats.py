"""The events that are known when they come again, and how many are remembered."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trivet import Delivery, DeliverySettings, Event, EventPlugin, Fate
from trivet._delivery import _repeats
from trivet._delivery._repeats import Repeats
from trivet.testing import open_plugins

WINDOW = 300.0


class Ping(Event):
    pass


class Handler(EventPlugin[Ping]):
    delivery = DeliverySettings(deduplicate_for=WINDOW)

    async def handle_event(self, event: Ping) -> None:
        pass


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than three are remembered."""
    monkeypatch.setattr(_repeats, "AT_MOST", 3)


def come(repeats: Repeats, *names: str) -> None:
    """Events come, and are handled."""
    for name in names:
        assert repeats.admits(("s", name), Delivery.of(Ping()))
        repeats.ended(("s", name), Fate.HANDLED, "plugin")


def known(repeats: Repeats, names: str) -> str:
    """The events that are known."""
    return "".join(name for name in names if repeats.knows(("s", name)))


async def test_the_last_ones_are_known(three: None) -> None:
    """Only the last events are known, as many as are remembered."""
    repeats = Repeats(WINDOW)
    come(repeats, *"abcde")
    assert known(repeats, "abcde") == "cde"


async def test_one_that_comes_again_has_its_new_place(three: None) -> None:
    """An event that failed, or is let in anew, is remembered as long as others that came then."""
    repeats = Repeats(WINDOW)
    repeats.take_in(("s", "a"))
    repeats.ended(("s", "a"), Fate.FAILED, "plugin")
    come(repeats, *"bcad")
    assert known(repeats, "abcd") == "acd"


async def test_a_living_event_is_known_although_its_window_is_over(
    autojump_clock: MockClock,
) -> None:
    """A living event is known beyond its window, and for one more window after its end at most."""
    repeats = Repeats(WINDOW)
    repeats.take_in(("s", "a"))
    await trio.sleep(2 * WINDOW)
    come(repeats, "b")
    assert known(repeats, "ab") == "ab"
    repeats.ended(("s", "a"), Fate.HANDLED, "plugin")
    await trio.sleep(WINDOW)
    assert known(repeats, "ab") == ""


async def test_forgotten_events_take_no_room(autojump_clock: MockClock, three: None) -> None:
    """Forgotten events take no room, however many fail, and however long one is alive."""
    repeats = Repeats(WINDOW)
    repeats.take_in(("s", "alive"))
    for number in range(1000):
        repeats.take_in(("s", str(number)))
        repeats.ended(("s", str(number)), Fate.FAILED, "plugin")
        await trio.sleep(1)
    assert len(repeats._places) <= 2 * 3
    assert repeats.knows(("s", "alive"))


FATES = st.sampled_from([Fate.HANDLED, Fate.FAILED, None])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), FATES, st.booleans()), max_size=40))
def test_the_known_events_are_those_of_a_plain_list(
    steps: list[tuple[str, Fate | None, bool]],
) -> None:
    """The known events are those of a plain model that looks through all that came."""

    async def run() -> None:
        repeats, ended, alive = Repeats(WINDOW), dict[str, float](), set[str]()
        for name, fate, is_late in steps:
            await trio.sleep(WINDOW if is_late else 1)
            now = trio.current_time()
            is_known = name in alive or ended.get(name, -math.inf) + WINDOW > now
            assert repeats.knows(("s", name)) == is_known
            assert repeats.admits(("s", name), Delivery.of(Ping())) == (not is_known)
            if not is_known:
                ended.pop(name, None)
                alive.add(name)
            if fate is not None:
                repeats.ended(("s", name), fate, "plugin")
                alive.discard(name)
                ended.pop(name, None)
            if fate is Fate.HANDLED:
                ended[name] = now
                for old in [each for each, at in ended.items() if at + WINDOW <= now]:
                    del ended[old]
                if len(ended) > 3:
                    del ended[next(iter(ended))]

    with pytest.MonkeyPatch.context() as few:
        few.setattr(_repeats, "AT_MOST", 3)
        trio.run(run, clock=MockClock(autojump_threshold=0))


async def test_a_window_that_ends_at_this_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that was known a moment ago is a repetition, and waits for no room."""
    async with open_plugins(Handler) as runtime:
        await runtime.publish(Ping(), id="a", wait=True)
        now = trio.current_time()
        looks = iter([now, math.inf])
        monkeypatch.setattr("trivet._delivery._repeats.trio.current_time", lambda: next(looks))
        assert (await runtime.publish(Ping(), id="a")).worst is Fate.DUPLICATE
        monkeypatch.undo()
