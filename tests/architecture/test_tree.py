"""The tree as a whole: what is generated is fresh, promises are documented, nothing names a machine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.architecture import source

ROOT = source.ROOT
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def names_of(requirements: list[str]) -> set[str]:
    return {
        re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0].lower().replace("_", "-") for each in requirements
    }


def pinned() -> set[str]:
    return set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def test_the_generated_stubs_are_those_of_the_proto_files() -> None:
    done = run("deploy/setup/proto", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_line_page_shows_the_flags_there_are() -> None:
    done = run(sys.executable, "deploy/setup/cli_reference.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_explains_every_make_target() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    readme = (ROOT / "README.md").read_text()
    assert {"demo", "demo-down", "test", "check", "bench", "proto", "setup"} <= set(targets)
    assert [target for target in targets if f"| `make {target}` |" not in readme] == []


def test_every_phony_target_says_what_it_does() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    explained = re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)
    assert sorted(phony[1].split()) == sorted(explained)


def test_constraints_pin_what_the_project_needs_by_hash_and_name_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text()
    wanted = project()
    needed = names_of([*wanted["project"]["dependencies"], *wanted["dependency-groups"]["dev"], "hatchling"])
    assert sorted(needed - pinned()) == []
    assert re.findall(r"://|^-|^/| @ ", text, re.MULTILINE) == []
    for pin in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in pin, pin


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    dead = [
        target for target in targets if "://" not in target and not (page.parent / target).resolve().exists()
    ]
    assert dead == []


def test_nothing_names_the_machine_it_was_written_on() -> None:
    here = str(ROOT)
    naming = []
    for path in source.files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if f"{here}/" in text or f"{here}\n" in text:
            naming.append(source.name(path))
    assert naming == []


def test_scripts_can_be_run() -> None:
    scripts = [
        path
        for path in source.files()
        if source.name(path).startswith((".ci/", "deploy/"))
        and path.suffix != ".py"
        and path.read_bytes().startswith(b"#!")
    ]
    assert ROOT / ".ci" / "run" in scripts
    assert [source.name(path) for path in scripts if not path.stat().st_mode & 0o111] == []


def test_the_unit_lets_containers_outlive_the_daemon() -> None:
    unit = (ROOT / "deploy" / "swarmd.service").read_text().splitlines()
    wanted = {
        "Type=notify", "Delegate=yes", "KillMode=process", "TasksMax=infinity", "OOMScoreAdjust=-500",
        "Restart=always",
    }  # fmt: skip
    assert sorted(wanted - set(unit)) == []


def test_the_sample_settings_are_the_defaults() -> None:
    from swarmd.daemon import config

    assert config.load(ROOT / "deploy" / "swarmd.toml") == config.Config()


def test_building_the_image_sends_what_the_dockerfile_copies_and_nothing_else() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in patterns
    sent = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    assert sorted(sent) == sorted({name for names in copied for name in names.split()})


def test_a_node_in_a_container_has_no_more_power_than_the_pages_explain() -> None:
    compose = (ROOT / "docker-compose.test.yml").read_text()
    page = (ROOT / "docs" / "operations.md").read_text()
    assert "privileged:" not in compose
    added = re.search(r"cap_add: \[(.*)\]", compose)
    unconfined = re.search(r"security_opt: \[(.*)\]", compose)
    assert added is not None
    assert unconfined is not None
    given = re.findall(r"[\w:]+", f"{added[1]} {unconfined[1]}")
    assert given
    assert [each for each in given if f"`{each}`" not in page] == []
