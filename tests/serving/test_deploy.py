"""The files in deploy/ and the commands of the runbook name only what there is."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import yaml

from xdm.cli import group
from xdm.serving.guard import OPEN_PATHS, needed_scope
from xdm.serving.messages.items import ItemsRequest
from xdm.serving.messages.models import LoadRequest
from xdm.serving.messages.recommend import Fallback
from xdm.serving.settings import ENVIRONMENT_PREFIX, ServeSettings, load_settings
from xdm.serving.telemetry import Telemetry

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

# --- metrics ----------------------------------------------------------------------------------------------------------------
OTHERS = {"up": ("job", "instance"), "process_resident_memory_bytes": ()}  # Prometheus' own, and its client's
SELECTOR = re.compile(r"\b((?:xdm|process)_\w+|up)\b(?:\{([^}]*)\})?")
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]] + [rule["expr"] for rule in RULES]


def matchers(text: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)\s*!?[=~]+\s*"([^"]*)"', text or ""))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_label_that_is_asked_for_is_there(expression):
    known = OTHERS | Telemetry().samples
    found = SELECTOR.findall(expression)
    assert found
    for name, selector in found:
        assert name in known
        assert set(matchers(selector)) <= {*known[name], "instance"}
    grouped = {
        label.strip()
        for labels in re.findall(r"(?:by|ignoring) \(([^)]*)\)", expression)
        for label in labels.split(",")
    }
    assert grouped <= {"instance"}.union(*(known[name] for name, _ in found))


def test_every_value_that_is_asked_for_can_be():
    words = " ".join(EXPRESSIONS)
    for found in re.findall(r'fallback=~"([^"]*)"', words):
        assert set(found.split("|")) <= set(get_args(Fallback))
    for found in re.findall(r'route="([^"]*)"', words):
        assert needed_scope("POST", found) == "read"
    outcomes = (ROOT / "src/xdm/serving/shelf.py").read_text() + (ROOT / "src/xdm/serving/telemetry.py").read_text()
    for found in re.findall(r'outcome=~?"([^"]*)"', words):
        assert all(f'"{word}"' in outcomes for word in found.split("|"))


def test_every_panel_is_whole_and_none_lies_on_another():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {"${datasource}"}


def test_the_runbook_has_a_line_for_every_alarm_and_no_other():
    assert re.findall(r"^\| `(Xdm\w+)` \|", RUNBOOK, re.MULTILINE) == [rule["alert"] for rule in RULES]
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] in ("page", "ticket") for rule in RULES)


# --- the unit ---------------------------------------------------------------------------------------------------------------
def unit() -> tuple[dict[str, str], list[str]]:
    """The [Service] section (the last of what is there twice), and its lines of Environment."""
    text = (DEPLOY / "xdm.service").read_text(encoding="utf-8")
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return dict(parser["Service"]), re.findall(r"^Environment=(\S+)=", text, re.MULTILINE)


def test_the_unit_starts_what_there_is_and_gives_it_time_to_stop():
    service, variables = unit()
    words = shlex.split(service["ExecStart"])
    assert words == ["/opt/xdm/bin/xdm", "serve", "--config", "/etc/xdm/serve.yaml"]
    settings = load_settings(DEPLOY / "serve.yaml", environment={})
    assert int(service["TimeoutStopSec"]) > settings.drain_seconds + settings.stop_delay_seconds + 5
    assert settings.keys is not None  # it listens for others
    for name in variables:
        assert (
            not name.startswith(ENVIRONMENT_PREFIX)
            or name[len(ENVIRONMENT_PREFIX) :].lower() in ServeSettings.model_fields
        )


HARDENED = """
DynamicUser=yes StateDirectory=xdm StateDirectoryMode=0700 ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes
NoNewPrivileges=yes CapabilityBoundingSet= RestrictNamespaces=yes Restart=always KillMode=mixed OOMPolicy=continue
"""


@pytest.mark.parametrize("line", HARDENED.split())
def test_the_unit_is_hardened(line):
    name, _, value = line.partition("=")
    assert unit()[0][name] == value


# --- the container ----------------------------------------------------------------------------------------------------------
def stages() -> list[list[tuple[str, str]]]:
    """``(instruction, rest)`` of each stage, continued lines joined and comments left out."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", "\n".join(line for line in text.split("\n") if not line.startswith("#"))).split("\n")
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, lines):
        instruction, _, rest = line.partition(" ")
        assert instruction in {
            "FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
        }, line  # fmt: skip
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, rest))
    return found


