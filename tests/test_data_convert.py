"""Games of shards become positions."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("pyarrow")
import envs
from envs.core import begins_alike
from jaxzero.config.schema import GameConfig
from jaxzero.data import convert, positions, shards
from jaxzero.data.convert import Conversion
from jaxzero.messages import ConfigError
from jaxzero.training import targets

GAMES = {
    "hex": {"size": 4}, "connect_four": {}, "ur": {}, "tic_tac_toe": {}, "2048": {},
}  # fmt: skip


def random_games(env: envs.Env, count: int, seed: int = 0) -> list[dict]:
    """Games of random moves, with made-up root values and policies; a few are cut short, one is illegal, one is given
    up."""
    rng, step, legal_of = np.random.default_rng(seed), jax.jit(env.step), jax.jit(env.legal_actions)
    logits_of, resolve = jax.jit(env.outcome_logits), jax.jit(env.resolve)
    found = []
    for index in range(count):
        state = env.init(jax.random.key(seed + index))
        start = None if begins_alike(env) else env.to_text(state)
        game = {"id": f"{index}", "index": index, "start": start, "opening": index % 3}
        columns = ("actions", "outcomes", "values", "policy_sizes", "policy_actions", "policy_weights")
        lists: dict[str, Any] = {name: [] for name in (*columns, "policy_trained")}
        result = np.zeros(env.num_players)
        longest = 10 if index % 5 == 4 or env.name == "2048" else 400
        for _ in range(longest):
            moves = np.flatnonzero(np.asarray(legal_of(state)))
            known = moves[rng.random(len(moves)) < 0.7] if rng.random() < 0.9 else moves[:0]
            lists["policy_sizes"].append(len(known))
            lists["policy_actions"] += known.tolist()
            lists["policy_weights"] += rng.random(len(known)).astype(np.float16).tolist()
            lists["policy_trained"].append(float(rng.integers(2)))
            lists["values"].append(float(np.float32(rng.uniform(-1, 1))))
            lists["actions"].append(int(rng.choice(moves)))
            state = step(state, lists["actions"][-1])
            result += np.asarray(state.rewards)
            outcome = -1
            if env.num_outcomes and bool(state.chance):
                odds = np.exp(np.asarray(logits_of(state), np.float64))
                outcome = int(rng.choice(len(odds), p=odds / odds.sum()))
                state = resolve(state, outcome)
            lists["outcomes"].append(outcome)
            if bool(state.terminated):
                break
        if not env.num_outcomes:
            lists["outcomes"] = None
        game |= lists
        if bool(state.terminated):
            game["result"] = result.tolist()
        found.append(game)
    return found


def folder_of(path: Path, env: envs.Env, games: list[dict], name: str = "", parts: int = 2) -> Path:
    name = name or env.name
    shards.create(path, GameConfig(name, options=GAMES.get(name, {})))
    for part in range(parts):
        shards.write(path / f"shard{part}.parquet", shards.rows(games[part::parts]))
    return path


def read(folder: Path) -> np.ndarray:
    return np.concatenate(list(positions.open_folder(folder).chunks()))


def by_hand(env: envs.Env, game: dict, chosen: list[int], label: str) -> list[dict]:
    """The positions of one game, ply by ply through the rules, the targets in plain Python."""
    step, legal_of, resolve = jax.jit(env.step), jax.jit(env.legal_actions), jax.jit(env.resolve)
    state = env.init(jax.random.key(0)) if game["start"] is None else env.from_text(game["start"])
    states, rewards, movers, ended = [], [], [], False
    entries = np.concatenate([[0], np.cumsum(game["policy_sizes"])])
    for t, action in enumerate(game["actions"]):
        states.append(jax.device_get(state))
        movers.append(int(state.player))
        state = step(state, action)
        rewards.append(np.asarray(state.rewards))
        if env.num_outcomes and bool(state.chance):
            state = resolve(state, game["outcomes"][t])
        ended = bool(state.terminated)
    found = []
    for t in chosen:
        if label == "value":
            target = game["values"][t]
        elif not ended:
            continue
        else:
            target = sum(float(reward[movers[t]]) for reward in rewards[t:])
        policy = np.zeros(env.num_actions, np.float16)
        span = slice(entries[t], entries[t + 1])
        policy[game["policy_actions"][span]] = game["policy_weights"][span]
        legal = np.flatnonzero(np.asarray(legal_of(states[t])))
        found.append({
            "state": states[t], "ply": t, "action": game["actions"][t], "target": target, "legal": legal,
            "policy": policy[legal], "policy_weight": game["policy_trained"][t] * (len(policy[policy > 0]) > 0),
            "reward": rewards[t][movers[t]], "end": t == len(rewards) - 1 and ended, "value": game["values"][t],
        })  # fmt: skip
    return found


@pytest.mark.parametrize("name", GAMES)
def test_positions_are_those_of_a_replay_ply_by_ply(tmp_path, name):
    env = envs.make(name, **GAMES[name])
    games = random_games(env, 12 if begins_alike(env) else 3)
    label = "value" if name == "2048" else "outcome"
    source = folder_of(tmp_path / "games", env, games)
    counts = convert.run([source], tmp_path / "out", Conversion(label=label))
    records = read(tmp_path / "out")
    order = games[0::2] + games[1::2]
    wanted = [x for g in order for x in by_hand(env, g, list(range(g["opening"], len(g["actions"]))), label)]
    assert counts["positions"] == len(records) == len(wanted) > 20
    found, target = positions.transitions(env, records)
    for i, want in enumerate(wanted):
        state = jax.tree.map(lambda x, i=i: x[i], found.state)
        jax.tree.map(np.testing.assert_array_equal, state, want["state"])
        moves = found.moves[i]
        assert moves[moves >= 0].tolist() == want["legal"].tolist()
        assert found.weights[i][: len(want["legal"])].tolist() == want["policy"].tolist()
        assert not found.weights[i][len(want["legal"]) :].any()
        facts = (found.action[i], found.reward[i], found.end[i], found.value[i], found.policy_weight[i])
        names = ("action", "reward", "end", "value", "policy_weight")
        assert facts == tuple(np.float32(want[name]) for name in names)
        assert records["ply"][i] == want["ply"]
        assert target[i] == np.float32(want["target"])
    assert len(set(records["game"].tolist())) == len(
        {(g["start"], *g["actions"]) for g in games if counts_in(g, label)}
    )


def counts_in(game: dict, label: str) -> bool:
    return label == "value" or "result" in game


@pytest.mark.parametrize(
    ("label", "arguments"), [("lambda:0.7", (0.7, 0)), ("steps:3", (0.7, 3)), ("lambda:1", (1, 0))]
)
def test_targets_are_those_of_training(tmp_path, label, arguments):
    env = envs.make("ur")
    games = [game for game in random_games(env, 6) if "result" in game]
    convert.run([folder_of(tmp_path / "games", env, games, parts=1)], tmp_path / "out", Conversion(label=label))
    records = read(tmp_path / "out")
    begin = 0
    for game in games:
        plies, opening = len(game["actions"]), game["opening"]
        part = records[begin : begin + plies - opening]
        begin += plies - opening
        played, _ = positions.transitions(env, part)
        lanes = jax.tree.map(lambda x: x[:, None], played)
        wanted, known = targets.label(lanes, *arguments)
        assert bool(known.all())
        np.testing.assert_allclose(part["target"], np.asarray(wanted)[:, 0], rtol=1e-5, atol=1e-6)
    assert begin == len(records)


@pytest.mark.parametrize(
    ("select", "from_ply", "chosen"),
    [
        ("all", 0, lambda n, o: range(o, n)), ("final", 0, lambda n, o: [n - 1]), ("all", 7, lambda n, o: range(7, n)),
        ("penultimate", 0, lambda n, o: [n - 2]), ("every:3", 0, lambda n, o: range(o, n, 3)),
        ("every:2", 5, lambda n, o: range(5, n, 2)), ("final", 390, lambda n, o: []),
    ],
)  # fmt: skip
def test_the_selected_plies_are_converted(tmp_path, select, from_ply, chosen):
    env = envs.make("hex", size=4)
    games = [game | {"actions": game["actions"]} for game in random_games(env, 9) if "result" in game]
    source = folder_of(tmp_path / "games", env, games, parts=1)
    wanted = [t for game in games for t in chosen(len(game["actions"]), game["opening"])]
    conversion = Conversion(select, from_ply)
    if not wanted:
        with pytest.raises(ConfigError, match="no position to write"):
            convert.run([source], tmp_path / "out", conversion)
        return
    convert.run([source], tmp_path / "out", conversion)
    assert read(tmp_path / "out")["ply"].tolist() == wanted


def test_policies_of_moves_played(tmp_path):
    env = envs.make("hex", size=4)
    source = folder_of(tmp_path / "games", env, random_games(env, 5))
    convert.run([source], tmp_path / "played", Conversion(policy="played"))
    convert.run([source], tmp_path / "soft", Conversion(policy="soft:0.2"))
    played, soft = read(tmp_path / "played"), read(tmp_path / "soft")
    for one, other in zip(played, soft, strict=True):
        legal = one["moves"] >= 0
        hit = one["moves"] == one["action"]
        assert hit.sum() == 1
        np.testing.assert_array_equal(one["weights"], hit)
        np.testing.assert_allclose(other["weights"], 0.8 * hit + 0.2 * legal / legal.sum(), rtol=1e-3)
    assert (played["policy_weight"] == 1).all()


def test_no_outcome_is_invented(tmp_path):
    """Unfinished games are left out, illegal ones too; a game that was given up has the result written down."""
    env = envs.make("hex", size=4)
    whole = next(game for game in random_games(env, 9) if "result" in game and len(game["actions"]) > 9)
    cut: dict[str, Any] = {"actions": whole["actions"][:6], "values": whole["values"][:6]}
    illegal = cut | {"actions": [0, 1, 2, 3, 3, 4], "result": [1.0, -1.0]}
    beyond = cut | {"actions": [0, 1, 99, 3, -7, 4], "result": [1.0, -1.0]}
    after = cut | {"actions": [*whole["actions"], 0], "values": None, "result": whole["result"]}
    short = cut | {"values": [0.5], "result": [1.0, -1.0]}
    given_up = cut | {"result": [1.0, -1.0]}
    source = folder_of(tmp_path / "games", env, [cut, illegal, beyond, after, short, given_up], parts=1)
    counts = convert.run([source], tmp_path / "out", Conversion())
    assert counts == {
        "games": 6, "positions": 6, "chunks": 1, "illegal": 4, "unfinished": 1, "unlabelled": 0,
    }  # fmt: skip
    records = read(tmp_path / "out")
    assert records["target"].tolist() == [1, -1] * 3
    assert not records["end"].any()
    counts = convert.run([source], tmp_path / "lambda", Conversion(label="lambda:0.5"))
    value, total = cut["values"], -1.0  # of ply 5, which player 1 plays
    by_lambda = []
    for t in reversed(range(6)):
        total = 0.5 * value[t] + 0.5 * (-1.0 if t == 5 else -total)
        by_lambda.append(total)
    np.testing.assert_allclose(read(tmp_path / "lambda")["target"], by_lambda[::-1], rtol=1e-5)


def test_a_game_of_points_that_was_given_up(tmp_path):
    """Its result counts what was earned by its moves; what is missing of it is earned with the last one."""
    env = envs.make("treasure")
    step = jax.jit(env.step)
    game = next(game for game in random_games(env, 20) if len(game["actions"]) >= 6)
    state, earned = env.init(jax.random.key(0)) if game["start"] is None else env.from_text(game["start"]), []
    for action in game["actions"][:6]:
        state = step(state, action)
        earned.append(float(state.rewards[0]))
    assert sum(earned) != 0
    assert not state.terminated
    cut: dict[str, Any] = {"actions": game["actions"][:6], "values": game["values"][:6], "start": game["start"]}
    source = folder_of(tmp_path / "games", env, [cut | {"result": [sum(earned) + 5.0]}], parts=1)
    convert.run([source], tmp_path / "out", Conversion())
    earned[-1] += 5
    np.testing.assert_allclose(read(tmp_path / "out")["target"], np.cumsum(earned[::-1])[::-1], rtol=1e-5)


def test_without_root_values_only_the_outcome_is_learned(tmp_path):
    env = envs.make("tic_tac_toe")
    games = [game | {"values": None, "opening": 0} for game in random_games(env, 6)]
    games[1]["values"] = [math.nan] * len(games[1]["actions"])
    source = folder_of(tmp_path / "games", env, games)
    assert convert.run([source], tmp_path / "out", Conversion())["unlabelled"] == 0
    for label in ("lambda:0.5", "value"):
        with pytest.raises(ConfigError, match="have no root value"):
            convert.run([source], tmp_path / label, Conversion(label=label))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("select", "some"), ("select", "every"), ("select", "every:0"), ("select", "every:x"), ("select", "final:2"),
        ("label", "lambda:2"), ("label", "lambda:nan"), ("label", ""), ("policy", "soft"), ("policy", "soft:-1"),
        ("from_ply", -1),
    ],
)  # fmt: skip
def test_words_that_mean_nothing_are_refused(field, text):
    with pytest.raises(ConfigError, match=field.replace("_", ".")):
        Conversion(**{field: text})


def test_a_killed_conversion_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    env = envs.make("hex", size=4)
    games = random_games(env, 70)
    source = folder_of(tmp_path / "games", env, games, parts=3)
    monkeypatch.setattr(convert, "at_once", lambda *_: 8)
    monkeypatch.setattr(positions, "CHUNK", 150)
    convert.run([source], tmp_path / "whole", Conversion())
    assert len(positions.open_folder(tmp_path / "whole").paths) > 4

    class Killed(BaseException):
        pass

    write, rng, kills = positions.files.write, np.random.default_rng(0), 0

    def dying(path, content):
        nonlocal kills
        if rng.random() < 0.3:
            kills += 1
            raise Killed
        write(path, content)

    monkeypatch.setattr(positions.files, "write", dying)
    for _ in range(100):
        try:
            convert.run([source], tmp_path / "killed", Conversion())
            break
        except Killed:
            with pytest.raises(ConfigError, match=r"no folder of positions|is not finished"):
                positions.open_folder(tmp_path / "killed")
    assert kills > 5
    same_folders(tmp_path / "whole", tmp_path / "killed")


def same_folders(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
