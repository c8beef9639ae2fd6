"""The command line, in process; `jaxzero.training.train` is replaced by a recorder, so nothing is compiled."""

import dataclasses
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from recorder import Recorder, asked

import envs
import jaxzero
import jaxzero.config.validation  # before the evaluation that it needs is replaced
import jaxzero.training
from jaxzero import compiled, interrupts
from jaxzero.cli import app
from jaxzero.config import catalog, settings
from jaxzero.config import presets as presets_lib
from jaxzero.config.values import toml
from jaxzero.messages import ConfigError

__all__ = ["asked"]  # a fixture of all tests here


def test_train(run: Run, asked: Recorder):
    status, text, error = run("train", "tic_tac_toe_test")
    assert (status, error) == (0, "")
    assert text.startswith("iteration 0/3 ")
    preset = settings.load(presets_lib.files()["tic_tac_toe_test"])
    assert asked.config == dataclasses.replace(preset, name="tic_tac_toe_test")
    assert asked.env == envs.make("tic_tac_toe")
    assert asked.options == {"allow_change": (), "from_step": None, "overwrite": False}
    assert asked.rows == 2


def test_train_options(run: Run, asked: Recorder):
    status, _, error = run(
        "train", "tic_tac_toe_test", "--search.simulations", "64", "--name", "mine", "--search.schedule", "8", "4",
        "--from-step", "12", "--overwrite", "--allow-change", "learner.lr", "search", "--export.no-final",
        "--network.dtype", "bfloat16", "--learner.lr", "1e-3", "--evaluation.opponents", "minimax:3", "--seed=7",
    )  # fmt: skip
    assert (status, error) == (0, "")
    config = asked.config
    assert config is not None
    assert (config.search.simulations, config.name, config.search.schedule) == (64, "mine", (8, 4))
    assert (config.export.final, config.network.dtype, config.learner.lr) == (False, "bfloat16", 1e-3)
    assert (config.evaluation.opponents, config.seed) == (("minimax:3",), 7)
    assert asked.options == {"allow_change": ["learner.lr", "search"], "from_step": 12, "overwrite": True}


def test_environment_between_preset_and_command_line(run: Run, asked: Recorder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAXZERO_SEARCH_SIMULATIONS", "7")
    monkeypatch.setenv("JAXZERO_LEARNER_BATCH", "64")
    run("train", "tic_tac_toe_test", "--learner.batch", "128")
    assert asked.config is not None
    assert (asked.config.search.simulations, asked.config.learner.batch) == (7, 128)


@pytest.mark.parametrize(("tokens", "message"), [
    (
        ["tic_tac_toe_tset"],
        "unknown preset 'tic_tac_toe_tset', and no file ending in .toml; did you mean 'tic_tac_toe_test'?",
    ),
    (
        ["no.toml"],
        "no.toml: cannot be read (No such file or directory); give a preset's name or a TOML file",
    ),
    ([], 'Command "train" parameter PRESET requires an argument. Add --help for the list of options.'),
    (["tic_tac_toe_test", "b"], "nothing here takes 'b'; a switch has no value: --name turns it on, --no-name off"),
    (
        ["tic_tac_toe_test", "--search.simulatons", "3"],
        "there is no option --search.simulatons; use --search.simulations",
    ),
    (
        ["tic_tac_toe_test", "--network.channels", "3"],
        "network.channels (command line): mlp has no channels (resnet, muzero_conv have); leave it out, or set "
        'network.kind = "resnet"',
    ),
    (
        ["tic_tac_toe_test", "--learner.reuse", "3"],
        "--learner.reuse: learner.reuse is now called learner.replay_ratio; use that name",
    ),
    (
        ["tic_tac_toe_test", "--search.reuse"],
        "--search.reuse: search.reuse is now called search.reuse_tree; use that name",
    ),
    (
        ["tic_tac_toe_test", "--search.simulations"],
        'Command "train" parameter --search.simulations requires an argument. Add --help for the list of options.',
    ),
    (
        ["tic_tac_toe_test", "--search.simulations", "2.5"],
        "search.simulations (command line): expected a whole number, got '2.5'",
    ),
    (
        ["tic_tac_toe_test", "--learner.lr", "fast"],
        "learner.lr (command line): expected a number, got 'fast'",
    ),
    (
        ["tic_tac_toe_test", "--search.schedule", "64", "6.5"],
        "search.schedule (command line): expected a whole number, got '6.5'",
    ),
    (
        ["tic_tac_toe_test", "--network.dtype", "float33"],
        "network.dtype (command line): unknown value 'float33'; did you mean 'float32'? known: auto, float32, bfloat16",
    ),
    (
        ["tic_tac_toe_test", "--export.final=maybe"],
        'Invalid value for --export.final: unable to convert "maybe" into bool. '
        "Add --help for the list of options.",
    ),
    (
        ["tic_tac_toe_test", "--from-step", "2.5"],
        "Invalid value for --from-step: expected a whole number, got '2.5'. Add --help for the list of options.",
    ),
    (["tic_tac_toe_test", "--seed", "-1"], "seed (command line): must be from 0 to 4294967295, got -1"),
    (
        ["tic_tac_toe_test", "--name", "a/b"],
        "name: 'a/b' is not a folder name; give one without path separators, such as --name trial",
    ),
    (
        ["tic_tac_toe_test", "--game.name", "conect_four"],
        f"game: unknown game 'conect_four'; did you mean 'connect_four'? known: {', '.join(envs.GAMES)}",
    ),
    (
        ["tic_tac_toe_test", "--game.options.size", "3"],
        "game: game 'tic_tac_toe' has no option 'size'; it takes none",
    ),
    (
        ["tic_tac_toe_test", "--game", "conect_four"],
        f"game: unknown game 'conect_four'; did you mean 'connect_four'? known: {', '.join(envs.GAMES)}",
    ),
    (
        ["tic_tac_toe_test", "--game", "a.py:make", "--game.name", "connect_four"],
        "game.source: given together with game.name; give one of them",
    ),
])  # fmt: skip
def test_mistakes_are_one_line(run: Run, asked: Recorder, tokens: list[str], message: str):
    assert run("train", *tokens) == (2, "", f"error: {message}\n")
    assert asked.config is None


@pytest.mark.parametrize(("tokens", "message"), [
    (["train", "tic_tac_toe_test", "--allow-change", "nope"], "--allow-change nope: unknown field; see `jaxzero train"),
    (["train", "tic_tac_toe_test", "--from-step", "-1"], 'Invalid value for --from-step: must be from 0 to 1000000000'),
    (["train", "tic_tac_toe_test", "--seed", "٣"], "seed (command line): expected a whole number, got '٣'"),
    (["train", "tic_tac_toe_test", "--learner.lr=" + "9" * 400], "learner.lr (command line): must be from 1e-30 to "),
    (["train", "tic_tac_toe_test", "--seed=" + "9" * 10_000], "seed (command line): expected a whole number, got '999"),
    (["train", "tic_tac_toe_test", "--game.options.size", "inf"], "game.options (command line): size: must be from"),
    (["match", "random", "random", "--game", "hex", "--games", "1000000000000"], "Invalid value for --games: must be"),
    (["report", "trial", "--games", "-1"], "Invalid value for --games: must be from 0 to 1000, got -1"),
])  # fmt: skip
def test_giant_and_odd_values_are_refused_in_a_short_line(run: Run, tokens: list[str], message: str):
    status, out, error = run(*tokens)
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"error: {message}")
    assert len(error) < 300
    assert not Path("runs").exists()


