"""`jaxzero runs`, `resume` and `compare`, on folders written by hand."""

import fcntl
import json
from pathlib import Path

import fabricated
import pytest
from conftest import Run

from jaxzero.config import settings
from jaxzero.config.resume import with_settings_of_run
from jaxzero.config.schema import Config
from jaxzero.runs import folder as folder_lib
from jaxzero.runs import listing


@pytest.fixture
def begun(tmp_path: Path) -> Config:
    """A run of a preset whose learning rate and length were given."""
    given = {"root": str(tmp_path / "runs"), "learner.lr": "0.01", "iterations": "7"}
    config = settings.resolve("tic_tac_toe_test", given, {})
    folder = folder_lib.folder_of(config)
    folder.mkdir(parents=True)
    folder_lib.record(folder, config, [], 0)
    return config


def test_a_preset_leaves_the_settings_of_the_run_that_is_there(begun: Config):
    given = {"root": begun.root}
    plain = settings.resolve("tic_tac_toe_test", given, {})
    assert plain != begun
    config, own = with_settings_of_run(plain, "tic_tac_toe_test", given, {})
    assert config == begun
    assert own == ["iterations 7", "learner.lr 0.01"]


def test_what_is_given_stays(begun: Config):
    given = {"root": begun.root, "iterations": "9"}
    environ = {"JAXZERO_LEARNER_LR": "0.02"}
    config, own = with_settings_of_run(
        settings.resolve("tic_tac_toe_test", given, environ), "tic_tac_toe_test", given, environ
    )
    assert (config.iterations, config.learner.lr, own) == (9, 0.02, [])
    given = {"root": begun.root, "learner.lr": "0.5"}
    config, own = with_settings_of_run(settings.resolve("tic_tac_toe_test", given, {}), "tic_tac_toe_test", given, {})
    assert (config.iterations, config.learner.lr, own) == (7, 0.5, ["iterations 7"])


@pytest.mark.parametrize("preset", ["connect_four_test", "tic_tac_toe_muzero"])
def test_another_preset_is_not_mixed_in(begun: Config, preset: str):
    """Its game or network cannot become the run's, which the check of a resume then says."""
    given = {"root": begun.root, "name": begun.name}
    plain = settings.resolve(preset, given, {})
    assert with_settings_of_run(plain, preset, given, {}) == (plain, [])


def test_resume_goes_on_with_the_settings_of_the_run(run: Run, begun: Config):
    status, out, error = run("resume", begun.name, "--dry-run", "--iterations", "11")
    assert (status, error) == (0, "")
    assert "iterations = 11\n" in out
    assert "lr = 0.01\n" in out
    assert run("resume", f"{begun.root}/{begun.name}", "--dry-run")[1].startswith(f'name = "{begun.name}"')
    status, _, error = run("resume", "nothing")
    assert (status, error.startswith("error: nothing: no run there")) == (2, True)


def test_runs_are_listed(run: Run, tmp_path: Path, begun: Config):
    fabricated.run_folder(tmp_path / "runs" / "trained")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.toml").write_text("[network")
    (tmp_path / "runs" / "no run").mkdir()
    lines = {line.run: line for line in listing.listed(tmp_path / "runs")}
    assert set(lines) == {"tic_tac_toe_test", "trained", "broken"}
    assert (lines["trained"].iterations, lines["trained"].time) == ("40/50", "0:01:20")
    assert lines["trained"].scores == "random 80%"
    assert (lines["tic_tac_toe_test"].game, lines["tic_tac_toe_test"].iterations) == ("tic_tac_toe", "0/7")
    assert "not valid TOML" in lines["broken"].scores
    status, out, error = run("runs")
    assert (status, error, "40/50" in out) == (0, "", True)
    assert run("runs", "nowhere") == (0, "nowhere: no runs there\n", "")


def test_a_run_that_trains_is_marked(tmp_path: Path):
    config = fabricated.run_folder(tmp_path / "run")
    folder = folder_lib.folder_of(config)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert listing.line(folder).iterations == "40/50 training"
    assert listing.line(folder).iterations == "40/50"


def test_compare(run: Run, tmp_path: Path):
    for number, name in enumerate(("first", "second")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text("")
        rows = [{"iteration": i, "seconds": 60.0 * i, "games": 10 * i, "eval/random/score": number / i} for i in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("compare", "first", "second") == (0, "comparison.png\n", "")
    before = (tmp_path / "comparison.png").read_bytes()
    for words, message in (
        (("first",), "compare: name two runs or more"),
        (("first", "third"), "third: no run there"),
        (("first", "runs/first"), "of different names"),
        (("first", "second", "--key", "gams"), "--key: 'gams' is in none of these runs; did you mean 'games'?"),
        (("first", "second"), "--file: comparison.png exists; choose another name or give --overwrite"),
    ):
        status, out, error = run("compare", *words)
        assert (status, out, error.count("\n")) == (2, "", 1)
        assert message in error
    assert (tmp_path / "comparison.png").read_bytes() == before
    assert run("compare", "first", "second", "--key", "games", "--overwrite") == (0, "comparison.png\n", "")
    assert (tmp_path / "comparison.png").read_bytes() != before
