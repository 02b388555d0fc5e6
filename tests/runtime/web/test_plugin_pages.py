"""The pages that plugins' authors have written, as documents."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    App,
    BackgroundPlugin,
    Curve,
    Facts,
    Runtime,
    Secret,
    Status,
    Table,
    TokenSettings,
    page,
)
from trivet._log._failures import EVERY
from trivet._web._fast_path import encode
from trivet._web._plugin_pages import LARGEST, LIMIT, PARTS, POINTS, ROWS, describe
from trivet.testing import client, open_plugins

TOKEN = "a-token-of-an-operator"
TOKENS = [TokenSettings(name="operator", scopes=["admin"], secret=Secret(TOKEN))]
PLANTED = "the-planted-password"


class Cellar(BackgroundPlugin):
    password: Secret = Secret(PLANTED)

    def __init__(self, app: App) -> None:
        self.answer: Any = "dry"
        self.fault: BaseException | None = None
        self.lasts = 0.0
        self.is_cancelled = False

    @page("Barrels")
    async def stock(self) -> Any:
        try:
            await trio.sleep(self.lasts)
        except trio.Cancelled:
            self.is_cancelled = True
            raise
        if self.fault is not None:
            raise self.fault
        return self.answer


async def asked(
    runtime: Runtime, path: str = "cellar/pages/stock", browser: Any = None
) -> tuple[int, Any]:
    """The answer to an operator who looks at a page."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = await (browser or client(runtime)).get(f"/-/plugins/{path}", headers=headers)
    assert PLANTED not in (await answer.get_data(as_text=True))
    return answer.status_code, await answer.get_json()


async def test_a_page(autojump_clock: MockClock) -> None:
    """A page has its title and its parts, whose texts have no secrets; the plugin's document names
    it."""
    async with open_plugins(Cellar, tokens=TOKENS) as runtime:
        runtime.get(Cellar).answer = (
            f"The key is {PLANTED}.",
            Facts({"barrels": 15, "key": PLANTED, "full": False, "owner": None}),
            Table(["wine", "barrels"], [["red", 12], (PLANTED, 0.5)]),
            Curve("degrees", [11, 11.5]),
        )
        assert await asked(runtime) == (
            200,
            {
                "title": "Barrels",
                "parts": [
                    {"kind": "text", "text": "The key is ***."},
                    {
                        "kind": "facts",
                        "facts": [
                            ["barrels", 15],
                            ["key", "***"],
                            ["full", False],
                            ["owner", None],
                        ],
                        "not_shown": 0,
                    },
                    {
                        "kind": "table",
                        "columns": ["wine", "barrels"],
                        "rows": [["red", 12], ["***", 0.5]],
                        "not_shown": 0,
                    },
                    {"kind": "curve", "label": "degrees", "values": [11.0, 11.5], "not_shown": 0},
                ],
                "not_shown": 0,
            },
        )
        _, account = await asked(runtime, "cellar")
    assert account["pages"] == [{"name": "stock", "title": "Barrels"}]


async def test_a_fault_of_the_author_is_told(autojump_clock: MockClock) -> None:
    """An exception of the author's code is the answer, without secrets, and a line of the log."""
    async with open_plugins(Cellar, tokens=TOKENS) as runtime:
        cellar, browser = runtime.get(Cellar), client(runtime)
        with capture_logs() as lines:
            for fault in (OSError(f"no key {PLANTED}"), ValueError()):
                cellar.fault = fault
                status, problem = await asked(runtime, browser=browser)
                assert (status, problem["error_code"]) == (500, "page_failed")
        assert [each["page"] for each in lines if each["event"] == "page failed"] == ["stock"] * 2
        cellar.fault = OSError(f"no key {PLANTED}")
        _, problem = await asked(runtime)
        assert problem["detail"] == "OSError: no key ***"
        cellar.fault, cellar.answer = None, object()
        _, problem = await asked(runtime)
        assert problem["detail"].startswith("TypeError: a page has texts")


async def test_a_page_that_takes_long(autojump_clock: MockClock) -> None:
    """The author's code is cancelled when it has had its time, and the answer says so."""
    async with open_plugins(Cellar, tokens=TOKENS) as runtime:
        cellar = runtime.get(Cellar)
        cellar.lasts = 3600.0
        began = trio.current_time()
        status, problem = await asked(runtime)
        assert trio.current_time() - began == pytest.approx(LIMIT)
        assert (status, problem["error_code"]) == (500, "page_failed")
        assert "took longer than 2 s" in problem["detail"]
        assert cellar.is_cancelled


async def test_no_page(autojump_clock: MockClock) -> None:
    """An unknown page and an unknown plugin get 404, and one that does not run gets 503."""
    async with open_plugins(Cellar, tokens=TOKENS) as runtime:
        for path, code in (
            ("cellar/pages/stok", "unknown_page"),
            ("cellar/pages/fault", "unknown_page"),
            ("celar/pages/stock", "unknown_plugin"),
            ("cellar/leaves/stock", "unknown_path"),
        ):
            status, problem = await asked(runtime, path)
            assert (status, problem["error_code"]) == (404, code), path
        headers = {"Authorization": f"Bearer {TOKEN}"}
        await client(runtime).post("/-/plugins/cellar/disable", headers=headers)
        await runtime.host("cellar").wait_for_status(Status.DISABLED)
        status, problem = await asked(runtime)
        assert (status, problem["error_code"]) == (503, "plugin_unavailable")