def test_unknown_command(run: Run):
    status, _, error = run("trian")
    assert status == 2
    assert error.startswith('error: Unknown command "trian". Did you mean "train"?')
    assert error.count("\n") == 1


def test_multiline_errors_become_one_line(run: Run, tmp_path: Path):
    (tmp_path / "bad.toml").write_text('name = "a\nb"')
    status, _, error = run("train", "bad.toml")
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith("error: bad.toml: not valid TOML: ")


def test_errors_of_a_run_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any):
        raise ConfigError("name: the run exists;\n  use --overwrite")
        yield

    monkeypatch.setattr(sys.modules["jaxzero.training.train"], "run", refuse)
    assert run("train", "tic_tac_toe_test") == (2, "", "error: name: the run exists; use --overwrite\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_is_no_success(run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals):
    def stopped(*_: Any, **__: Any):
        with interrupts.Interrupt() as interrupt:
            interrupt.unsaved, interrupt.outlook = "iteration 1", lambda: "saved up to iteration 1"
            os.kill(os.getpid(), number)
            logging.getLogger("jaxzero").warning("what run.log gets")
            yield {"iteration": 1}

    monkeypatch.setattr(sys.modules["jaxzero.training.train"], "run", stopped)
    status, out, error = run("train", "tic_tac_toe_test")
    assert (status, error) == (128 + number, "interrupted: saved up to iteration 1\n")
    assert out.startswith("iteration 1/3 ")


def test_a_command_that_is_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(presets_lib, "files", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run("presets") == (143, "", "interrupted\n")


def test_long_help_lists_every_setting_of_every_kind(run: Run):
    status, text, _ = run("train", "--help-all")
    assert status == 0
    lines = "".join(text.replace("│", " ").split())
    assert "(resnet,muzero_conv)Channelsofthetrunk" in lines
    for name, field in catalog.every().items():
        assert f"--{name}" in lines, name
        assert "".join(field.help.split()) in lines, name
        if field.hint is not bool:
            assert "".join(f"[default:{toml(field.default)}]".split()) in lines, name
    order = [text.index(f"─ {section} ─") for section in ("run", *catalog.sections())]
    assert order == sorted(order)


def test_short_help_is_that_of_the_presets_kinds(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, text, _ = run("train", "tic_tac_toe_fast", "--help")
    assert status == 0
    preset = settings.resolve("tic_tac_toe_fast", {}, {})
    common = {name for name, field in catalog.fields(preset).items() if field.common}
    assert {name for name in catalog.every() if f"│ --{name} " in text} == common >= {"network.sizes", "learner.lr"}
    assert len(text.splitlines()) < 80
    assert text.index("─ network ─") < text.index("─ search ─") < text.index("─ run ─")
    assert f"Peak learning rate. [default: {preset.learner.lr}]" in text
    assert "--help-all" in text.splitlines()[-1]

    for tokens in (["--network.kind", "resnet"], ["--network.kind=resnet"]):
        text = run("train", "tic_tac_toe_fast", *tokens, "--help")[1]
        assert ("--network.channels " in text, "--network.sizes " in text) == (True, False)
    assert "--network.dropout " in run("train", "tic_tac_toe_fast", "--help-all")[1]
    assert run("train", "tic_tac_to_fast", "--help")[2].startswith("error: unknown preset 'tic_tac_to_fast', and")


def test_dry_run(run: Run, asked: Recorder, tmp_path: Path):
    status, text, error = run("train", "tic_tac_toe_test", "--dry-run", "--seed", "5")
    assert (status, error, asked.config) == (0, "", None)
    path = tmp_path / "shown.toml"
    path.write_text(text)
    assert settings.load(path) == settings.resolve("tic_tac_toe_test", {"seed": "5"}, {})
    # 18·16 + 16 in the trunk, 16·9 + 9 policy, 16·1 + 1 value
    assert text.splitlines()[-5:-2] == [
        "# parameters: 474",
        "# params: 1.000 MB",
        "# replay: 4.000 MB",
    ]
    assert text.splitlines()[-2].startswith("# checkpoint: 5.000 MB with replay and games, 1.000 MB without; ")
    assert text.splitlines()[-1].startswith("# needs at least 0.00 GB of memory (network 0.00 GB, replay 0.00 GB, ")


def test_version(run: Run):
    assert run("--version") == (0, f"{jaxzero.__version__}\n", "")


def test_help_and_version_import_no_jax():
    script = "import sys; from jaxzero.cli import app; app.main(sys.argv[1:]); print('jax' in sys.modules)"
    for word, shown in (("--help", "Train, or resume the run"), ("--version", jaxzero.__version__)):
        done = subprocess.run([sys.executable, "-c", script, word], capture_output=True, text=True, check=True)
        assert shown in done.stdout
        assert done.stdout.endswith("\nFalse\n")


@pytest.mark.parametrize("name", [name for commands in app.COMMANDS.values() for name in commands])
def test_help_of_each_command(run: Run, name: str):
    status, text, error = run(name, "--help")
    assert (status, error) == (0, "")
    assert text.startswith(f"Usage: jaxzero {name}")
    assert ("--no-compile-cache" in text) == (name not in ("presets", "runs", "compare", "data"))


def test_compile_cache(run: Run, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(compiled, "keep", lambda: asked.append("keep"))
    assert run("train", "tic_tac_toe_test", "--no-compile-cache")[0] == 0
    assert not asked
    assert run("train", "tic_tac_toe_test")[0] == 0
    assert asked == ["keep"]


def test_presets(run: Run):
    status, text, _ = run("presets")
    assert status == 0
    for name, path in presets_lib.files().items():
        [line] = [line for line in text.splitlines() if f" {name} " in line]
        assert f" {settings.load(path).game.name} " in line
        assert presets_lib.header(path)["strength"] in line


# Export


def test_export(run: Run, asked: Recorder, tmp_path: Path):
    folder = tmp_path / "runs" / "trial"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("")
    assert run("export", str(folder), "--step", "3") == (0, f"{folder}/exports/3.pt\n", "")
    assert run("export", "trial") == (0, "runs/trial/exports/None.pt\n", "")
    assert asked.options == {"half": False, "int8": False, "licence": "", "promoted": False, "overwrite": False}
    status, out, _ = run("export", "trial", "--format", "onnx", "pt2", "--half", "--licence", "MIT")
    assert (status, out) == (0, "runs/trial/exports/None.onnx\nruns/trial/exports/None.pt2\n")
    assert asked.options == {"half": True, "int8": False, "licence": "MIT", "promoted": False, "overwrite": False}


def test_export_errors(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert run("export", "trial") == (2, "", "error: trial: no run there or in runs (no config.toml); none yet\n")
    (tmp_path / "elsewhere" / "trial").mkdir(parents=True)
    (tmp_path / "elsewhere" / "trial" / "config.toml").write_text("")
    monkeypatch.setenv("JAXZERO_ROOT", "elsewhere")
    assert run("export", "trail") == (
        2, "", "error: trail: no run there or in elsewhere (no config.toml); did you mean 'trial'? known: trial\n",
    )  # fmt: skip
