"""The public interface as text, in `public_api.txt`; `python -m tests.generated` writes it anew.

Owns the form: one line for each public name, and for each public member of a public class, with
types, and the defaults of parameters, as the sources have them.
Never knows whether a change of it breaks a user: whoever reads the difference decides that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tests" / "public_api.txt"
MODULES = {
    "trivet": "runtime",
    "trivet.testing": "runtime",
    "trivet.aio": "runtime",
    "trivet_contrib.influx": "contrib",
    "trivet_contrib.nats": "contrib",
    "trivet_contrib.rabbitmq": "contrib",
    "trivet_contrib.redis": "contrib",
    "trivet_contrib.webhook": "contrib",
}
"""The public modules, each with its source root."""


def interface() -> str:
    """The lines of all public modules."""
    return "".join(f"{line}\n" for module in MODULES for line in _of_module(module))


def _of_module(name: str) -> Iterator[str]:
    root = ROOT / MODULES[name]
    package = griffe.load(name, search_paths=[root], resolve_aliases=True)
    for member in sorted(package.members):
        thing: Any = package.members[member]
        home = thing.target_path if thing.is_alias else thing.path
        if member[0] != "_" and home.startswith(f"{name}.") and not thing.is_module:
            yield from _of(f"{name}.{member}", thing)


def _of(path: str, thing: Any) -> Iterator[str]:
    if thing.is_class:
        yield f"class {path}({', '.join(map(str, thing.bases))})"
        for name in sorted(thing.members):
            if name == "__init__" or name[0] != "_":
                yield from _of(f"{path}.{name}", thing.members[name])
    elif thing.is_function:
        parameters = ", ".join(_parameters(thing.parameters))
        kind = "async def" if "async" in thing.labels else "def"
        yield f"{kind} {path}({parameters}) -> {thing.returns}"
    elif thing.annotation is not None:
        yield f"{path}: {thing.annotation}"
    elif not str(thing.value).startswith("TypeVar"):
        yield f"{path} = {thing.value}"


def _parameters(parameters: Any) -> Iterator[str]:
    stars = {"variadic positional": "*", "variadic keyword": "**"}
    is_keyword_only = False
    for each in parameters:
        kind = each.kind.value
        if kind == "keyword-only" and not is_keyword_only:
            yield "*"
        is_keyword_only |= kind in {"keyword-only", "variadic positional"}
        annotation = "" if each.annotation is None else f": {each.annotation}"
        has_default = each.default is not None and kind not in stars
        yield f"{stars.get(kind, '')}{each.name}{annotation}" + (
            f" = {each.default}" if has_default else ""
        )