async def test_a_fault_that_repeats(autojump_clock: MockClock) -> None:
    """A page that fails each time is logged whole once, and a minute later with the number of the
    others, although its text is another each time."""
    async with open_plugins(Cellar, tokens=TOKENS) as runtime:
        cellar, browser = runtime.get(Cellar), client(runtime)
        with capture_logs() as lines:
            for number in range(4):
                cellar.fault = OSError(f"attempt {number}")
                _, problem = await asked(runtime, browser=browser)
                assert problem["detail"] == f"OSError: attempt {number}"
            failed = [each for each in lines if each["event"] == "page failed"]
            assert [each["exc_info"].args for each in failed] == [("attempt 0",)]
            await trio.sleep(EVERY + 1)
        _, counted = [each for each in lines if each["event"] == "page failed"]
        assert (counted["repeated"], counted["error"]) == (3, "OSError: attempt 3")
        assert (counted["plugin"], counted["page"]) == ("cellar", "stock")


class Celsius(float):
    """A number of a class of its own, as `numpy.float64` is."""


class Odd(float):
    """A number that is none."""

    def __float__(self) -> float:
        raise ArithmeticError("no degrees")


class Count(int):
    """A whole number of a class of its own."""


async def test_numbers_of_other_classes(autojump_clock: MockClock) -> None:
    """A number of a derived class is a number; what its conversion raises stands on the card."""
    async with open_plugins(Cellar, tokens=TOKENS) as runtime:
        cellar, browser = runtime.get(Cellar), client(runtime)
        cellar.answer = [Facts({"inside": Celsius(11.5)}), Table(["barrels"], [[Count(12)]])]
        status, document = await asked(runtime, browser=browser)
        assert status == 200
        facts, table = document["parts"]
        assert (facts["facts"], table["rows"]) == ([["inside", 11.5]], [[12]])
        cellar.answer = Facts({"inside": Odd(11.5)})
        status, problem = await asked(runtime, browser=browser)
        assert (status, problem["error_code"]) == (500, "page_failed")
        assert problem["detail"] == "ArithmeticError: no degrees"


def parts_of(answer: object) -> Any:
    """The parts of the document."""
    return describe(answer)["parts"]


def test_the_parts_are_bounded() -> None:
    """A page has so many parts, a table and facts so many rows, and a curve so many values; what is
    left out is counted."""
    document: Any = describe(["a"] * 100)
    assert (len(document["parts"]), document["not_shown"]) == (PARTS, 100 - PARTS)
    rows = [[number] for number in range(1000)]
    (table,) = parts_of(Table(["a"], rows))
    assert (len(table["rows"]), table["not_shown"]) == (ROWS, 1000 - ROWS)
    (facts,) = parts_of(Facts({str(number): number for number in range(1000)}))
    assert (len(facts["facts"]), facts["not_shown"]) == (ROWS, 1000 - ROWS)
    (curve,) = parts_of(Curve("a", range(1000)))
    assert curve["values"] == [float(each) for each in range(1000 - POINTS, 1000)]
    assert curve["not_shown"] == 1000 - POINTS
    (text,) = parts_of("x" * 100_000)
    assert len(text["text"]) < 20_000


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}", "\0"])
def test_a_page_is_bounded_in_bytes(letter: str) -> None:
    """Parts that are within each bound by themselves have so many bytes together; the rows and the
    parts that have no space are counted."""
    rows = [[letter * 500] * 20] * ROWS
    first: Any = {"a": 1}
    document: Any = describe([Facts(first), *[Table(["a"] * 20, rows)] * 3, "the end"])
    assert LARGEST - 100_000 < len(encode(document)) <= LARGEST + 100
    facts, table = document["parts"]
    assert facts["facts"] == [["a", 1]]
    assert 0 < len(table["rows"]) == ROWS - table["not_shown"]
    assert document["not_shown"] == 3


class Unread(bytes):
    """Bytes that may not be written as text: it would take long."""

    def __str__(self) -> str:
        raise AssertionError("it is written")


@pytest.mark.parametrize("longest", [500, 501])
def test_a_long_collection_is_not_written(longest: int) -> None:
    """A collection in place of a value is written if it is short, and else named with its
    length."""
    odd: Any = {"a": [1] * longest, "b": Unread(5_000_000)}
    if longest > 500:
        (facts,) = parts_of(Facts(odd))
        assert facts["facts"] == [
            ["a", "list, not shown: its length is 501"],
            ["b", "Unread, not shown: its length is 5000000"],
        ]
    else:
        ((_, text),) = parts_of(Facts({"a": odd["a"]}))[0]["facts"]
        assert text.startswith("[1, 1, ")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Table(["a", "b"], [["one"]]), "1 values, below 2 columns"),
        (Table(["a"] * 21, []), "at most 20 columns"),
        (Curve("a", [1.0, -1.0]), "negative"),
        (Curve("a", [float("nan")]), "finite"),
    ],
)
def test_parts_that_cannot_be_drawn(part: Table | Curve, said: str) -> None:
    """A row with too few values, too many columns, and a curve below zero are faults."""
    with pytest.raises(ValueError, match=said):
        describe([part])


def test_values_that_json_does_not_have() -> None:
    """A value of another type, a number without an end and a text that is no UTF-8 are text."""
    odd: Any = {"a": float("inf"), "b": 10**30, "c": object, "d": "\ud800"}
    (facts,) = parts_of(Facts(odd))
    assert facts["facts"] == [
        ["a", "inf"],
        ["b", str(10**30)],
        ["c", "<class 'object'>"],
        ["d", "\\ud800"],
    ]
