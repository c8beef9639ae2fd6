"""Training on positions from disk: alone, mixed with self-play, resumed within an epoch, stopped early."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs
from test_data_convert import folder_of as games_of
from test_data_convert import random_games
from tiny_runs import Changed, assert_same, drain, log_of, state_of, unmeasured

pytest.importorskip("grain")
import envs
from jaxzero.config.schema import Config
from jaxzero.data import convert, positions, reader
from jaxzero.data.convert import Conversion
from jaxzero.messages import ConfigError
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.training import disk, transitions
from jaxzero.training.transitions import BatchSource, Transition

quick, tiny = tiny_runs.quick, tiny_runs.tiny
ENV = envs.make("tic_tac_toe")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Positions of 60 games."""
    folder = tmp_path_factory.mktemp("data")
    games = games_of(folder / "games", ENV, random_games(ENV, 60))
    convert.run([games], folder / "positions", Conversion(policy="played"))
    return folder / "positions"


def supervised(source: Path, *more: tuple) -> tuple[tuple, ...]:
    return ("data.sources", (str(source),)), ("data.validation", 0.2), ("data.validate_every", 2), *more


def test_only_what_is_on_disk_is_trained_on(tiny: Changed, source: Path):
    config = tiny(*supervised(source, ("iterations", 12), ("learner.lr", 0.02), ("checkpoint.every", 100)))
    rows = drain(config)
    assert len(rows) == 12
    losses = [row["validation/loss"] for row in rows if "validation/loss" in row]
    assert len(losses) == 6
    assert min(losses) < losses[0]
    assert all(row["games"] == row["positions"] == 0 for row in rows)
    assert "game_length" not in rows[-1]
    assert rows[-1]["updates"] == 12 * config.updates
    held = reader.Reader(ENV, [reader.Folder(source)], 16, validation=0.2)
    assert rows[-1]["epoch"] == pytest.approx(12 * config.updates * 16 / held.positions)
    with Checkpointer(Path(config.root, config.name, "checkpoints")) as checkpoints:
        assert checkpoints.best() == 2 * (1 + int(np.argmin(losses)))
    assert f"lowest loss on games held back {min(losses):.4f}" in log_of(config)


def test_the_loss_on_games_held_back_is_the_mean_over_their_positions(tiny: Changed, source: Path):
    """By hand: a network that knows nothing, in plain NumPy."""
    config = tiny(*supervised(source))
    from jaxzero import networks

    network = networks.make(config.network, ENV)
    read = disk.open_reader(config, ENV)
    assert read
    validate = disk.make_validate(ENV, network, config, read)
    assert validate
    variables = jax.tree.map(jnp.zeros_like, network.init(jax.random.key(0)))
    found = validate(variables)
    played, target = read.validation(10**6)
    assert 0 < len(target) < disk.SLICE
    legal = (played.moves >= 0).sum(1)
    assert found["validation/policy_loss"] == pytest.approx(float(np.log(legal).mean()), rel=1e-4)
    assert found["validation/value_loss"] == pytest.approx(float(np.square(target).mean()), rel=1e-4)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_resume_within_an_epoch_ends_with_the_same_arrays(tiny: Changed, source: Path, share: float):
    given = supervised(source, ("data.share", share), ("iterations", 4), ("checkpoint.every", 100))
    whole, killed = tiny(*given, name="whole"), tiny(*given, name="killed")
    rows = drain(whole)
    run = tiny_runs.train.run(killed)
    begun = [next(run) for _ in range(3)]
    assert 0 < begun[-1]["epoch"] < 1
    run.close()  # after the checkpoint of iteration 2, which has the lowest loss
    again = drain(killed)
    assert again[0]["iteration"] == 3
    assert_same(state_of(killed), state_of(whole))
    assert unmeasured(again)[1:] == unmeasured(rows)[3:]


def test_early_stopping(tiny: Changed, source: Path, monkeypatch: pytest.MonkeyPatch):
    losses = iter([3.0, 1.0, 1.5, 1.1, 0.1])
    made = lambda *_: lambda variables: {"validation/loss": next(losses)}  # noqa: E731
    monkeypatch.setattr(disk, "make_validate", made)
    config = tiny(
        *supervised(
            source, ("iterations", 100), ("data.patience", 2), ("checkpoint.keep", 1), ("checkpoint.every", 100)
        )
    )
    rows = drain(config)
    assert [row["iteration"] for row in rows][-1] == 8
    assert "no lower loss on the games held back since iteration 4" in log_of(config)
    with Checkpointer(Path(config.root, config.name, "checkpoints"), keep=1) as checkpoints:
        assert (checkpoints.best(), checkpoints.steps()) == (4, [4, 8])
    assert drain(config) == []
    assert "raise data.patience to go on" in log_of(config)


