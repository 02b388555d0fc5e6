"""Events keep the promises of attrs and of Python, although msgspec makes them."""

from __future__ import annotations

import copy
import inspect
import pickle
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from types import new_class
from typing import Any, ClassVar, Generic, TypeVar, assert_type

import attrs
import cattrs
import msgspec
import pytest

from trivet import DefinitionError, Event
from trivet._events._types import EventTypes

T = TypeVar("T")


@attrs.frozen
class Item:
    name: str
    price: float = 1.0


class Ordered(Event):
    order_id: str
    items: list[Item] = attrs.field(factory=list[Item])
    total: float = 0.0

    kind: ClassVar[str] = "order"

    @cached_property
    def count(self) -> int:
        COUNTED.append(self.order_id)
        return len(self.items)


class Gift(Ordered):
    greeting: str = "hello"


def is_positive(event: Event, attribute: attrs.Attribute[Any], value: int) -> None:
    """Validate, and note that it was asked."""
    CHECKED.append((attribute.name, value))
    if value <= 0:
        raise ValueError(f"{attribute.name} is not positive")


class Bought(Event):
    number: int = attrs.field(validator=is_positive)
    price: int = attrs.field(default=1, validator=is_positive)


class BoughtTwice(Bought):
    again: int = 1


class Spanned(Event):
    first: int
    last: int

    def __attrs_post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError("it ends before it begins")


COUNTED: list[str] = []
CHECKED: list[tuple[str, int]] = []

EVENT = Ordered("o-1", [Item("tea", 2.5)], 2.5)
JSON = b'{"order_id":"o-1","items":[{"name":"tea","price":2.5}],"total":2.5}'


def test_msgspec_makes_an_event() -> None:
    """An event is a msgspec struct, which is why it is made quickly."""
    assert isinstance(EVENT, msgspec.Struct)
    assert "__init__" not in vars(Ordered)


# attrs


def test_attrs_knows_the_fields() -> None:
    """`attrs.has`, `fields` and `fields_dict` tell of an event's fields with types and defaults."""
    assert attrs.has(Ordered)
    assert attrs.has(Event)
    assert attrs.fields(Event) == ()
    assert [field.name for field in attrs.fields(Ordered)] == ["order_id", "items", "total"]
    assert attrs.fields(Ordered).total.default == 0.0
    assert attrs.fields(Ordered).order_id.default is attrs.NOTHING
    assert attrs.fields(Ordered).total.alias == "total"
    assert attrs.resolve_types(Ordered) is Ordered
    assert attrs.fields(Ordered).items.type == list[Item]


def test_asdict_and_astuple() -> None:
    """`attrs.asdict` and `astuple` go into an event's values, too."""
    items = [{"name": "tea", "price": 2.5}]
    assert attrs.asdict(EVENT) == {"order_id": "o-1", "items": items, "total": 2.5}
    assert attrs.asdict(EVENT, recurse=False)["items"] == [Item("tea", 2.5)]
    assert attrs.astuple(EVENT) == ("o-1", [("tea", 2.5)], 2.5)


def test_evolve() -> None:
    """`attrs.evolve` makes another event with some fields changed, and checks it."""
    changed = attrs.evolve(EVENT, total=3.0)
    assert (changed.total, changed.items, EVENT.total) == (3.0, EVENT.items, 2.5)
    assert attrs.evolve(Gift("o-2"), greeting="bye") == Gift("o-2", greeting="bye")
    with pytest.raises(TypeError):
        attrs.evolve(EVENT, colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="number is not positive"):
        attrs.evolve(Bought(1), number=0)


def test_validators() -> None:
    """Validators are called in the order of the fields, in a derived class too."""
    CHECKED.clear()
    BoughtTwice(2, 3)
    assert CHECKED == [("number", 2), ("price", 3)]
    with pytest.raises(ValueError, match="price is not positive"):
        Bought(1, price=0)
    with pytest.raises(ValueError, match="number is not positive"):
        BoughtTwice(0)
    with pytest.raises(cattrs.ClassValidationError):
        cattrs.structure({"number": 0}, Bought)


