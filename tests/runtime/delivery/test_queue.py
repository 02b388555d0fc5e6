"""In which order events are handed out: lanes, and waits before another attempt."""

from __future__ import annotations

import math

import pytest

from trivet import Delivery, Event
from trivet._delivery._queue import LOADED, Queue, lane_by
from trivet._events._delivery_settings import PARTITION_KEY, DeliveryPolicy


class Step(Event):
    of: str | None
    number: int


IN_ORDER = DeliveryPolicy()
SIDE_BY_SIDE = DeliveryPolicy(concurrency=4)
BY_KEY = DeliveryPolicy(concurrency=4, ordering_key="of")


def steps(*names: str) -> list[Delivery[Event]]:
    """Events such as `"a1"`: the key, and a number."""
    return [
        Delivery.of(Step(name[0] if name[0] != "-" else None, int(name[1:])), id=name)
        for name in names
    ]


def queue_with(policy: DeliveryPolicy, *names: str) -> Queue:
    """A queue with these events."""
    queue = Queue(policy)
    for delivery in steps(*names):
        queue.ready.append(delivery)
    return queue


def take(queue: Queue, now: float = 0.0) -> Delivery[Event]:
    """The next one; there is one."""
    delivery = queue.take(now)
    assert delivery is not None
    return delivery


def take_all(queue: Queue, now: float = 0.0) -> list[str]:
    """All that can be taken, without finishing any."""
    taken: list[str] = []
    while (delivery := queue.take(now)) is not None:
        taken.append(delivery.id)
    return taken


@pytest.mark.parametrize("policy", [IN_ORDER, SIDE_BY_SIDE])
def test_without_a_key_it_is_first_in_first_out(policy: DeliveryPolicy) -> None:
    """Without a key events come first in, first out, whether or not the one before is done."""
    queue = queue_with(policy, "a1", "a2", "b1")
    assert queue.waiting == 3
    assert take_all(queue) == ["a1", "a2", "b1"]
    assert queue.waiting == 0


def test_in_order_nothing_overtakes_an_event_that_backs_off() -> None:
    """In order, all events wait for one that backs off, which comes before them."""
    queue = queue_with(IN_ORDER, "a1", "b1", "c1")
    first = take(queue)
    queue.back_off(first, until=5.0)
    assert (queue.waiting, queue.backing_off, queue.next_return) == (2, 1, 5.0)
    assert queue.is_blocked
    assert queue.is_stuck
    assert take_all(queue, now=4.9) == []
    assert take_all(queue, now=5.0) == ["a1", "b1", "c1"]
    assert (queue.waiting, queue.backing_off, queue.next_return) == (0, 0, math.inf)


def test_those_that_failed_together_come_back_together_and_in_order() -> None:
    """Events of a lane come back when the longest wait among them is over."""
    queue = queue_with(IN_ORDER, "a1", "a2", "a3", "a4")
    batch = [take(queue) for _ in range(3)]
    for delivery, until in zip(batch, (2.0, 7.0, 1.0), strict=True):
        queue.back_off(delivery, until)
    assert take_all(queue, now=6.9) == []
    assert take_all(queue, now=7.0) == ["a1", "a2", "a3", "a4"]


def test_side_by_side_each_waits_for_itself() -> None:
    """Without an order an event that backs off holds up no other."""
    queue = queue_with(SIDE_BY_SIDE, "a1", "a2", "a3")
    queue.back_off(take(queue), until=5.0)
    queue.back_off(take(queue), until=3.0)
    assert not queue.is_blocked
    assert take_all(queue) == ["a3"]
    assert queue.next_return == 3.0
    assert take_all(queue, now=3.0) == ["a2"]
    assert take_all(queue, now=5.0) == ["a1"]


def test_one_of_a_key_at_a_time() -> None:
    """Events of a key wait until the one in flight is done; those of other keys do not."""
    queue = queue_with(BY_KEY, "a1", "a2", "b1", "a3", "b2")
    first = take(queue)
    assert take_all(queue) == ["b1"]
    assert queue.waiting == 3
    assert not queue.is_stuck
    queue.done(first)
    second = take(queue)
    assert second.id == "a2"
    assert take_all(queue) == []
    queue.done(second)
    assert take_all(queue) == ["a3"]


def test_a_key_that_fails_holds_up_only_itself() -> None:
    """Events that wait for the failed one come after it."""
    queue = queue_with(BY_KEY, "a1", "a2", "b1")
    queue.back_off(take(queue), until=5.0)
    assert take_all(queue) == ["b1"]
    assert queue.is_stuck
    again = take(queue, now=5.0)
    assert again.id == "a1"
    assert take_all(queue, now=5.0) == []
    queue.done(again)
    assert take_all(queue, now=5.0) == ["a2"]


def test_events_without_the_key_have_no_order() -> None:
    """Events without a key do not wait for one another."""
    queue = queue_with(BY_KEY, "-1", "-2")
    assert take_all(queue) == ["-1", "-2"]


def test_the_envelope_can_have_the_key() -> None:
    """The ordering key `partitionkey` is that of the CloudEvent."""
    queue = Queue(DeliveryPolicy(concurrency=2, ordering_key=PARTITION_KEY))
    for number, key in enumerate(("x", "x", None, None)):
        queue.ready.append(Delivery.of(Step("a", number), id=str(number), key=key))
    assert take_all(queue) == ["0", "2", "3"]