def test_the_count_of_measurements_survives_a_resume(tiny: Changed, source: Path, monkeypatch: pytest.MonkeyPatch):
    losses = iter([1.0, 2.0, 2.0, 2.0])
    made = lambda *_: lambda variables: {"validation/loss": next(losses)}  # noqa: E731
    monkeypatch.setattr(disk, "make_validate", made)
    config = tiny(*supervised(source, ("iterations", 100), ("data.patience", 2)))
    run = tiny_runs.train.run(config)
    for _ in range(4):
        next(run)
    run.close()
    assert drain(config)[-1]["iteration"] == 6


def test_epochs_in_place_of_iterations(tiny: Changed, source: Path):
    config = tiny(*supervised(source, ("data.epochs", 0.5)))
    rows = drain(config)
    assert rows[-1]["epoch"] >= 0.5 > rows[-2]["epoch"]


def test_a_mixed_batch_has_the_share_of_each(tiny: Changed, source: Path):
    counted = BatchSource(jnp.int32(99), lambda update, key, count, steps: (*of(5, count), jnp.full(count, 0.5)))
    read = jax.tree.map(lambda x: x[:, :, 0], jax.tree.map(lambda *x: jnp.stack(x), *(of(n, 3) for n in (1, 2))))
    mixed = transitions.mix(transitions.from_batches(*read), counted, 3)
    assert mixed.available == 99
    for update in range(2):
        played, target, weight = mixed.draw(jnp.int32(update), jax.random.key(0), 8, 0)
        assert target[:, 0].tolist() == played.action[:, 0].tolist() == [update + 1] * 3 + [5] * 5
        assert weight.tolist() == [1.0] * 3 + [0.5] * 5
    for share, batch, wanted in ((0.5, 16, 8), (0.001, 16, 1), (0.999, 16, 15), (1.0, 16, 16)):
        config = tiny(("data.sources", ("x",)), ("data.share", share))
        assert config.from_disk(batch) == wanted
    assert (Config().from_disk(16), Config().plays) == (0, True)


def of(number: int, count: int) -> tuple[Transition, jax.Array]:
    """Transitions [N, 1] and targets, all alike."""
    whole = jnp.full((count, 1), number)
    return Transition(*[whole] * 8), jnp.full((count, 1), float(number))


def test_self_play_goes_on_beside_the_disk(tiny: Changed, source: Path):
    rows = drain(tiny(*supervised(source, ("data.share", 0.25), ("checkpoint.every", 100))))
    assert rows[-1]["games"] > 0
    assert rows[-1]["updates"] > 0
    assert "validation/loss" in rows[-1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data.sources": ("nothing",)}, "nothing: no folder of positions"),
        ({"data.sources": ("x:y:z",)}, r"x:y:z.*no folder"),
        ({"data.sources": ("a:0",)}, r"data\.sources: 'a:0' is not DIR"),
        ({"network.kind": "muzero_mlp"}, r"data\.sources: network\.kind 'muzero_mlp' learns from plies in a row"),
        ({"learner.reanalyse": 0.5}, r"learner\.reanalyse: renews positions of self-play only"),
        ({"data.patience": 3, "data.validation": 0.0}, r"data\.patience: needs positions held back"),
        ({"promotion.rule": "sprt"}, r"promotion\.rule: without self-play nothing is promoted"),
        ({"data.validation": 1e-9}, r"data\.validation: no game is held back"),
    ],
)
def test_mistakes_are_said_before_anything_is_made(tiny: Changed, source: Path, changes: dict, problem: str):
    config = tiny(*(dict(supervised(source)) | changes).items())
    with pytest.raises(ConfigError, match=problem):
        drain(config)
    assert not Path(config.root, config.name).exists()


def test_nothing_is_trained_on_what_is_damaged(tiny: Changed, source: Path):
    path = positions.chunk_path(source, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    try:
        with pytest.raises(ConfigError, match=r"positions-000000\.npy: differs from its digest"):
            drain(tiny(*supervised(source)))
    finally:
        path.write_bytes(whole)