def test_a_validator_by_decorator() -> None:
    """`@field.validator` works as the argument does."""

    class Weighed(Event):
        weight: int = attrs.field(default=1)

        @weight.validator  # type: ignore[attr-defined,untyped-decorator]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUntypedFunctionDecorator]
        def _(self, attribute: attrs.Attribute[int], value: int) -> None:
            if value > 9:
                raise ValueError(f"{attribute.name} is too large")

    assert Weighed().weight == 1
    with pytest.raises(ValueError, match="weight is too large"):
        Weighed(10)


def test_validators_may_be_disabled() -> None:
    """Validators of events are disabled where attrs' are."""
    with attrs.validators.disabled():
        assert Bought(0).number == 0


def test_the_end_of_making() -> None:
    """`__attrs_post_init__` is called at the end, be it the class's own, a base's or a mixin's."""

    class Longer(Spanned):
        step: int = 1

    class Noting:
        def __attrs_post_init__(self) -> None:
            noted.append(type(self).__name__)

    class Noted(Noting, Event):
        pass

    noted: list[str] = []
    Noted()
    assert noted == ["Noted"]
    for kind in (Spanned, Longer):
        assert kind(1, 2).last == 2
        with pytest.raises(ValueError, match="it ends before it begins"):
            kind(2, 1)


def test_factories() -> None:
    """A factory makes the default of each event anew, written in either way."""

    class Tagged(Event):
        tags: list[str] = attrs.field(factory=list[str])
        names: dict[str, str] = attrs.Factory(dict[str, str])

    one, other = Tagged(), Tagged()
    one.tags.append("new")
    assert (one.tags, other.tags, other.names) == (["new"], [], {})


def test_fields_by_keyword() -> None:
    """A field that is given by keyword only may have no default, whatever stands around it."""

    class Placed(Event):
        note: str = attrs.field(kw_only=True)
        order_id: str
        total: float = 0.0
        colour: str = attrs.field(kw_only=True, default="red")

    class All(Event):
        colour: str = attrs.field(kw_only=True)

    placed = Placed("o-1", note="soon")
    assert attrs.asdict(placed) == {
        "order_id": "o-1",
        "total": 0.0,
        "note": "soon",
        "colour": "red",
    }
    assert inspect.get_annotations(Placed) == {
        "note": "str",
        "order_id": "str",
        "total": "float",
        "colour": "str",
    }
    assert attrs.evolve(placed, note="late").note == "late"
    assert attrs.fields(Placed).note.kw_only
    assert not attrs.fields(Placed).order_id.kw_only
    assert copy.copy(placed) == placed
    assert EventTypes([Placed]).decode(Placed, b'{"order_id":"o-1","note":"soon"}') == placed
    with pytest.raises(TypeError):
        Placed("o-1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        Placed("o-1", 1.0, "soon")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        All("red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_metadata_and_what_is_left_out() -> None:
    """`metadata`, `repr=False` and `eq=False` of a field are heeded."""

    class Paid(Event):
        amount: int
        card: str = attrs.field(default="", repr=False, eq=False, metadata={"secret": True})

    assert repr(Paid(1, "4111")).endswith("Paid(amount=1)")
    assert Paid(1, "4111") == Paid(1, "5500")
    assert hash(Paid(1, "4111")) == hash(Paid(1, "5500"))
    assert attrs.fields(Paid).card.metadata == {"secret": True}


def test_cattrs() -> None:
    """Cattrs makes an event of plain data, and plain data of an event."""
    data = {"order_id": "o-1", "items": [{"name": "tea", "price": 2.5}], "total": 2.5}
    assert cattrs.structure(data, Ordered) == EVENT
    assert cattrs.unstructure(EVENT) == data


def test_a_field_with_an_underscore() -> None:
    """A field whose name begins with an underscore has its name as an argument, and in JSON."""

    class Inner(Event):
        _number: int

    event = Inner(_number=3)
    assert attrs.evolve(event, _number=4) == Inner(4)
    assert EventTypes([Inner]).decode(Inner, msgspec.json.encode(event)) == event


# Python


def test_equality_and_hash() -> None:
    """Events are equal if their classes and values are; equal ones have the same hash."""
    assert Bought(1) == Bought(1, 1)
    assert Bought(1) != Bought(2)
    assert Bought(1) != BoughtTwice(1)
    assert len({Bought(1), Bought(1), Bought(2)}) == 2
    with pytest.raises(TypeError):
        hash(EVENT)  # It has a list.
    with pytest.raises(TypeError):
        assert Bought(1) < Bought(2)  # pyright: ignore[reportOperatorIssue]


def test_methods_of_ones_own() -> None:
    """An author's own `__eq__`, `__hash__` and `__repr__` stay."""

    class Same(Event):
        number: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Same)

        def __hash__(self) -> int:
            return 5

        def __repr__(self) -> str:
            return "the same"

    assert Same(1) == Same(2)
    assert (hash(Same(1)), repr(Same(1))) == (5, "the same")


