"""Requests that are generated from the contract."""

from __future__ import annotations

import pytest

from .contract import send_requests


@pytest.mark.process
async def test_every_response_is_as_the_document_says() -> None:
    """Three hundred generated requests, right and wrong ones, get responses that the OpenAPI
    document describes, and none of them is an error of the server's."""
    sent, report = await send_requests(300, seed=1)
    assert sent >= 300, report
