"""`trivet new`: the files of a new plugin, with a test that passes.

Owns the kinds of plugins that there are templates for, and where the files go.
Never knows the text of a file: the templates are in `_templates`.
"""

from __future__ import annotations

import keyword
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

import click

from .._events._event_class import snake_case
from .._program._reading import DEFAULT_FILE, load_settings
from ._options import config_option

KINDS = ("event", "background", "batch", "source", "sink", "page")
_TEST = "python -m pytest {file}"  # A shell's own `pytest` may belong to another Python.
_INSTALL = "pip install 'trivet[testing]'"
_SETTINGS = """\
active_plugins = ["{name}"]

# [plugins.{name}]
# The fields of the plugin's class are the keys of this table.
"""


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option("--package", is_flag=True, help="Write a package to distribute: ./trivet-NAME.")
@config_option
def new(kind: str, name: str, package: bool, config: Path | None) -> None:
    """Write a new plugin with a test, as a file in the directory of plugins.

    A KIND is event (handles events one at a time), background (works by itself), batch (handles
    many events at a time), source (brings events in), sink (sends events on by HTTP), or page
    (shows operators what it knows). No file that exists is changed.
    """
    words = _words(name)
    if package:
        written = _package(kind, words)
        root = next(iter(written)).parent
        steps = [f"to test it: cd {root} && pip install -e . --group test && python -m pytest"]
    else:
        settings = load_settings(config)
        written = _files(kind, words, settings.plugins_directory)
        test = _TEST.format(file=[*written][1])
        if find_spec("pytest_trio") is None:
            test = f"{_INSTALL} && {test}"
        steps = [f"to run it: trivet serve {name}", f"to test it: {test}"]
        if settings.file is None:
            written[DEFAULT_FILE] = _SETTINGS.format(name=name)
        else:
            steps = [f'to activate it, add "{name}" to active_plugins in {settings.file}', *steps]
    _write(written)
    for line in [*(f"wrote {file}" for file in written), *steps]:
        click.echo(line)


def _words(name: str) -> dict[str, str]:
    """The values of a template's variables that follow from the plugin's name."""
    cls = "".join(part.capitalize() for part in name.split("_"))
    if not name.isidentifier() or keyword.iskeyword(name) or snake_case(cls) != name:
        hint = snake_case(name).replace("-", "_").replace(" ", "_").strip("_")
        better = f", as in {hint!r}" if hint.isidentifier() and hint != name else ""
        raise click.UsageError(
            f"{name!r} cannot be the name of a plugin's file: it has lower-case letters, digits "
            f"and single underscores{better}"
        )
    return {"name": name, "cls": cls, "dashed": name.replace("_", "-")}


def _files(kind: str, words: dict[str, str], directory: Path) -> dict[Path, str]:
    """A plugin's file and its test, beside the others of a service."""
    name, tests = words["name"], directory.parent / "tests"
    values = words | {"directory": directory.name}
    return {
        directory / f"{name}.py": _filled(f"{kind}.py", values),
        tests / f"test_{name}.py": _filled(f"{kind}.test", values),
    }


def _package(kind: str, words: dict[str, str]) -> dict[Path, str]:
    """A distribution of its own, with one plugin that services find by its entry point."""
    root, name = Path(f"trivet-{words['dashed']}"), words["name"]
    major, minor = version("trivet").split(".")[:2]
    values = words | {
        "directory": "",
        "trivet": f"trivet>={major}.{minor},<{major}.{int(minor) + 1}",
        "httpx": ', "httpx>=0.28"' if kind == "sink" else "",
    }
    return {
        root / "pyproject.toml": _filled("package/pyproject.toml", values),
        root / "README.md": _filled("package/README.md", values),
        root / ".gitignore": _filled("package/gitignore", values),
        root / ".github" / "workflows" / "test.yml": _filled("package/test.yml", values),
        root / "src" / f"trivet_{name}" / "__init__.py": _filled(f"{kind}.py", values),
        root / "src" / f"trivet_{name}" / "py.typed": "",
        root / "tests" / f"test_{name}.py": _of_package(_filled(f"{kind}.test", values)),
    }


def _of_package(test: str) -> str:
    """A test that finds the plugin by its entry point, and not in a directory."""
    path = "from pathlib import Path\n"
    for part in (f"{path}\n", path, ", directory=PLUGINS"):
        test = test.replace(part, "")
    return "".join(line for line in test.splitlines(keepends=True) if "PLUGINS" not in line)


def _filled(template: str, values: dict[str, str]) -> str:
    """A template's text with its variables replaced."""
    text = files("trivet._cli").joinpath("_templates", f"{template}.txt").read_text("utf-8")
    return Template(text).substitute(values)


def _write(texts: dict[Path, str]) -> None:
    """Write files; none is written if one of them exists."""
    for file in texts:
        if file.exists():
            raise click.UsageError(f"{file} exists already: choose another name, or move it away")
    for file, text in texts.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        except OSError as error:
            raise click.UsageError(f"{file} cannot be written: {error.strerror}") from error
