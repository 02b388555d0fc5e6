"""The settings of a running program, for its operator: seen with their origins, and changed.

Owns the form of the request: its media type, and the version that it has to name.
Never knows how a change is applied, nor where it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
import msgspec
import trio

from .._program._loader import Program
from .._program._origins import effective_settings
from .._program._overlay import key_of, steps_within
from .._program._values import is_table
from .._runtime import Runtime
from ._admin import acted, one_thread
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints, Text, encode
from ._problems import ProblemError
from ._reload import asked, described, reloads_of

PATCH_TYPE = "application/merge-patch+json"
REFUSED = "settings_refused"
ANY = "*"
"""The `If-Match` for any version."""


def add_settings(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `GET /-/settings` and `PATCH /-/settings`."""

    async def settings(_: EndpointRequest) -> EndpointResponse:
        """Every setting as it holds, with its origin; the `ETag` is the version of all of them.

        Secrets are masked. `overlay` has the file of the changes that were made while the program
        ran, and their keys; `needs_restart` the keys that have other values by now, in the files:
        `bind` and `management_bind` hold when the program was stopped and started, the others after
        `POST /-/restart`, too.
        """
        return await _described(runtime)

    async def change(request: EndpointRequest) -> EndpointResponse:
        """200: the settings are changed, by a merge patch as in RFC 7396, and written.

        They are written to the overlay, which counts over the settings' file; null removes a key
        from it. `If-Match` names the version that was seen, or is `*`. Nothing changes where any
        of it has a fault.
        """
        reloads = reloads_of(runtime, REFUSED)
        version, patch = _version(request), await _patch(request)
        changes, made = await asked(reloads.change_settings(patch, version), REFUSED)
        keys = dict.fromkeys(key_of(path) for path, _ in steps_within(patch))
        acted(runtime, request, "settings", settings=keys)
        return _with_version({"changes": described(changes)}, made)

    fast_path.add("GET", "/-/settings", "admin", settings)
    fast_path.add("PATCH", "/-/settings", "admin", change)


async def _described(runtime: Runtime) -> EndpointResponse:
    # The version is never newer than the document: a change meanwhile is met by a refusal.
    version = await _current(runtime)
    work = partial(_describe, runtime.program)
    return _with_version(await trio.to_thread.run_sync(work, limiter=one_thread), version)


def _describe(program: Program) -> Mapping[str, object]:
    settings, written = program.settings, program.settings.written
    found: dict[str, object] | None = None
    if written.overlay is not None:
        keys = sorted(key_of(path) for path, _ in steps_within(written.overlaid))
        found = {"file": str(written.overlay), "keys": keys}
    return {
        "settings": [attrs.asdict(each) for each in effective_settings(settings, program)],
        "overlay": found,
        "needs_restart": list(settings.waiting),
    }


async def _current(runtime: Runtime) -> str | None:
    reloads = runtime.reloads
    if reloads is None:
        return None
    return await trio.to_thread.run_sync(reloads.version, limiter=one_thread)


def _with_version(document: object, version: str | None) -> EndpointResponse:
    tag = [] if version is None else [(b"etag", f'"{version}"'.encode("ascii"))]
    return Text("application/json", encode(document), tag), 200


def _version(request: EndpointRequest) -> str | None:
    """The version that the request has to meet; None for any."""
    given = [value for name, value in request.headers if name == "if-match"]
    if not given:
        detail = "`If-Match` names the `ETag` of GET /-/settings, or is `*`"
        raise ProblemError("precondition_required", detail)
    tags = [each.strip() for each in ",".join(given).split(",")]
    if tags == [ANY]:
        return None
    # Of several versions only one can be the present one: to name them is for other resources.
    return tags[0][1:-1] if len(tags) == 1 and tags[0][:1] == '"' else ""


async def _patch(request: EndpointRequest) -> Mapping[str, Any]:
    """The body, which is a JSON object."""
    if request.media_type != PATCH_TYPE:
        detail = f"the body is {PATCH_TYPE}"
        raise ProblemError("unsupported_media_type", detail, headers={"Accept-Patch": PATCH_TYPE})
    try:
        patch: Any = msgspec.json.decode(await request.read())
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProblemError("invalid_patch", f"the body is no JSON: {error}") from error
    if not is_table(patch):
        raise ProblemError("invalid_patch", "the body is no JSON object")
    return patch
