"""The files in docs/deploy, read: what systemd and Kubernetes say of them, and their limits."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from trivet import Settings
from trivet._process._escalation import PARENT
from trivet._process._parent._wire import RECHECK_AFTER
from trivet._program._json_schema import settings_schema
from trivet._program._loader import load

from ..contrib.programs import needs

DEPLOY = Path(__file__).parents[2] / "docs/deploy"
STOP = Settings().shutdown.budget + PARENT.after
"""Seconds after which a stop is over, whatever plugins do."""
START = Settings().startup.limit
HANG = Settings().hang_limit + PARENT.after + RECHECK_AFTER
"""Seconds after which the parent has ended a program that hangs."""


def unit() -> dict[str, str]:
    """The settings of the unit's service."""
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "trivet.service")
    return dict(parser["Service"])


def manifests() -> dict[str, Any]:
    """The documents of the manifest, by their kinds."""
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
    return {document["kind"]: document for document in documents}


def faults(schema: dict[str, Any], document: object) -> list[str]:
    """The parts of a document that its schema does not allow."""
    validator: Any = jsonschema.Draft202012Validator(schema)
    return [fault.message for fault in validator.iter_errors(document)]


@needs("systemd-analyze")
def test_systemd_has_nothing_to_say(tmp_path: Path) -> None:
    """`systemd-analyze verify` accepts the unit, with a program that is there."""
    text = (DEPLOY / "trivet.service").read_text("utf-8")
    there = str(Path(sys.executable).parent / "trivet")
    assert text.count("/opt/trivet/bin/trivet") == 1
    file = tmp_path / "trivet.service"
    file.write_text(text.replace("/opt/trivet/bin/trivet", there))
    command = [str(shutil.which("systemd-analyze")), "verify", "--man=no", str(file)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    about = [line for line in found.stderr.splitlines() if "trivet" in line]
    assert (found.returncode, about) == (0, [])


def test_the_unit_leaves_time_for_a_start_and_a_stop() -> None:
    """Systemd kills later than Trivet ends by itself, and waits longer for the start."""
    service = unit()
    assert float(service["TimeoutStopSec"]) > STOP
    assert float(service["TimeoutStartSec"]) > START
    assert service["KillMode"] == "mixed"
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "all")


@pytest.mark.parametrize("kind", ["Service", "ConfigMap", "StatefulSet"])
def test_kubernetes_accepts_the_manifest(kind: str) -> None:
    """Each document has the published, strict schema of its kind."""
    published = json.loads((Path(__file__).parent / "kubernetes-1.33.json").read_text("utf-8"))
    schema = {"$defs": published["$defs"], "$ref": f"#/$defs/{published['kinds'][kind]}"}
    document = manifests()[kind]
    assert faults(schema, document) == []
    document["metadata"]["nmae"] = "misspelt"
    assert len(faults(schema, document)) == 1


def test_the_manifest_leaves_time_for_a_start_and_a_stop() -> None:
    """Kubernetes kills later than Trivet ends by itself, and waits longer for the start."""
    pod = manifests()["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    delay = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > delay + STOP
    start, live = container["startupProbe"], container["livenessProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] > START
    assert live["periodSeconds"] * live["failureThreshold"] > HANG


def test_the_probes_have_their_paths() -> None:
    """Each probe of the manifest has the endpoint that is made for it, at the program's port."""
    (container,) = manifests()["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    for probe, path in (("startup", "/startupz"), ("readiness", "/readyz"), ("liveness", "/livez")):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert (asked["path"], asked["port"]) == (path, container["ports"][0]["name"])


def test_the_manifests_settings_are_right() -> None:
    """The settings in the manifest fit the schema of the settings, and name mounted paths."""
    documents = manifests()
    settings = tomllib.loads(documents["ConfigMap"]["data"]["trivet.toml"])
    schema = settings_schema(load(Settings()))
    assert faults(schema, settings) == []
    (container,) = documents["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    named = [
        settings["store"]["path"],
        settings["tokens"][0]["secret"]["file"],
        container["args"][2],
    ]
    for path in named:
        assert any(Path(path).is_relative_to(mount) for mount in mounts)
    assert settings["bind"].endswith(f":{container['ports'][0]['containerPort']}")


def test_the_image_runs_what_its_user_may() -> None:
    """The image's program is no shell's child, and its user is not root, as in the manifest."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    (user,) = re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE)
    security = manifests()["StatefulSet"]["spec"]["template"]["spec"]["securityContext"]
    assert int(user) == security["runAsUser"]
    for instruction in ("ENTRYPOINT", "CMD"):
        (words,) = re.findall(rf"^{instruction} (\[.*\])$", text, re.MULTILINE)
        assert json.loads(words)


def test_the_schema_of_the_settings_is_one() -> None:
    """The schema that `trivet schema` prints fits the dialect that it names."""
    schema = settings_schema(load(Settings()))
    jsonschema.Draft202012Validator.check_schema(schema)