def pickled(event: Event) -> Event:
    """The event, pickled and unpickled."""
    found: Event = pickle.loads(pickle.dumps(event))
    return found


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_copies(again: Callable[[Event], Event]) -> None:
    """A copy, a deep copy and an unpickled event are equal to the event."""
    for event in (EVENT, Gift("o-2"), BoughtTwice(1, 2, 3), Spanned(1, 2)):
        found = again(event)
        assert found == event
        assert type(found) is type(event)


def test_match() -> None:
    """`match` finds an event's fields by position and by name."""
    match EVENT:
        case Ordered(order_id, [Item(name)], total=total):
            assert (order_id, name, total) == ("o-1", "tea", 2.5)
        case _:
            raise AssertionError
    assert Gift.__match_args__ == ("order_id", "items", "total", "greeting")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def test_an_event_cannot_be_changed() -> None:
    """Assignment and deletion raise attrs' own error, also of a name that is no field."""
    for name in ("total", "colour"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError, match=f"Ordered.{name}: an event"):
            setattr(EVENT, name, 1)
        with pytest.raises(attrs.exceptions.FrozenInstanceError, match=f"Ordered.{name}: an event"):
            delattr(EVENT, name)
    assert EVENT.total == 2.5


def test_weak_references() -> None:
    """A weak reference to an event ends with it."""
    event = Gift("o-3")
    reference = weakref.ref(event)
    assert reference() is event
    del event
    assert reference() is None


def test_cached_property() -> None:
    """A cached property is computed once for an event."""
    COUNTED.clear()
    event = Ordered("o-9")
    assert (event.count, event.count, COUNTED) == (0, 0, ["o-9"])


def test_class_variables_methods_and_super() -> None:
    """Class variables are no fields, and methods may call those of the base class."""

    class Base(Event):
        limit: ClassVar[int] = 5
        names: ClassVar[list[str]] = ["a"]
        number: int

        def twice(self) -> int:
            return 2 * self.number

    class Below(Base):
        def twice(self) -> int:
            return super().twice() + self.limit

    assert Below(1).twice() == 7
    assert Below.names is Base.names
    assert [field.name for field in attrs.fields(Below)] == ["number"]


def test_a_field_that_is_defined_anew() -> None:
    """A derived class may give a field another default; the field keeps its place."""

    class Urgent(Ordered):
        total: float = 9.0
        at: int = 0

    assert Urgent("o-1") == Urgent("o-1", [], 9.0, 0)
    assert [field.name for field in attrs.fields(Urgent)] == ["order_id", "items", "total", "at"]


def test_mixins() -> None:
    """Plain, generic and abstract classes may stand before or behind the event class."""

    class Loud:
        def shout(self) -> str:
            return f"{self}!"

    class Named(ABC):
        @abstractmethod
        def title(self) -> str: ...

    class Boxed(Loud, Event, Generic[T]):
        value: T

    class Titled(Event, Named):
        word: str

        def title(self) -> str:
            return self.word.title()

    class Untitled(Event, Named):
        pass

    assert Boxed(3).shout().endswith("Boxed(value=3)!")
    assert Boxed[int](3) == Boxed(3)
    assert Titled("tea").title() == "Tea"
    assert isinstance(Titled("tea"), Named)
    with pytest.raises(TypeError, match="abstract"):
        Untitled()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]