def test_the_container_is_built_in_two_stages_without_torch_and_runs_as_nobody():
    build, final = stages()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.search(r'"\.\[([a-z,]+)\]"', dict(build)["RUN"])
    assert extras
    needed = project["dependencies"] + [
        one for extra in extras[1].split(",") for one in project["optional-dependencies"][extra]
    ]
    assert not any(one.startswith("torch") for one in needed)
    for instruction, rest in build:
        if instruction == "COPY":
            assert all((ROOT / source).exists() for source in rest.split()[:-1])
    last = dict(final)
    assert last["USER"] == "10001:10001"
    assert last["COPY"] == "--from=build /opt/xdm /opt/xdm"
    assert json.loads(last["ENTRYPOINT"]) == ["xdm", "serve"]
    assert all(
        ":" in rest.split("/")[-1].split(" ")[0] for stage in (build, final) for name, rest in stage if name == "FROM"
    )


def test_the_container_is_set_up_and_asked_for_its_health():
    last = dict(stages()[-1])
    environment = dict(re.findall(r"(\w+)=(\S+)", last["ENV"]))
    settings = load_settings(
        environment={name: value for name, value in environment.items() if name.startswith(ENVIRONMENT_PREFIX)}
    )
    assert (settings.host, str(settings.port)) == ("0.0.0.0", last["EXPOSE"])
    assert settings.keys is not None
    assert Path(settings.state).parent == Path(json.loads(last["VOLUME"])[0])
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\S+?)'", last["HEALTHCHECK"])
    assert asked
    assert asked[1] == str(settings.port)
    assert asked[2] in OPEN_PATHS


# --- the runbook ------------------------------------------------------------------------------------------------------------
def commands() -> list[list[str]]:
    """The words of every shell command of the runbook."""
    blocks = "\n".join(line[4:] for line in RUNBOOK.split("\n") if line.startswith("    "))
    lines = blocks.replace("\\\n", " ").split("\n")
    return [shlex.split(line, comments=True) for line in lines if line.startswith(("xdm ", "/opt/", "ask "))]


def test_every_command_of_ours_is_one():
    ours = [words[1:] for words in commands() if words[0].endswith("/xdm") or words[0] == "xdm"]
    assert len(ours) >= 8
    for words in ours:
        words = words[: words.index(">")] if ">" in words else words
        command: click.Command = group
        context = click.Context(command)
        while isinstance(command, click.Group):
            found = command.get_command(context, words[0])
            assert found is not None, words
            command, words = found, words[1:]
        command.make_context(None, words)  # raises on an option that there is not


BODIES = {"/v1/models": LoadRequest, "/v1/items": ItemsRequest}


@pytest.fixture(scope="module")
def api(trained, tmp_path_factory) -> dict[str, Any]:
    """The paths of the OpenAPI document."""
    from xdm.serving.app import create_app
    from xdm.serving.opening import open_service

    settings = ServeSettings(bundle=trained, state=str(tmp_path_factory.mktemp("api") / "s.sqlite"))
    opened = open_service(settings, Telemetry())
    paths = create_app(opened, settings).openapi()["paths"]
    opened.service.close()
    return paths


def test_the_door_asks_for_the_scope_that_the_documentation_names(api):
    for path, operations in api.items():
        for method, operation in operations.items():
            named = [scope for one in operation.get("security", []) for scope in one["key"]]
            assert named == ([] if path in OPEN_PATHS else [needed_scope(method.upper(), path)]), (method, path)


def test_every_request_shown_is_one_of_the_api(api):
    asked = [words for words in commands() if words[0] == "ask"]
    assert len(asked) == 8
    for words in asked:
        method = words[words.index("-X") + 1].lower() if "-X" in words else "get"
        path = next(word for word in words if word.startswith("http://127.0.0.1:8000")).removeprefix(
            "http://127.0.0.1:8000"
        )
        templates = [template for template in api if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)]
        assert any(method in api[template] for template in templates), words
        assert ("-d" in words) == (method == "post")
        if path in BODIES and "-d" in words:
            BODIES[path].model_validate_json(words[words.index("-d") + 1])


def test_settings_scopes_and_paths_of_the_runbook_are_those_of_the_service():
    table = RUNBOOK.split("| setting |")[1].split("\n\n")[0]
    for name in re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.split("\n")[2:])):
        assert name in ServeSettings.model_fields
    for scope, line in re.findall(r"^\| `(read|write)` \| (.*) \|$", RUNBOOK, re.MULTILINE):
        method = ""
        for word in re.findall(r"`([^`]+)`", line):
            method, path = word.split() if " " in word else (method, word)
            assert needed_scope(method, path) == scope
    opened = re.findall(r"`(/[\w./]+)`", RUNBOOK.split("No scope includes another.")[1].split("are open")[0])
    assert set(opened) == OPEN_PATHS
