"""Layers of settings, TOML, resume rules, presets."""

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
from jaxzero import hardware
from jaxzero.config import catalog, settings
from jaxzero.config import presets as presets_lib
from jaxzero.config.fields import Field
from jaxzero.config.resume import check_resume
from jaxzero.config.schema import Config, GameConfig
from jaxzero.config.validation import validate
from jaxzero.config.values import ENTRIES
from jaxzero.messages import ConfigError
from jaxzero.networks import MlpConfig


def change(config: Config, **values: Any) -> Config:
    """`config` with dotted fields (dots written `__`) replaced."""
    return catalog.with_values(config, {key.replace("__", "."): value for key, value in values.items()})


VALID = change(Config(name="trial"), evaluation__opponents=())


# Files and types


@pytest.mark.parametrize(("text", "message"), [
    ('search.simulations = "64"', "search.simulations (FILE): expected a whole number, got '64'"),
    ("search.simulations = 2.5", "search.simulations (FILE): expected a whole number, got 2.5"),
    ("search.simulations = true", "search.simulations (FILE): expected a whole number, got True"),
    ("learner.lr = true", "learner.lr (FILE): expected a number, got True"),
    ('learner.lr = "0.1"', "learner.lr (FILE): expected a number, got '0.1'"),
    ("export.final = 1", "export.final (FILE): expected true or false, got 1"),
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
    ("EXPORT_FINAL", "1", "export.final (JAXZERO_EXPORT_FINAL): expected true or false, got '1'"),
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
        "JAXZERO_LEARNER_LR": "1e-4", "JAXZERO_SEARCH_SCHEDULE": "32,16", "JAXZERO_EXPORT_FINAL": "false",
        "JAXZERO_EVALUATION_OPPONENTS": "random,minimax:3", "JAXZERO_GAME_OPTIONS_SIZE": "7",
        "JAXZERO_GAME_OPTIONS_RULES": "simple", "JAXZERO_GAME_OPTIONS_SWAP": "true", "PATH": "/bin",
    })  # fmt: skip
    assert config.learner.lr == 1e-4
    assert config.search.schedule == (32, 16)
    assert config.export.final is False
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
    {"evaluation__games": 8}, {"data__patience": 3},
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
