"""Documents of plain routes, written by one encoder: as Quart writes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from quart import Quart

from trivet._web import _plain_responses
from trivet._web._plain_responses import plain_response

DOCUMENTS: list[object] = [
    {"b": 1, "a": ["é", None, 1.5, True, 1e300, 2**70, -0.0], "": {}, "\x7f\u2028": '"\\/'},
    [[], {}, (1, 2), "\U0001f600", float("inf"), float("nan")],
    {"at": datetime(2024, 5, 6, tzinfo=UTC), "id": UUID(int=7), "sum": Decimal("1.10")},
    {1: "number", 2: None},
    [{"deep": [{"deep": [1]}]}] * 3,
]


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("in_c", [True, False])
def test_a_document_is_written_as_by_quart(
    document: object, in_c: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are those of Quart's own writer, also where Python has no encoder in C."""
    app = Quart("shop")
    if not in_c:
        monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    monkeypatch.setattr(_plain_responses, "_encode", _plain_responses.make_encoder())
    response = plain_response(app, document)
    assert response is not None
    assert response[2].decode() == app.json.dumps(document, separators=(",", ":")) + "\n"


def test_what_cannot_be_written_is_left_to_quart() -> None:
    """A circle, keys of two kinds, and an object of no kind are not plain, time and again."""
    app, circle = Quart("shop"), list[object]()
    circle.append(circle)
    for faulty in (circle, {1: 1, "a": 2}, {"a": object()}, [circle]):
        for _ in range(2):
            assert plain_response(app, faulty) is None
        assert plain_response(app, [1]) is not None