@pytest.mark.parametrize("policy", [IN_ORDER, SIDE_BY_SIDE, BY_KEY])
def test_events_put_back_come_first(policy: DeliveryPolicy) -> None:
    """Events that are put back come in their own order, before all that wait."""
    queue = queue_with(policy, "a1", "b1", "c1")
    taken = [take(queue), take(queue)]
    queue.put_back(taken)
    assert queue.waiting == 3
    assert take_all(queue) == ["a1", "b1", "c1"]


def test_an_event_put_back_is_followed_by_its_key() -> None:
    """An event that is put back is followed by the next of its key, in order."""
    queue = queue_with(BY_KEY, "a1", "a2", "a3")
    first = take(queue)
    assert take_all(queue) == []
    queue.put_back([first])
    for expected in ("a1", "a2", "a3"):
        delivery = take(queue)
        assert delivery.id == expected
        assert take_all(queue) == []
        queue.done(delivery)


def test_the_oldest_event_of_a_key_is_the_one_that_backs_off() -> None:
    """The oldest event is the one that backs off, and then those that wait for it."""
    queue = queue_with(BY_KEY, "a1", "a2", "b1")
    queue.back_off(take(queue), until=5.0)
    second = take(queue)
    assert second.id == "b1"
    oldest = [queue.pop_oldest() for _ in range(3)]
    assert [delivery and delivery.id for delivery in oldest] == ["a1", "a2", None]
    assert (queue.waiting, queue.backing_off) == (0, 0)
    assert take_all(queue, now=5.0) == []


def test_everything_can_be_taken_out() -> None:
    """`clear` takes out every event that waits, for whatever reason."""
    queue = queue_with(BY_KEY, "a1", "a2", "b1", "c1")
    queue.back_off(take(queue), until=5.0)
    take(queue)
    assert sorted(delivery.id for delivery in queue.clear()) == ["a1", "a2", "c1"]
    assert (queue.waiting, queue.backing_off) == (0, 0)
    assert take_all(queue, now=9.0) == []


def test_a_long_lane_waits_on_disk() -> None:
    """Events of a long lane are known by their numbers alone, until their turn comes."""
    held = [f"a{number}" for number in range(2, LOADED + 2)]
    queue = queue_with(BY_KEY, "a1", *held)
    first = take(queue)
    lane = queue.lane_of(first)
    assert not queue.hold(lane, 1001)  # Those in memory are not counted before a look at them.
    assert take_all(queue) == []
    assert queue.hold(lane, 1001)
    assert queue.hold(lane, 1002)
    assert not queue.hold("b", 1003)
    assert queue.waiting == LOADED + 2
    queue.done(first)
    for name in held:
        assert not queue.has_missing
        delivery = take(queue)
        assert delivery.id == name
        queue.done(delivery)
    assert queue.has_missing
    assert queue.missing() == {lane: [1001, 1002]}
    assert queue.missing() == {}
    (late,) = steps("a3")
    queue.ready.append(late)
    assert take_all(queue) == []  # It must not overtake those that are being read.
    queue.load(lane, [1001, 1002], steps("a1002"))  # 1001 was purged meanwhile.
    assert queue.waiting == 2
    following = take(queue)
    assert following.id == "a1002"
    queue.done(following)
    assert take_all(queue) == ["a3"]


def test_a_reader_of_batches_takes_neighbours_of_a_key() -> None:
    """A reader of batches takes several events of a key in order; a failed one holds up its key
    alone."""
    queue = Queue(DeliveryPolicy(ordering_key="of"), one_at_a_time=False)
    for delivery in steps("a1", "b1", "a2", "a3"):
        queue.ready.append(delivery)
    first, other, second = (take(queue) for _ in range(3))
    assert [first.id, other.id, second.id] == ["a1", "b1", "a2"]
    queue.done(other)
    queue.back_off(first, until=5.0)
    queue.back_off(second, until=3.0)
    assert take_all(queue, now=4.9) == []
    assert take_all(queue, now=5.0) == ["a1", "a2", "a3"]
    assert queue.waiting == 0


def test_an_event_that_comes_back_is_before_the_lane_that_is_read() -> None:
    """An event that comes back while its lane is read comes before the events that were read."""
    queue = queue_with(BY_KEY, *(f"a{number}" for number in range(1, LOADED + 2)))
    first = take(queue)
    assert take_all(queue) == []
    lane = queue.lane_of(first)
    assert queue.hold(lane, 1001)
    assert queue.hold(lane, 1002)
    queue.done(first)
    for _ in range(LOADED):
        queue.done(take(queue))
    assert queue.missing() == {lane: [1001, 1002]}
    (late,) = steps("a9")
    queue.back_off(late, until=1.0)
    assert take_all(queue, now=1.0) == []
    queue.load(lane, [1001, 1002], steps("a1001", "a1002"))
    for expected in ("a9", "a1001", "a1002"):
        delivery = take(queue)
        assert delivery.id == expected
        queue.done(delivery)


class Nameless:
    """A value that has no text."""

    def __str__(self) -> str:
        raise ArithmeticError("no text")


def test_a_key_that_cannot_be_read_is_none() -> None:
    """The event has a lane of its own, as one without the key, and keeps nobody waiting."""

    class Keyed(Event):
        account: object = None

        @property
        def computed(self) -> str:
            raise KeyError("computed")

    for key in ("account", "computed"):
        lane = lane_by(key)
        first, second = Delivery.of(Keyed(Nameless())), Delivery.of(Keyed(Nameless()))
        assert lane(first) == lane(first) != lane(second)
