"""Validation, layers of settings, TOML, resume rules, presets."""

import dataclasses
import os
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

import envs
import jaxzero
from jaxzero import hardware, networks, search
from jaxzero.config import catalog, settings
from jaxzero.config import presets as presets_lib
from jaxzero.config.fields import Field, Range
from jaxzero.config.resume import check_resume
from jaxzero.config.schema import Config, ConfigError, GameConfig
from jaxzero.config.validation import validate
from jaxzero.config.values import ENTRIES
from jaxzero.networks import NETWORKS, MlpConfig, MuZeroConvConfig, NetworkConfig, ResNetConfig
from jaxzero.runs import folder as folder_lib
from jaxzero.search import SEARCHES, SearchConfig
from jaxzero.training import footprint, iteration, optimizers
from jaxzero.training.optimizers import OPTIMIZERS, OptimizerConfig

TIC_TAC_TOE = envs.make("tic_tac_toe")


def change(config: Config, **values: Any) -> Config:
    """`config` with dotted fields (dots written `__`) replaced."""
    return catalog.with_values(config, {key.replace("__", "."): value for key, value in values.items()})


VALID = change(Config(name="trial"), evaluation__opponents=())


@dataclasses.dataclass(frozen=True)
class OddGame(envs.Env):
    name = "odd"
    num_actions = 2
    num_players: int = 2
    observation_shape: tuple[int, ...] = (4,)
    max_plies: int = 9
    max_legal = 2
    num_outcomes: int = 0


def test_valid_configuration():
    validate(VALID, TIC_TAC_TOE, 4)


