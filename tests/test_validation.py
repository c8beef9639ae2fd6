"""What is refused before anything compiles: settings that cannot work, alone or together."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import envs
from jaxzero import hardware
from jaxzero.config import catalog
from jaxzero.config.schema import Config
from jaxzero.config.validation import validate
from jaxzero.messages import ConfigError
from jaxzero.runs import folder as folder_lib
from jaxzero.training import footprint, iteration

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
        {"learner__unroll": 3},
        "learner.unroll: needs a learned model, which resnet has not; leave it out, or set network.kind to muzero_mlp "
        "or muzero_conv",
    ),
    (
        {"learner__boundaries": (20, 10), "learner__factors": (0.5, 0.1)},
        "learner.factors: give one for each of learner.boundaries, which ascend; got 2 for [20, 10]",
    ),
    (
        {"learner__boundaries": (10,)},
        "learner.factors: give one for each of learner.boundaries, which ascend; got 0 for [10]",
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


def test_sinks_are_checked():
    with pytest.raises(ConfigError, match=r"^log\.sinks: unknown sink 'tensorbord'; did you mean 'tensorboard'"):
        validate(change(VALID, log__sinks=("tensorbord",)), TIC_TAC_TOE, 4)


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
