"""The documents as a whole: links lead somewhere, the index is complete, and what is said twice is said alike."""

import re
import tomllib

import pytest
import yaml

from events.tests.support.service import PROJECT_DIR

DOCUMENTS = sorted(
    path.relative_to(PROJECT_DIR)
    for path in [*PROJECT_DIR.glob("*.md"), *PROJECT_DIR.glob("docs/**/*.md"), PROJECT_DIR / "benchmarks/README.md"]
)
CODE_BLOCK = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def text_of(path):
    return CODE_BLOCK.sub("", (PROJECT_DIR / path).read_text())


def anchors_of(path):
    """How GitHub names the headings: in lower case, without punctuation, and with a dash for each blank."""
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", text_of(path), re.MULTILINE)}  # fmt: skip


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_links_lead_somewhere(path):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text_of(path)) if not re.match(r"https?:", link)]

    for link in links:
        file, _, anchor = link.partition("#")
        target = (PROJECT_DIR / path.parent / file).resolve() if file else PROJECT_DIR / path
        assert target.is_file(), link
        assert not anchor or anchor in anchors_of(target.relative_to(PROJECT_DIR)), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_tables_have_rows_and_each_as_many_cells_as_the_head(path):
    tables = re.findall(r"^(?:\|.*\n)+", text_of(path) + "\n", re.MULTILINE)

    for table in tables:
        head, rule, *rows = table.splitlines()
        assert re.fullmatch(r"[-:| ]+", rule), head
        assert rows, head
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in [rule, *rows]} == {head.count("|")}, head


def test_the_index_has_every_document():
    index = PROJECT_DIR / "docs/README.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"^- .*?\]\(([^)#]+)\)", index.read_text(), re.MULTILINE)}  # fmt: skip
    documents = {PROJECT_DIR / path for path in DOCUMENTS} - {index, PROJECT_DIR / "README.md"}

    assert len(documents) > 20
    assert documents - linked == set()


def test_readme_leads_to_the_index_and_to_how_to_contribute():
    assert {"docs/README.md", "docs/architecture.md", "CONTRIBUTING.md"} <= set(
        re.findall(r"\]\(([^)]+)\)", text_of("README.md"))
    )


@pytest.mark.parametrize("path", sorted(PROJECT_DIR.glob("docs/decisions/*.md")), ids=lambda path: path.stem)
def test_a_decision_has_a_context_and_consequences_and_is_short(path):
    lines = path.read_text().splitlines()

    assert [line for line in lines if line.startswith("#")][1:] == ["## Context", "## Decision", "## Consequences"]
    assert re.fullmatch(r"\d\d-[a-z0-9-]+", path.stem)
    assert len(lines) < 35


def test_the_changelog_is_kept():
    """As keepachangelog.com has it: what is not released first, then versions, the newest of which is the project's."""
    text = text_of("CHANGELOG.md")
    version = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text())["project"]["version"]
    first, *released = re.findall(r"^## (.*)$", text, re.MULTILINE)

    assert first == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", each) for each in released)
    assert released[0].startswith(f"[{version}]") if released else f"`pyproject.toml` says {version}" in text
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security",
    }  # fmt: skip


def test_the_hooks_run_what_the_script_runs():
    [repository] = yaml.safe_load((PROJECT_DIR / ".pre-commit-config.yaml").read_text())["repos"]
    commands = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]

    assert [hook["language"] for hook in repository["hooks"]] == ["system"] * len(commands)
    script = (PROJECT_DIR / "script/test").read_text().splitlines()
    checks = [line for line in script if re.match(r"ruff|mypy|codespell|lint-imports", line)]
    assert [line.removesuffix(' >"$types_output" 2>&1 &') for line in checks] == commands


def test_ruff_reads_every_program_without_a_suffix():
    programs = {
        str(path.relative_to(PROJECT_DIR))
        for folder in ("benchmarks", "script")
        for path in (PROJECT_DIR / folder).iterdir()
        if path.is_file() and not path.suffix and "python" in path.read_text().partition("\n")[0]
    }

    assert (
        set(tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text())["tool"]["ruff"]["extend-include"]) == programs
    )


def test_the_layers_are_those_of_import_linter():
    contracts = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    text = (PROJECT_DIR / "docs/architecture.md").read_text().partition("## Layers")[2]
    written = re.search(r"```\n(.*?)```", text, re.DOTALL)[1].replace("management commands", "management")

    assert [set(re.findall(r"\w+", re.sub(r"\(.*\)", "", line))) for line in written.splitlines()] == [
        {"tracking_api"}, *(set(re.findall(r"\w+", layer)) for layer in layers)
    ]  # fmt: skip


def test_the_architecture_names_every_package():
    text = (PROJECT_DIR / "docs/architecture.md").read_text().partition("## Packages")[2].partition("## Tables")[0]
    packages = {path.parent.name for path in PROJECT_DIR.glob("events/*/__init__.py")} - {"tests", "migrations"}

    assert {name for name in packages if f"- `{name}/` " not in text} == {
        "management"
    }  # commands have a row in the table