@pytest.mark.parametrize(("values", "message"), [
    ({"name": ""}, "name: '' is not a folder name; give one without path separators, such as --name trial"),
    ({"name": "a/b"}, "name: 'a/b' is not a folder name; give one without path separators, such as --name trial"),
    ({"name": "a\\b"}, r"name: 'a\\b' is not a folder name; give one without path separators, such as --name trial"),
    ({"name": ".."}, "name: '..' is not a folder name; give one without path separators, such as --name trial"),
    ({"iterations": 0}, "iterations: must be from 1 to 1000000000, got 0"),
    ({"devices": -1}, "devices: must be from 0 to 4096, got -1"),
    ({"seed": 2**32}, "seed: must be from 0 to 4294967295, got 4294967296"),
    ({"search__simulations": -4}, "search.simulations: must be from 1 to 32766, got -4"),
    ({"search__schedule": (8, 0)}, "search.schedule: must be from 1 to 32766, got 0"),
    ({"learner__lr": 0.0}, "learner.lr: must be from 1e-30 to 100, got 0.0"),
    ({"learner__lr": float("inf")}, "learner.lr: must be from 1e-30 to 100, got inf"),
    ({"learner__clip": float("nan")}, "learner.clip: must be 0, or from 1e-06 to 1000000, got nan"),
    ({"learner__td_lambda": 1.5}, "learner.td_lambda: must be from 0 to 1, got 1.5"),
    ({"search__epsilon": -0.1}, "search.epsilon: must be from 0 to 1, got -0.1"),
    ({"learner__ema": 1.0}, "learner.ema: must be from 0 to 0.999999, got 1.0"),
    (
        {"network__kind": "muzero_mlp", "search__reuse_tree": True},
        "search.reuse_tree: a subtree of a learned model holds illegal moves; leave it out",
    ),
    (
        {"network__kind": "muzero_mlp", "learner__consistency_weight": 1.0},
        "learner.consistency_weight: latent states are compared in a projection; set network.projection too, such as "
        "128, or leave it out",
    ),
    (
        {"network__kind": "muzero_conv", "network__codes": 8, "search__engine": "mctx"},
        'network.codes: chance outcomes need search.engine = "tree"; set it, or leave them out',
    ),
    (
        {"learner__reanalyse": 0.5, "learner__td_steps": 5},
        "learner.reanalyse: renews λ-returns only; set learner.td_steps = 0, or leave it out",
    ),
    (
        {"network__value": "categorical"},
        "learner.value_loss: 'mse' does not fit network.value = 'categorical'; set both to \"categorical\", or neither",
    ),
    (
        {"search__engine": "mctx", "search__rounds": True},
        'search.rounds: stock mctx cannot do this; set search.engine = "tree", or leave it out',
    ),
    ({"search__slots": -1}, "search.slots: must be from 0 to 65536, got -1"),
    (
        {"network__kind": "mlp", "network__sizes": ()},
        "network.sizes: mlp needs one or more sizes, got []",
    ),
    (
        {"network__kind": "mlp", "network__sizes": (8, 0)},
        "network.sizes: must be from 1 to 65536, got 0",
    ),
    (
        {"learner__value_loss": "wdl"},
        "learner.value_loss: 'wdl' does not fit network.value = 'scalar'; set both to \"wdl\", or neither",
    ),
    (
        {"network__value": "wdl"},
        "learner.value_loss: 'mse' does not fit network.value = 'wdl'; set both to \"wdl\", or neither",
    ),
    ({"devices": 8}, "devices: 8 asked for, 4 here; 0 uses all"),
    (
        {"devices": 4, "selfplay__games": 254},
        "selfplay.games: 254 cannot be divided over 4 devices; use 256, or set devices",
    ),
    (
        {"learner__batch": 100, "devices": 3, "selfplay__games": 3},
        "learner.batch: 100 cannot be divided over 3 devices; use 102, or set devices",
    ),
    (
        {"selfplay__opening_plies": 9},
        "selfplay.opening_plies: 9 random plies leave nothing to play; tic_tac_toe ends after 9",
    ),
    (
        {"replay__capacity": 16_383, "replay__window": 100},
        "replay.capacity: 16383 positions cannot hold 256 games of 9 plies and an iteration's 32; use at least 16384",
    ),
    ({"replay__window": 200_000}, "replay.window: 200000 is more than replay.capacity = 100000"),
    ({"learner__batch": 200_000}, "learner.batch: 200000 is more than replay.capacity = 100000"),
    (
        {"evaluation__opening_plies": 100, "evaluation__opponents": ("random",)},
        "evaluation.opening_plies: 100 random plies leave nothing to play; tic_tac_toe ends after 9",
    ),
    (
        {"promotion__opening_plies": 9, "promotion__rule": "sprt"},
        "promotion.opening_plies: 9 random plies leave nothing to play; tic_tac_toe ends after 9",
    ),
    ({"network__blocks": 100_000}, "network.blocks: must be from 1 to 64, got 100000"),
    ({"network__support": 10**9}, "network.support: must be from 1 to 10000, got 1000000000"),
    ({"learner__replay_ratio": 1e300}, "learner.replay_ratio: must be from 1e-06 to 10000, got 1e+300"),
    ({"search__max_depth": 2**31}, "search.max_depth: must be from 0 to 1000000, got 2147483648"),
    ({"search__temperature": 1e-40}, "search.temperature: must be 0, or from 0.001 to 100, got 1e-40"),
    (
        {"iterations": 1_000_000, "learner__batch": 4},
        "iterations: 1000000 of 8192 updates are more than can be counted; use at most 262143, or fewer updates",
    ),
    (
        {"evaluation__simulations": 32_767},
        "evaluation.simulations: must be from 1 to 32766, got 32767",
    ),
    (
        {"search__kind": "minimax", "search__widths": (9,) * 6},
        "search.widths: [9, 9, 9, 9, 9, 9] look at 531441 positions a move, and 32768 are the most; use fewer or "
        "smaller ones",
    ),
    ({"search__schedule": (1,) * 33}, "search.schedule: no more than 32 fit into a list, got 33"),
    ({"network__norm": "bath"}, "network.norm: unknown value 'bath'; did you mean 'batch'? known: batch, none"),
    ({"iterations": "5"}, "iterations: expected a whole number, got '5'"),
    ({"name": "-x"}, "name: '-x' is not a folder name; give one without path separators, such as --name trial"),
    ({"name": "a\nb"}, r"name: must be at most 1000 characters, none of them for control, got 'a\nb'"),
    ({"name": "ä" * 101}, "name: 202 bytes are too many for a folder; give a shorter one"),
    ({"root": "a/" + "b" * 256}, "root: 258 bytes are too many for a folder; give a shorter one"),
    ({"root": "\udc80"}, r"root: must be at most 1000 characters, none of them for control, got '\udc80'"),
    ({"evaluation__games": 3}, "evaluation.games: must be even (half from each side), got 3"),
])  # fmt: skip
def test_validate_names_the_field(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as raised:
        validate(change(VALID, **values), TIC_TAC_TOE, 4)
    assert str(raised.value) == message


def test_simulations_grow_in_equal_parts_of_the_run():
    config = change(VALID, iterations=7, search__schedule=(2, 4, 8))
    assert [config.simulations(done) for done in range(9)] == [2, 2, 2, 4, 4, 8, 8, 8, 8]
    assert VALID.simulations(0) == VALID.simulations(99) == VALID.search.simulations


@pytest.mark.parametrize(("env", "values", "message"), [
    (OddGame(num_players=3), {}, "game: odd has 3 players; games of 1 or 2 players can be trained"),
    (
        envs.make("ur"),
        {"network__kind": "mlp", "search__engine": "mctx"},
        "search.engine: stock mctx cannot search ur, a game with chance; use tree",
    ),
    (
        envs.make("ur"),
        {"network__kind": "mlp", "replay__capacity": 200_000, "evaluation__exhaustive": True},
        "evaluation.exhaustive: ur has chance; set it to false",
    ),
    (
        OddGame(),
        {},
        "network.kind: resnet needs observations [rows, columns, planes], odd has shape (4,); "
        'use network.kind = "mlp"',
    ),
    (
        envs.make("connect_four"),
        {"evaluation__exhaustive": True},
        "evaluation.exhaustive: connect_four has too many lines of play; set it to false",
    ),
])  # fmt: skip
def test_validate_knows_the_game(env: envs.Env, values: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as raised:
        validate(change(VALID, **values), env, 4)
    assert str(raised.value) == message


@pytest.mark.parametrize("values", [
    {"evaluation__exhaustive": True},
    {"network__value": "wdl", "learner__value_loss": "wdl"},
    {"replay__capacity": 16_384, "replay__window": 100},
    {"selfplay__games": 254, "devices": 2},
])  # fmt: skip
def test_validate_accepts(values: dict[str, Any]):
    validate(change(VALID, **values), TIC_TAC_TOE, 4)


def test_smallest_capacity_is_exact():
    """The capacity that the message names passes, one less does not, whatever the plies."""
    for plies in (1, 5, 9, 10, 11, 32):
        sizes = {"selfplay__games": 4, "learner__batch": 4, "replay__capacity": 4, "replay__window": 1}
        config = change(VALID, selfplay__plies=plies, **sizes)
        with pytest.raises(ConfigError) as raised:
            validate(config, TIC_TAC_TOE, 4)
        smallest = int(str(raised.value).rpartition(" ")[2])
        validate(change(config, replay__capacity=smallest), TIC_TAC_TOE, 4)
        with pytest.raises(ConfigError):
            validate(change(config, replay__capacity=smallest - 1), TIC_TAC_TOE, 4)


def test_every_number_has_a_range():
    """And its default lies in it."""
    numbers = (int, float, tuple[int, ...])
    fields = {name: field for name, field in catalog.fields().items() if field.hint in numbers}
    assert [name for name, field in fields.items() if field.range is None] == []
    values = {
        name: field.default if isinstance(field.default, tuple) else [field.default] for name, field in fields.items()
    }
    assert [name for name, field in fields.items() if any(x not in field.range for x in values[name])] == []


def test_opponents_are_checked():
    validate(change(VALID, evaluation__opponents=("random", "minimax:2")), TIC_TAC_TOE, 4)
    with pytest.raises(ConfigError, match=r"evaluation\.opponents: 'stockfish': no such player"):
        validate(change(VALID, evaluation__opponents=("random", "stockfish")), TIC_TAC_TOE, 4)


# The machine


def test_footprint_is_that_of_the_state():
    """Learner, replay and games as `iteration` lays them out; the tree on the back of an envelope."""
    config = change(VALID, devices=1, selfplay__games=8, learner__batch=8)
    parts = footprint.parts(config, TIC_TAC_TOE)
    learner, data = iteration.abstract_state(config, TIC_TAC_TOE)
    assert parts["network"] == footprint.size(learner)
    assert parts["replay"] == footprint.size(data["replay"])
    assert parts["games"] == footprint.size(data["games"].state)
    node = 13 + 4 * 9 + 4 * 14 + 2 * 9  # state (at least), priors, facts, children
    assert 17 * 8 * node <= parts["search"] <= 17 * 8 * 2 * node
    assert parts["batch"] == 8 * 18 * 4


@pytest.mark.parametrize(("values", "message"), [
    ({"replay__capacity": 10**9}, "replay.capacity: this run needs at least "),
    ({"network__kind": "mlp", "network__sizes": (65_536,) * 8}, "network: this run needs at least "),
    ({"search__simulations": 30_000, "selfplay__games": 2**14, "replay__capacity": 10**7}, "selfplay.games: this run "),
])  # fmt: skip
def test_what_the_memory_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], message: str):
    monkeypatch.setattr(hardware, "device_memory", lambda: 24 * 10**9)
    with pytest.raises(ConfigError, match=r"of 24\.00 GB here; lower it$") as raised:
        validate(change(VALID, **values), TIC_TAC_TOE, 4)
    assert str(raised.value).startswith(message)