def test_a_class_that_is_made_by_a_call() -> None:
    """`type` and `types.new_class` make event classes as a class statement does."""
    made = type("Made", (Gift,), {"kind": "made"})
    named = new_class("Named", (Gift,), {"name": "the.name"})
    assert issubclass(made, Gift)
    assert issubclass(named, Gift)
    assert (made.__event_name__, named.__event_name__) == ("made", "the.name")
    assert made("o-1").greeting == "hello"


def test_type_checkers_know_the_fields() -> None:
    """The types of arguments and fields are those of the annotations."""
    assert_type(EVENT.items, list[Item])
    assert_type(Gift("o-1", greeting="x").greeting, str)
    with pytest.raises(TypeError):
        Ordered()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        Ordered("o-1", colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_json() -> None:
    """An event becomes JSON by its fields, and is made of it with its checks."""
    types = EventTypes([Ordered, Bought])
    assert msgspec.json.encode(EVENT) == JSON
    assert types.decode(Ordered, JSON) == EVENT


# What is refused


def test_a_decorator_in_place_is_refused() -> None:
    """A decorator that would change the class in place is refused as needless, too."""

    class Placed(Event):
        number: int = 5

    with pytest.raises(
        DefinitionError, match=r"Placed: an event is a frozen attrs class by itself"
    ):
        attrs.frozen(slots=False)(Placed)
    assert Placed().number == 5


def takes_self(event: Any) -> int:
    """Never called."""
    raise AssertionError(event)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (attrs.field(default=attrs.Factory(takes_self, takes_self=True)), "cannot depend on"),
        (attrs.field(init=False, default=3), "a field without `init`"),
        (attrs.field(alias="other"), "rename the field"),
        (attrs.field(default=[]), r"attrs.field\(factory=list\)"),
    ],
)
def test_a_field_that_json_could_not_have(field: object, reason: str) -> None:
    """A field that would not be so in JSON is refused when the class is made."""
    with pytest.raises(DefinitionError, match=rf"Placed.number: .*{reason}"):
        new_class(
            "Placed",
            (Event,),
            {},
            lambda body: body.update(__annotations__={"number": int}, number=field),
        )


@pytest.mark.parametrize("name", ["__init__", "__post_init__", "__attrs_pre_init__"])
def test_another_beginning_is_refused(name: str) -> None:
    """An event has no `__init__` of its own; the message names what there is for it."""
    with pytest.raises(DefinitionError, match=rf"Placed.{name} .*__attrs_post_init__"):
        new_class("Placed", (Event,), {}, lambda body: body.update({name: takes_self}))


def test_slots_of_ones_own_are_refused() -> None:
    """A fault that msgspec finds is told with the class's name."""
    with pytest.raises(DefinitionError, match=r"Placed: .*__slots__"):

        class Placed(Event):  # pyright: ignore[reportUnusedClass]
            __slots__ = ("number",)


def test_a_field_without_a_type_is_refused() -> None:
    """A value for a base's field has to have its type, or it would hide the field."""
    with pytest.raises(DefinitionError, match=r"Cheap.total is a field: write its type"):

        class Cheap(Ordered):  # pyright: ignore[reportUnusedClass]
            total = 1.0

    with pytest.raises(DefinitionError, match=r"Untyped.number is a field: write its type"):

        class Untyped(Event):  # pyright: ignore[reportUnusedClass]
            number = attrs.field()  # pyright: ignore[reportGeneralTypeIssues]


def test_fields_come_from_one_base() -> None:
    """An event with two bases that have fields is refused, with a word of advice."""
    with pytest.raises(DefinitionError, match=r"Gift and .*Bought have fields.*from one base only"):

        class Both(Gift, Bought):  # type: ignore[misc]  # pyright: ignore[reportUnusedClass]
            pass

    class Below(Gift, Ordered):
        pass

    assert Below("o-1").greeting == "hello"
