"""The documents: links, commands, options, modules, files and tests that they name exist."""

import re
from pathlib import Path

import pytest
from conftest import Run

ROOT = Path(__file__).parents[1]
PATHS = [
    *ROOT.glob("*.md"),
    *(path for top in ("docs", "benchmarks", "jaxzero") for path in (ROOT / top).rglob("*.md")),
]
HISTORY = [path for path in PATHS if path.name == "CHANGELOG.md" or path.parent.name == "experiments"]
CURRENT = [path for path in PATHS if path not in HISTORY]
PLACES = re.compile(r"(jaxzero|envs|tests|benchmarks|configs|docs|results)/[\w/.]*\w/?")
MODULE = re.compile(r"\b(?:jaxzero|envs|benchmarks)(?:\.(?!js\b)[A-Za-z_]\w*)+")
FIELD = re.compile(r"^    (\w+): ", re.MULTILINE)


def of(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


def test_there_is_something_to_check():
    assert {"README.md", "EXPERIMENTS.md", "CONTRIBUTING.md", "training.md"} <= {path.name for path in CURRENT}
    assert len(HISTORY) > 10


def slugs(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@of(PATHS)
def test_links_lead_somewhere(path: Path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        other = path.parent / file if file else path
        assert other.exists(), target
        assert not anchor or anchor in slugs(other), target


@of(CURRENT)
def test_files_and_modules_exist(path: Path):
    text = path.read_text()
    for span in re.findall(r"`([^`\n]+)`", text):
        if PLACES.fullmatch(span) and "/my_" not in span:
            place = ROOT / "benchmarks" if span.startswith("results/") else ROOT
            assert (place / span).exists(), span
    for name in set(MODULE.findall(text)):
        assert module_or_name(name), name


def module_or_name(dotted: str) -> bool:
    """Whether `a.b.c` is a module, or one with a name behind it that its file contains."""
    place, parts = ROOT, dotted.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    is_file = bool(parts) and (place / f"{parts[0]}.py").exists()
    file = place / (f"{parts[0]}.py" if is_file else "__init__.py")
    names = parts[is_file:]
    return not names or (file.exists() and re.search(rf"\b{names[0]}\b", file.read_text()) is not None)


def calls() -> list[list[str]]:
    """The words of every call of `jaxzero` in a block of commands."""
    blocks = [block for path in CURRENT for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)]
    lines = [line.split("#")[0].split() for block in blocks for line in block.splitlines()]
    return [line[line.index("jaxzero") + 1 :] for line in lines if "jaxzero" in line]


def test_commands_and_their_options_exist(run: Run):
    commands = {words[0] for words in calls()}
    assert len(commands) > 8
    source = "\n".join(path.read_text() for path in (ROOT / "jaxzero").rglob("*.py"))
    fields = set(FIELD.findall(source))
    for command in commands:
        status, text, _ = run(command, "--help")
        assert status == 0, command
        for words in calls():
            for option in (word for word in words if words[0] == command and word.startswith("--")):
                name = option.removeprefix("--no-").removeprefix("--").split(".")[-1].replace("-", "_")
                assert option in text or name in fields, f"{command} {option}"


def test_presets_exist():
    words = {word for line in calls() if line[0] == "train" for word in line[1:2] if not word.startswith("--")}
    assert words
    for name in words:
        assert (ROOT / "configs" / f"{name}.toml").exists(), name


def test_robustness_names_tests_that_exist():
    text = (ROOT / "docs" / "robustness.md").read_text()
    files = re.findall(r"`(test_\w+\.py)`((?:(?!`test_\w+\.py`)[^\n])*)", text)
    assert len(files) > 20
    for file, names in files:
        source = (ROOT / "tests" / file).read_text()
        for name in re.findall(r"`(test_\w+)`", names):
            assert f"def {name}(" in source, f"{file}: {name}"