def test_what_the_disk_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(footprint, "free_disk", lambda folder: 1000)
    with pytest.raises(
        ConfigError, match=r"^root: a checkpoint of this network takes .* or more, and 0\.00 GB are free"
    ):
        validate(VALID, TIC_TAC_TOE, 4)


@pytest.mark.parametrize(("text", "message"), [
    ("network.blocks = 100000", "network.blocks (FILE): must be from 1 to 64, got 100000"),
    ('network.kind = "nope"', "network.kind (FILE): unknown value 'nope'; known: resnet, mlp, "),
    ('search.kind = "nope"', "search.kind (FILE): unknown value 'nope'; known: gumbel, "),
    ('network.kind = "mlp"\nnetwork.sizes = []', "network.sizes: mlp needs one or more sizes, got []"),
])  # fmt: skip
def test_a_runs_own_settings_are_checked_when_it_is_loaded(tmp_path: Path, text: str, message: str):
    (tmp_path / folder_lib.CONFIG).write_text(text)
    with pytest.raises(ConfigError) as raised:
        folder_lib.load(tmp_path)
    assert str(raised.value).startswith(message.replace("FILE", str(tmp_path / folder_lib.CONFIG)))


# Files and types


@pytest.mark.parametrize(("text", "message"), [
    ('search.simulations = "64"', "search.simulations (FILE): expected a whole number, got '64'"),
    ("search.simulations = 2.5", "search.simulations (FILE): expected a whole number, got 2.5"),
    ("search.simulations = true", "search.simulations (FILE): expected a whole number, got True"),
    ("learner.lr = true", "learner.lr (FILE): expected a number, got True"),
    ('learner.lr = "0.1"', "learner.lr (FILE): expected a number, got '0.1'"),
    ("log.tensorboard = 1", "log.tensorboard (FILE): expected true or false, got 1"),
    ("name = 5", "name (FILE): expected text in quotes, got 5"),
    ("search.schedule = 64", "search.schedule (FILE): expected a list, each a whole number, got 64"),
    ("search.schedule = [64, 6.5]", "search.schedule (FILE): expected a whole number, got 6.5"),
    ('network.norm = "bath"', "network.norm (FILE): unknown value 'bath'; did you mean 'batch'? known: batch, none"),
    ("network.norm = [1]", "network.norm (FILE): unknown value [1]; known: batch, none"),
    ("game.options = 7", "game.options (FILE): expected a table of options, got 7"),
    (
        "game.options.size = {a = 1}",
        "game.options (FILE): size: expected a number, true, false, text or a list of them, got {'a': 1}",
    ),
    ("search = 5", "search (FILE): expected a table [search] of settings, got 5"),
    ("checkpoint.evry = 5", "FILE: unknown key 'checkpoint.evry'; did you mean 'every'? known: every, keep"),
    ("simulations = 5", "FILE: unknown key 'simulations'; did you mean 'search.simulations'?"),
    ("[learner]\nlr = ", "FILE: not valid TOML: Invalid value (at end of document)"),
])  # fmt: skip
def test_file_errors(tmp_path: Path, text: str, message: str):
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        settings.load(path)
    assert str(raised.value) == message.replace("FILE", str(path))


