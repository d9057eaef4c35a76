"""The recipes of containers and the systemd unit: no engine builds them here, but what they promise can be read."""

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from patience import PATIENCE

from ppdet.deploy.serve import parse_arguments
from ppdet.deploy.serving.limits import Settings

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "serving"
RECIPES = [FOLDER / "Dockerfile", FOLDER / "Dockerfile.gpu"]
READ_ONLY = ("--read-only", "--tmpfs /tmp", "--cap-drop ALL", "--security-opt no-new-privileges")


def instructions(path):
    """The instructions of a recipe, as pairs of keyword and the rest, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def test_only_what_the_recipes_copy_is_sent_to_the_engine():
    copies = [rest.split()[:-1] for path in RECIPES for keyword, rest in instructions(path) if keyword == "COPY"]
    lines = (FOLDER.parents[1] / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*" and {rule[1:] for rule in rules if rule.startswith("!")} == set().union(*copies)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_container_runs_as_nobody_and_writes_nothing(path):
    content = instructions(path)
    (base,) = [rest for keyword, rest in content if keyword == "FROM"]
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", base), base  # a full version
    assert all("==" in rest for keyword, rest in content if keyword == "ARG" and rest.startswith("ENGINE"))
    keywords = [keyword for keyword, _ in content]
    user = dict(content)["USER"]
    assert keywords.count("USER") == 1 and int(user) >= 10_000
    assert set(keywords[keywords.index("USER") :]) <= {
        "USER",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "STOPSIGNAL",
        "ENTRYPOINT",
    }
    assert not {"ADD", "VOLUME"} & set(keywords) and "PPDET_TOKEN" not in str(content)
    command = path.read_text().partition("FROM")[0].replace("\\\n#  ", "")
    assert all(option in command for option in READ_ONLY) and ":/model:ro" in command
    entry = json.loads(dict(content)["ENTRYPOINT"])
    arguments = parse_arguments(entry[3:])
    assert entry[:3] == ["python", "-m", "ppdet.deploy.serve"] and arguments.port == int(dict(content)["EXPOSE"])


def test_the_health_check_tells_ready_from_not():
    (check,) = map(json.loads, {dict(instructions(path))["HEALTHCHECK"].partition("CMD ")[2] for path in RECIPES})
    assert check[:2] == ["python", "-c"]
    answers, ends = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answers[-1] if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        code = check[2].replace("8080", str(server.server_port))
        for status in (200, 503):
            answers.append(status)
            ends.append(subprocess.run([sys.executable, "-c", code], timeout=PATIENCE).returncode)
        server.shutdown()
    assert ends == [0, 1]


def test_the_unit_keeps_the_service_in():
    text = (FOLDER / "ppdet-serve.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    yes = ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictNamespaces")
    assert all(settings[name] == "yes" for name in yes)
    assert settings["CapabilityBoundingSet"] == "" and settings["ProtectSystem"] == "strict"
    assert settings["KillMode"] == "mixed"  # the server ends its own processes, when they have done their work
    arguments = parse_arguments(settings["ExecStart"].split()[3:])
    assert int(settings["TimeoutStopSec"]) > arguments.timeout_s + 5
    needed = (arguments.max_connections or Settings.max_connections) + 256 + 128
    assert int(settings["LimitNOFILE"]) > needed and "MemoryMax" in settings
    assert int(settings["TasksMax"]) >= 4096