def test_byte_order_mark(tmp_path: Path):
    path = tmp_path / "my.toml"
    path.write_bytes(b"\xef\xbb\xbfiterations = 7\r\n")
    assert settings.load(path).iterations == 7


@pytest.mark.parametrize(("content", "message"), [
    (b'name = "l\xe4uf"', "not valid TOML: byte 9 is not UTF-8; save it as UTF-8"),
    (b"a = " + b"[" * 5000, "not valid TOML: nested too deeply; no setting is"),
    (b".".join([b"a"] * 9000) + b" = 1", "not valid TOML: more than 200 dots in line 1"),
    (b"#" * 70_000, "not valid TOML: more than 65536 bytes"),
    (b"seed = " + b"9" * 10_000, "not valid TOML: Exceeds the limit (4300 digits)"),
    (b"learner.lr = 0x" + b"9" * 10_000, "must be from 1e-30 to 100, got a int too large to show"),
    (b"learner.lr = " + b"9" * 400, "must be from 1e-30 to 100, got 99"),
    (b"game.options.a = [[[[1]]]]", "a: expected a number, true, false, text or a list of them, got [1]"),
    (b"game.options.a = nan", "a: must be from -9223372036854775808 to 9223372036854775807, got nan"),
])  # fmt: skip
def test_hostile_files(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "my.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        settings.load(path)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 300 + len(str(path))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    with open(tmp_path / "sparse.toml", "wb") as file:
        file.truncate(5 * 2**30)
    for name, message in (
        ("pipe", "cannot be read (not a regular file)"), ("folder", "cannot be read (Is a directory)"),
        ("zero", "cannot be read (not a regular file)"), ("sparse", "more than 65536 bytes"),
        ("n\0l", "embedded null byte"), ("a" * 300, "File name too long"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=re.escape(message)):
            settings.load(tmp_path / f"{name}.toml")


def test_unknown_section_is_suggested(tmp_path: Path):
    path = tmp_path / "my.toml"
    path.write_text("[serch]\nsimulations = 5")
    with pytest.raises(ConfigError, match=r"my.toml: unknown key 'serch'; did you mean 'search'\?"):
        settings.load(path)


def test_missing_file(tmp_path: Path):
    with pytest.raises(ConfigError) as raised:
        settings.resolve(str(tmp_path / "no.toml"), {}, {})
    reason = "cannot be read (No such file or directory); give a preset's name or a TOML file"
    assert str(raised.value) == f"{tmp_path / 'no.toml'}: {reason}"


def test_whole_numbers_fit_float_fields(tmp_path: Path):
    path = tmp_path / "my.toml"
    path.write_text("learner.lr = 1")
    assert type(settings.load(path).learner.lr) is float


@pytest.mark.parametrize(("key", "text", "message"), [
    (
        "SEARCH_SIMULATIONS", "many",
        "search.simulations (JAXZERO_SEARCH_SIMULATIONS): expected a whole number, got 'many'",
    ),
    (
        "SEARCH_SIMULATIONS", "2.5",
        "search.simulations (JAXZERO_SEARCH_SIMULATIONS): expected a whole number, got '2.5'",
    ),
    ("LOG_TENSORBOARD", "1", "log.tensorboard (JAXZERO_LOG_TENSORBOARD): expected true or false, got '1'"),
    ("SEARCH_SCHEDULE", "64,x", "search.schedule (JAXZERO_SEARCH_SCHEDULE): expected a whole number, got 'x'"),
    ("GAME_OPTIONS", "7", "game.options (JAXZERO_GAME_OPTIONS): expected a table of options, got '7'"),
    (
        "SERCH_SIMULATIONS", "4",
        "JAXZERO_SERCH_SIMULATIONS: unknown environment variable; did you mean 'JAXZERO_SEARCH_SIMULATIONS'?",
    ),
    ("OTHER_THING", "4", "JAXZERO_OTHER_THING: unknown environment variable; see `jaxzero train --help`"),
])  # fmt: skip
def test_environment_errors(key: str, text: str, message: str):
    with pytest.raises(ConfigError) as raised:
        settings.resolve("tic_tac_toe_test", {}, {f"JAXZERO_{key}": text})
    assert str(raised.value) == message


def test_environment_types():
    config = settings.resolve("tic_tac_toe_test", {}, {
        "JAXZERO_LEARNER_LR": "1e-4", "JAXZERO_SEARCH_SCHEDULE": "32,16", "JAXZERO_LOG_TENSORBOARD": "false",
        "JAXZERO_EVALUATION_OPPONENTS": "random,minimax:3", "JAXZERO_GAME_OPTIONS_SIZE": "7",
        "JAXZERO_GAME_OPTIONS_RULES": "simple", "JAXZERO_GAME_OPTIONS_SWAP": "true", "PATH": "/bin",
    })  # fmt: skip
    assert config.learner.lr == 1e-4
    assert config.search.schedule == (32, 16)
    assert config.log.tensorboard is False
    assert config.evaluation.opponents == ("random", "minimax:3")
    assert config.game.options == {"size": 7, "rules": "simple", "swap": True}


def test_environment_variables_are_distinct():
    names = [settings.variable(name) for name in catalog.fields()]
    assert len(set(names)) == len(names)


def test_precedence(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text("iterations = 2\n[search]\nsimulations = 2\n[learner]\nbatch = 2")
    environ = {"JAXZERO_SEARCH_SIMULATIONS": "3", "JAXZERO_LEARNER_BATCH": "3"}
    config = settings.resolve(str(path), {"learner.batch": "4"}, environ)
    assert (config.learner.batch, config.search.simulations, config.iterations) == (4, 3, 2)
    assert config.selfplay == Config().selfplay
    assert config.name == "mine"
    assert settings.resolve(str(path), {"name": "other"}, {}).name == "other"


def test_another_game_drops_the_options_of_the_first(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('game.name = "hex"\ngame.options = {size = 7}')
    environ = {"JAXZERO_GAME_OPTIONS_SWAP": "true"}
    assert settings.resolve(str(path), {}, environ).game == GameConfig("hex", "", {"size": 7, "swap": True})
    assert settings.resolve(str(path), {"game.name": "hex"}, {}).game == GameConfig("hex", "", {"size": 7})
    assert settings.resolve(str(path), {"game.name": "go"}, {}).game == GameConfig("go", "", {})
    own = settings.resolve(str(path), {"game.source": "/a/b.py:make", "game.options": {"size": "3"}}, {})
    assert own.game == GameConfig("", "/a/b.py:make", {"size": 3})


def test_a_games_file_is_found_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "mine.toml"
    path.write_text('game.source = "rules.py:make"')
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert settings.load(path).game.source == f"{tmp_path}/rules.py:make"
    resolved = settings.resolve(str(path), {"game.source": "rules.py:make"}, {})
    assert resolved.game.source == f"{tmp_path}/below/rules.py:make"
    assert settings.resolve(str(path), {"game.name": "hex"}, {}).game == GameConfig("hex")


# Kinds


def resolved(tmp_path: Path, text: str, options: dict[str, str] | None = None, **environ: str) -> Config:
    (tmp_path / "mine.toml").write_text(text)
    variables = {f"JAXZERO_{name}": value for name, value in environ.items()}
    return settings.resolve(str(tmp_path / "mine.toml"), options or {}, variables)


@pytest.mark.parametrize(("text", "options", "environ", "expected"), [
    ('network = {kind = "mlp", sizes = [8]}', {}, {}, MlpConfig(sizes=(8,))),
    # The kind of a higher layer decides: what only the former kind has falls away, what both have stays.
    ('network = {channels = 8, value = "wdl"}', {"network.kind": "mlp"}, {}, MlpConfig(value="wdl")),
    ("network = {channels = 8, norm = 'batch'}", {"network.kind": "muzero_conv"}, {}, MuZeroConvConfig(channels=8)),
    ("network.channels = 8", {"network.sizes": "8 4"}, {"NETWORK_KIND": "mlp"}, MlpConfig(sizes=(8, 4))),
    ("", {"network.kind": "mlp"}, {"NETWORK_CHANNELS": "8"}, MlpConfig()),
    ("", {"network.kind": "resnet"}, {"NETWORK_KIND": "mlp", "NETWORK_SIZES": "8"}, ResNetConfig()),
    # A setting may come before the kind that has it.
    ("network.sizes = [8]", {"network.kind": "mlp"}, {}, MlpConfig(sizes=(8,))),
    ("network.kind = 'mlp'", {"network.channels": "8"}, {"NETWORK_KIND": "resnet"}, ResNetConfig(channels=8)),
])  # fmt: skip
def test_kinds_of_layers(tmp_path: Path, text: str, options: dict, environ: dict, expected: NetworkConfig):
    assert resolved(tmp_path, text, options, **environ).network == expected


@pytest.mark.parametrize(("text", "options", "environ", "message"), [
    (
        "network.sizes = [8]", {}, {},
        'network.sizes (FILE): resnet has no sizes (mlp has); leave it out, or set network.kind = "mlp"',
    ),
    (
        "network.kind = 'mlp'\nnetwork.channels = 8", {}, {},
        "network.channels (FILE): mlp has no channels (resnet, muzero_conv have); leave it out, or set network.kind = "
        '"resnet"',
    ),
    (
        "network.channels = 8", {"network.kind": "mlp", "network.channels": "8"}, {},
        "network.channels (command line): mlp has no channels (resnet, muzero_conv have); leave it out, or set "
        'network.kind = "resnet"',
    ),
    (
        "", {"network.channels": "8"}, {"NETWORK_KIND": "mlp"},
        "network.channels (command line): mlp has no channels (resnet, muzero_conv have); leave it out, or set "
        'network.kind = "resnet"',
    ),
    (
        "search.kind = 'minimax'", {}, {"SEARCH_ENGINE": "mctx"},
        "search.engine (JAXZERO_SEARCH_ENGINE): minimax has no engine (gumbel, puct have); leave it out, or set "
        'search.kind = "gumbel"',
    ),
    (
        "", {"learner.momentum": "0.5"}, {},
        "learner.momentum (command line): adam has no momentum (sgd, muon have); leave it out, or set "
        'learner.optimizer = "sgd"',
    ),
    # Also what falls away is checked.
    ("network.channels = 0", {"network.kind": "mlp"}, {}, "network.channels (FILE): must be from 1 to 4096, got 0"),
    ("", {"network.kind": "mpl"}, {}, "network.kind (command line): unknown value 'mpl'; did you mean 'mlp'? known: "
     "resnet, mlp, muzero_mlp, muzero_conv"),
])  # fmt: skip
def test_settings_of_another_kind_are_refused(tmp_path: Path, text: str, options: dict, environ: dict, message: str):
    with pytest.raises(ConfigError) as raised:
        resolved(tmp_path, text, options, **environ)
    assert str(raised.value) == message.replace("FILE", str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(("old", "new"), settings.RENAMED.items())
def test_old_names_are_told_the_new_ones(tmp_path: Path, old: str, new: str):
    assert old not in catalog.every()
    assert new in catalog.every()
    for where, arguments in (
        (str(tmp_path / "mine.toml"), (f"network.sizes = [8]\n{old} = 2", {}, {})),
        (settings.variable(old), ("", {}, {settings.variable(old).removeprefix("JAXZERO_"): "2"})),
        (f"--{old}", ("", {old: "2"}, {})),
    ):
        text, options, environ = arguments
        with pytest.raises(ConfigError) as raised:
            resolved(tmp_path, text, options, **environ)
        assert str(raised.value) == f"{where}: {old} is now called {new}; use that name"


def test_settings_of_one_name_have_one_type():
    """The command line parses them before their kind is known."""
    hints: dict[str, set[Any]] = {}
    for choice in catalog.CHOICES:
        for kind, (cls, *_) in choice.registry.items():
            assert kind == cls.kind
            for name, field in catalog.fields(catalog.defaults({choice.name: kind})).items():
                hints.setdefault(name, set()).add(field.hint)
    assert [name for name, found in hints.items() if len(found) > 1] == []


@dataclasses.dataclass(frozen=True)
class ToyNetworkConfig(NetworkConfig):
    """Nothing but biases."""

    kind: typing.ClassVar[str] = "toy"
    scale: typing.Annotated[float, Range(0, 9)] = 2.0
    """Factor of the logits."""


@dataclasses.dataclass(frozen=True)
class ToySearchConfig(SearchConfig):
    """No search."""

    kind: typing.ClassVar[str] = "toy_search"
    depth: typing.Annotated[int, Range(1, 9)] = 3
    """Plies."""


@dataclasses.dataclass(frozen=True)
class ToyOptimizerConfig(OptimizerConfig):
    """No steps."""

    kind: typing.ClassVar[str] = "toy_steps"
    damping: typing.Annotated[float, Range(0, 1)] = 0.5
    """Share of each step."""


def test_a_network_search_and_optimizer_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One entry in a dict each: its settings are then read, checked, kept, refused elsewhere, and reach its maker."""
    monkeypatch.setitem(NETWORKS, "toy", (ToyNetworkConfig, lambda config, env: (config, env)))
    monkeypatch.setitem(SEARCHES, "toy_search", (ToySearchConfig, lambda *arguments: arguments))
    monkeypatch.setitem(OPTIMIZERS, "toy_steps", (ToyOptimizerConfig, lambda config: config))
    text = 'network = {kind = "toy", scale = 3.0}\nsearch.kind = "toy_search"\nlearner.optimizer = "toy_steps"'
    config = resolved(tmp_path, text, {"learner.damping": "0.25"}, SEARCH_DEPTH="5")
    assert (config.network, config.search) == (ToyNetworkConfig(scale=3.0), ToySearchConfig(depth=5))
    assert config.learner.optimizer == ToyOptimizerConfig(damping=0.25)
    assert networks.make(config.network, TIC_TAC_TOE) == (config.network, TIC_TAC_TOE)
    model: Any = None
    assert search.make(config.search, TIC_TAC_TOE, model) == (config.search, TIC_TAC_TOE, None, 16)
    assert optimizers.make(config.learner.optimizer) == config.learner.optimizer
    assert resolved(tmp_path, settings.dump(config)) == dataclasses.replace(config, name="mine")
    assert catalog.every()["learner.damping"].help == "Share of each step."
    assert "toy: Nothing but biases." in catalog.every()["network.kind"].help
    for name in ("network.scale", "search.depth", "learner.damping"):
        with pytest.raises(ConfigError, match=rf"^{name} \(.*\): .* has no {name.partition('.')[2]} \(toy.* has\); "):
            resolved(tmp_path, f"{name} = 1")
    with pytest.raises(ConfigError, match=r"^search\.depth \(command line\): must be from 1 to 9, got 10$"):
        resolved(tmp_path, text, {"search.depth": "10"})


# TOML


TEXT = st.text("aé😀\"'\\#=[]{} ", max_size=6)


def values_of(field: Field) -> st.SearchStrategy[Any]:
    scalars: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**63 - 1), float: st.floats(-1e18, 1e18), bool: st.booleans(), str: TEXT
    }  # fmt: skip
    if bounds := field.range:
        scalars[int] = st.integers(int(bounds.low), int(bounds.high))
        scalars[float] = st.floats(bounds.low, bounds.high)
    if field.hint in scalars:
        return scalars[field.hint]
    if typing.get_origin(field.hint) is tuple:
        return st.lists(scalars[typing.get_args(field.hint)[0]], max_size=ENTRIES).map(tuple)
    if typing.get_origin(field.hint) is dict:
        anything = st.one_of(*scalars.values())
        return st.dictionaries(TEXT, anything | st.lists(anything).map(tuple), max_size=3)
    return st.sampled_from(typing.get_args(field.hint))


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_toml_round_trip(data: st.DataObject):
    kinds = {choice.name: data.draw(st.sampled_from(sorted(choice.registry))) for choice in catalog.CHOICES}
    config = catalog.with_values(Config(), kinds)
    known = {name: field for name, field in catalog.fields(config).items() if name not in kinds}
    chosen = data.draw(st.sets(st.sampled_from(sorted(known)), max_size=6))
    config = catalog.with_values(config, {name: data.draw(values_of(known[name])) for name in chosen})
    assert settings.build(settings.read_tree(tomllib.loads(settings.dump(config)), "text")) == config


def test_round_trip_of_a_file(tmp_path: Path):
    config = change(Config(name="trial"), game__source="/a/b.py:make", game__options={"size": 7, "odd key": (1, 2)})
    path = tmp_path / "config.toml"
    path.write_text(settings.dump(config), encoding="utf-8")
    assert settings.load(path) == config


# Resume

ON_REQUEST = [
    {"learner__lr": 1.0}, {"search__simulations": 64}, {"selfplay__opening_plies": 3}, {"devices": 2},
    {"promotion__games": 8},
]  # fmt: skip
NEVER = [
    {"game__name": "connect_four"}, {"game__source": "a.py:b"}, {"game__options": {"size": 7}},
    {"network__channels": 8}, {"selfplay__games": 8}, {"selfplay__plies": 8}, {"replay__window": 8}, {"seed": 1},
    {"promotion__rule": "sprt"}, {"init_from": "other.pt"},
]  # fmt: skip
FREE = [
    {"iterations": 7}, {"root": "elsewhere"}, {"log__every": 7}, {"checkpoint__keep": 7}, {"export__final": False},
    {"evaluation__games": 8},
]  # fmt: skip


@pytest.mark.parametrize("values", FREE)
def test_resume_free(values: dict[str, Any]):
    name = next(iter(values)).replace("__", ".")
    [recorded] = check_resume(VALID, change(VALID, **values))
    assert recorded.startswith(f"{name}: ")


@pytest.mark.parametrize("values", ON_REQUEST)
def test_resume_on_request(values: dict[str, Any]):
    name = next(iter(values)).replace("__", ".")
    new = change(VALID, **values)
    old_value, new_value = catalog.values(VALID)[name], catalog.values(new)[name]
    with pytest.raises(ConfigError) as raised:
        check_resume(VALID, new, ["learner.batch"])
    assert str(raised.value) == (
        f"{name}: {old_value} -> {new_value} changes a run; use --allow-change {name} to go on, "
        "--overwrite to start again, or another --name"
    )
    for allowed in (name, name.partition(".")[0]):
        assert check_resume(VALID, new, [allowed]) == [f"{name}: {old_value} -> {new_value}"]


@pytest.mark.parametrize("values", NEVER)
def test_resume_never(values: dict[str, Any]):
    name = next(iter(values)).replace("__", ".")
    with pytest.raises(ConfigError, match="--overwrite to start again, or another --name") as raised:
        check_resume(VALID, change(VALID, **values), [name])
    assert str(raised.value).startswith(f"{name}: ")
    assert "--allow-change" not in str(raised.value)


def test_every_field_has_a_resume_rule():
    sections = {name for values in FREE + ON_REQUEST + NEVER for name in [next(iter(values)).partition("__")[0]]}
    assert {name.partition(".")[0] for name in catalog.fields()} - {"name"} == sections


def test_resume_unchanged():
    assert check_resume(VALID, VALID) == []


def test_resume_permission_for_nothing():
    with pytest.raises(ConfigError) as raised:
        check_resume(VALID, VALID, ["learner.lrr"])
    assert str(raised.value) == "--allow-change learner.lrr: unknown field; did you mean 'learner.lr'?"


# Presets


@pytest.mark.parametrize("name", list(presets_lib.files()))
def test_presets_are_valid(name: str, monkeypatch: pytest.MonkeyPatch):
    config = settings.resolve(name, {}, {})
    assert config.name == name
    assert name.startswith(config.game.name)
    monkeypatch.setattr(hardware, "device_memory", lambda: 24 * 10**9)  # of a laptop
    validate(change(config, evaluation__opponents=()), envs.make(config.game.name, **config.game.options), 1)
    header = presets_lib.header(presets_lib.files()[name])
    assert list(header) == ["command", "hardware", "time", "memory", "strength"]
    assert header["command"] == f"jaxzero train {name}"


def test_presets_of_every_size():
    sizes = ("test", "fast", "standard", "production")
    games = [game for game in envs.GAMES if game not in ("2048", "treasure")]
    assert set(presets_lib.files()) >= {f"{game}_{size}" for game in games for size in sizes}


def test_presets_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "only.toml").write_text("")
    monkeypatch.setattr(presets_lib, "__file__", str(tmp_path / "config" / "presets.py"))
    assert list(presets_lib.files()) == ["only"]


def test_version_is_the_projects():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert jaxzero.__version__ == project["version"]


def test_every_field_has_help():
    assert all(field.help for field in catalog.every().values())
    assert catalog.every()["network.sizes"].help == "Widths of the hidden layers."
    assert catalog.every()["network.sizes"].default == MlpConfig().sizes
