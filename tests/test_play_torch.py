"""The player that needs PyTorch alone: its rules beside ours, its search beside exact play, its command."""

import functools
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import zlib
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from exports import model_of

import envs
from envs.core import where
from envs.judges import compare, random_games
from jaxzero.evaluation.players import policy_player
from jaxzero.export import formats
from jaxzero.export.convert import rebuild
from jaxzero.export.standalone import play_torch, torch_games, torch_module
from jaxzero.export.standalone.play_torch import search

FOLDER = pathlib.Path(torch_games.__file__).parent
TRAINED = FOLDER.parents[2] / "benchmarks" / "results" / "connect_four_fast_step000960.pt"
RULES = [
    ("tic_tac_toe", {}), ("connect_four", {}), ("gomoku", {"size": 6}), ("gomoku", {"size": 7, "exact_five": True}),
    ("othello", {"size": 6}), ("hex", {"size": 4}), ("hex", {"size": 3, "swap": False}),
]  # fmt: skip
TIC_TAC_TOE = torch_games.GAMES["tic_tac_toe"]()


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported network for Connect Four."""
    path = tmp_path_factory.mktemp("player") / "run_step000007.pt"
    formats.load("pt").write(path, model_of("resnet"), "predict")
    return path


@pytest.fixture(scope="module")
def muzero(tmp_path_factory):
    """An exported network that models Connect Four."""
    path = tmp_path_factory.mktemp("muzero") / "run_step000007.pt"
    formats.load("pt").write(path, model_of("muzero-conv"), "")
    return path


class Beside:
    """Rules in PyTorch as `envs.judges` asks for them."""

    def __init__(self, game):
        self.game, self.position = game, game.start()

    def legal(self):
        return set(self.game.legal(self.position))

    def player(self):
        return self.position.player

    def terminated(self):
        return self.position.result is not None

    def rewards(self):
        result = float(self.position.result or 0)
        return [result, -result]

    def play(self, action):
        self.position = self.game.play(self.position, action)


@pytest.mark.parametrize(("name", "options"), RULES)
def test_rules_are_those_of_training(name, options):
    """Movers, legal actions, ends and rewards ply by ply; then what the network sees, and names of moves."""
    env, game = envs.make(name, **options), torch_games.GAMES[name](**options)
    assert compare(env, lambda: Beside(game), 40).whole == 40
    assert (game.num_actions, game.observation_shape) == (env.num_actions, env.observation_shape)

    _, play = jax.device_get(random_games(env, 10, env.max_plies + 1, jax.random.key(3)))

    @jax.jit
    @jax.vmap
    def watch(actions):
        def ply(state, action):
            return env.step(state, action), env.observe(state)

        return jax.lax.scan(ply, env.init(jax.random.key(0)), actions)[1]

    seen = np.asarray(watch(play.action.T))  # [G, T, …]
    for g in range(10):
        position, line = game.start(), []
        for action in play.action[~play.terminated[:, g], g].tolist():
            line.append(position)
            position = game.play(position, action)
        np.testing.assert_array_equal(game.observe(line).numpy(), seen[g, : len(line)])
    state = env.init(jax.random.key(0))
    assert [game.name(a) for a in range(env.num_actions)] == [
        env.action_to_str(state, a) for a in range(env.num_actions)
    ]


def test_boards_in_the_terminal():
    game = torch_games.GAMES["connect_four"]()
    position = game.start()
    for name in "443":
        position = game.play(position, play_torch.parse(game, position, name))
    assert game.show(position).split("\n")[-3:] == [". . . O . . .", ". . X X . . .", "1 2 3 4 5 6 7"]
    corner = TIC_TAC_TOE.play(TIC_TAC_TOE.start(), play_torch.parse(TIC_TAC_TOE, TIC_TAC_TOE.start(), "a1"))
    assert TIC_TAC_TOE.show(corner).split("\n") == [" 3 . . .", " 2 . . .", " 1 X . .", "   a b c"]


@functools.cache
def minimax(position):
    """The result of tic-tac-toe for player 0 when both play perfectly."""
    if position.result is not None:
        return position.result
    best = max if position.player == 0 else min
    return best(minimax(TIC_TAC_TOE.play(position, action)) for action in TIC_TAC_TOE.legal(position))


def knows_nothing(observation):
    return torch.zeros(len(observation), 9), torch.zeros(len(observation))


def knows_values(observation):
    """The exact value, and no idea of moves."""
    values = []
    for seen in observation.int():
        board = bytes((seen[..., 0] + 2 * seen[..., 1]).reshape(-1).tolist())
        values.append(float(minimax(torch_games.Position(board))))  # as if the mover were player 0
    return torch.zeros(len(observation), 9), torch.tensor(values)


def worst(network, simulations, batch, side):
    """The worst result of the player as `side` over every line of replies, and how many positions it had to decide."""
    positions, worst, decided = {TIC_TAC_TOE.start()}, 1, 0
    while positions:
        after = set()
        mine = [position for position in positions if position.player == side]
        decided += len(mine)
        for position, root in zip(mine, search(network, TIC_TAC_TOE, mine, simulations, batch), strict=True):
            after.add(TIC_TAC_TOE.play(position, root.best()))
        for position in positions.difference(mine):
            after |= {TIC_TAC_TOE.play(position, action) for action in TIC_TAC_TOE.legal(position)}
        results = [position.result for position in after if position.result is not None]
        worst = min([worst, *(result * (1 - 2 * side) for result in results)])
        positions = {position for position in after if position.result is None}
    return worst, decided


@pytest.mark.parametrize(
    ("network", "simulations", "batch", "side"),
    [(knows_values, 16, 1, 0), (knows_values, 16, 1, 1), (knows_values, 32, 8, 1), (knows_nothing, 400, 8, 0)],
)
def test_never_loses_tic_tac_toe(network, simulations, batch, side):
    lost, decided = worst(network, simulations, batch, side)
    assert lost >= 0
    assert decided > 50


def test_without_search_and_knowledge_tic_tac_toe_is_lost():
    """What the test above can see."""
    assert worst(knows_nothing, 0, 1, 0)[0] == worst(knows_nothing, 0, 1, 1)[0] == -1


def test_moves_of_the_bare_policy_are_those_of_the_trained_network():
    trained = rebuild(TRAINED)
    env = trained.env
    _, play = jax.device_get(random_games(env, 200, 20, jax.random.key(1)))
    lengths = np.random.default_rng(0).integers(0, (~play.terminated).sum(0))  # plies before the end

    @jax.jit
    @jax.vmap
    def replay(actions, length):
        def ply(i, state):
            return where(i < length, env.step(state, actions[i]), state)

        return jax.lax.fori_loop(0, 20, ply, env.init(jax.random.key(0)))

    states = replay(play.action.T, jnp.asarray(lengths))
    player = jax.jit(policy_player(env, trained.network.infer))
    expected = player(trained.params, jax.random.split(jax.random.key(0), 200), states)

    rules, positions = torch_games.GAMES[env.name](), []
    for g, length in enumerate(lengths):
        positions.append(functools.reduce(rules.play, play.action[:length, g].tolist(), rules.start()))
    roots = search(torch_module.load(TRAINED), rules, positions, simulations=0)
    assert [root.best() for root in roots] == expected.tolist()
    assert len(set(expected.tolist())) == 7


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_every_simulation_is_counted_and_none_left_waiting(model, batch):
    game, network, calls = torch_games.GAMES["connect_four"](), torch_module.load(model), []

    def counted(observation):
        calls.append(len(observation))
        return network(observation)

    nearly = functools.reduce(game.play, [0, 1, 0, 1, 0], game.start())  # player 0 wins at once in column 0
    roots = search(counted, game, [game.start(), nearly], 60, batch)
    for root in roots:
        assert sum(root.counts()) == 60 == root.visits - 1
        nodes = [root]
        for node in nodes:
            nodes += [child for child in node.children if child]
            assert node.pending == 0
            if node.actions:
                assert node.visits == 1 + sum(node.counts())
                below = sum(c.visits * c.reward + c.discount * c.total for c in node.children if c)
                assert abs(node.total - below) <= 1 + 1e-6, "its own value is the rest"
    assert sum(calls) <= 122
    assert (len(calls) == 61) == (batch == 1)
    assert max(calls) <= 2 * batch


def test_search_sees_a_win_and_a_loss_in_one():
    game = torch_games.GAMES["connect_four"]()

    def flat(observation):
        return torch.zeros(len(observation), 7), torch.zeros(len(observation))

    win = functools.reduce(game.play, [0, 1, 0, 1, 0, 1], game.start())
    root, other = search(flat, game, [win, game.play(win, 6)], 64)
    assert root.best() == 0
    assert root.value() > 0.8
    assert other.best() == 1, "the other player wins at once too"
    open_three = functools.reduce(game.play, [3, 3, 2, 2, 1], game.start())
    assert search(flat, game, [open_three], 300)[0].value() < -0.5, "both of its ends are open"


class Line(NamedTuple):
    """A position of a game of three moves at any time, whose facts are drawn by the moves made."""

    moves: tuple[int, ...] = ()

    def drawn(self, what: str) -> float:
        return zlib.crc32(f"{what} {self.moves}".encode()) / 2**32

    @property
    def player(self) -> int:
        return int(self.drawn("player") < 0.5)

    @property
    def result(self) -> int | None:
        return int(self.drawn("result") * 3) - 1 if len(self.moves) == 5 or self.drawn("over") < 0.2 else None


class Lines:
    """Its rules; a position is seen as the moves made, -1 beyond."""

    num_actions = 3

    def legal(self, line):
        return [0, 1, 2]

    def play(self, line, action):
        return Line((*line.moves, action))

    def observe(self, lines):
        return torch.tensor([[*line.moves, *[-1] * 5][:5] for line in lines]).float()


def said_of(seen):
    """Logits and values of lines that are seen."""
    lines = [Line(tuple(int(move) for move in row if move >= 0)) for row in seen]
    logits = torch.tensor([[3 * line.drawn(f"logit {a}") for a in range(3)] for line in lines])
    return logits, torch.tensor([2 * line.drawn("value") - 1 for line in lines])


def moved(latents, actions):
    """What a perfect model says of actions; a latent is what is seen. It goes on after the end, worth nothing."""
    after, rewards, discounts = [], [], []
    for row, action in zip(latents, actions, strict=True):
        before = Line(tuple(int(move) for move in row if move >= 0))
        line = before if before.result is not None else Lines().play(before, int(action))
        sign = 1 - 2 * before.player
        after.append(line)
        rewards.append(0 if line.result is None or line is before else sign * line.result)
        discounts.append(sign * (1 - 2 * line.player) if line.result is None else 0)
    return Lines().observe(after), torch.tensor(rewards), torch.tensor(discounts)


def test_search_in_a_perfect_model_is_the_search_by_the_rules():
    """Also where a player moves twice, and after the end, where the rules stop and the model goes on."""
    game: Any = Lines()
    model: Any = SimpleNamespace(represent=lambda seen: (seen,), dynamics=moved, predict=said_of)
    starts = [line for line in map(Line, [(), (0,), (1,), (2,), (1, 2), (2, 0)]) if line.result is None]
    assert len(starts) >= 4
    by_rules, by_model = (search(network, game, starts, 200, batch=1) for network in (said_of, model))
    for root, other in zip(by_rules, by_model, strict=True):
        assert root.counts() == other.counts()
        assert root.value() == pytest.approx(other.value(), abs=1e-6)
        assert min(root.counts()) > 0
    together = search(model, game, starts, 200, batch=8)
    assert all(sum(root.counts()) == 200 for root in together)


def test_tree_of_a_muzero_network_holds_what_its_functions_in_jax_say(muzero):
    trained = model_of("muzero-conv")
    network, game = torch_module.load(muzero), torch_games.GAMES["connect_four"]()
    start = functools.reduce(game.play, [3, 3, 3, 3, 3, 3], game.start())  # column 4 is full
    (root,) = search(network, game, [start], 60, batch=4)
    assert root.actions == [0, 1, 2, 4, 5, 6]
    pairs, nodes = [], [root]
    for node in nodes:
        below = [(action, child) for action, child in zip(node.actions, node.children, strict=True) if child]
        pairs += [(node, action, child) for action, child in below]
        nodes += [child for _, child in below]
    assert len(pairs) == 60
    before = np.stack([node.state.numpy() for node, *_ in pairs])
    after = [child for *_, child in pairs]
    with jax.default_matmul_precision("highest"):
        represent, dynamics, predict = (trained.functions[f].call for f in ("represent", "dynamics", "predict"))
        first = represent(trained.params, game.observe([start]).numpy())
        told = dynamics(trained.params, before, jnp.asarray([action for _, action, _ in pairs]))
        logits, _ = predict(trained.params, told[0])
    np.testing.assert_allclose(root.state.numpy(), first[0][0], atol=1e-5)
    np.testing.assert_allclose(np.stack([child.state.numpy() for child in after]), told[0], atol=1e-5)
    np.testing.assert_allclose([child.reward for child in after], told[1], atol=1e-5)
    np.testing.assert_allclose([child.discount for child in after], told[2], atol=1e-5)
    np.testing.assert_allclose([child.priors for child in after], jax.nn.softmax(logits), atol=1e-5)


def python(*words, cwd, blocked=()):
    block = f"import sys\nfor name in {(*blocked,)!r}: sys.modules[name] = None\n"
    start = "import runpy; sys.argv = sys.argv[1:]\n"
    how = "run_module" if str(words[0]).startswith("jaxzero.") else "run_path"
    program = block + start + f"sys.path.insert(0, '.'); runpy.{how}(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-I", "-c", program, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )


NO_JAX = ("jax", "jaxlib", "flax", "optax", "mctx", "orbax", "envs")


@pytest.mark.parametrize("network", ["model", "muzero"])
def test_copied_files_play_where_jax_and_numpy_are_missing(network, request, tmp_path, capsys):
    model = request.getfixturevalue(network)
    for name in ("play_torch.py", "torch_games.py", "torch_module.py"):
        shutil.copy(FOLDER / name, tmp_path)
    words = (model, "--move", "4 4 3", "--simulations", "40")
    result = python("play_torch.py", *words, cwd=tmp_path, blocked=(*NO_JAX, "numpy", "jaxzero"))
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    play_torch.main([*map(str, words)])
    assert said == json.loads(capsys.readouterr().out)
    assert sum(said["visits"].values()) == said["simulations"] == 40
    assert said["visits"][said["move"]] == max(said["visits"].values())
    assert said["action"] == int(said["move"]) - 1
    assert sum(said["policy"].values()) == pytest.approx(1, abs=1e-5)
    assert -1 <= said["value"] <= 1


def test_module_of_the_package_plays_where_jax_is_missing(model):
    words = ("jaxzero.export.standalone.play_torch", model, "--move", "", "--simulations", "0")
    result = python(*words, cwd=FOLDER.parents[2], blocked=NO_JAX)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["simulations"] == 0


def test_without_torch_one_line_says_what_to_install(model):
    result = python(FOLDER / "play_torch.py", model, cwd=FOLDER, blocked=("torch",))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: PyTorch is missing: pip install torch\n"


def altered(model, tmp_path, **changes):
    contents = torch.load(model, weights_only=True)
    contents["metadata"] |= changes
    torch.save(contents, tmp_path / "altered.pt")
    return tmp_path / "altered.pt"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.pt"], r"missing\.pt"),
        (["{model}", "--move", "4 9"], r"'9' is not a legal move here; legal: 1, 2, 3, 4, 5, 6, 7"),
        (["{model}", "--move", "1 1 1 1 1 1 1"], r"'1' is not a legal move here; legal: 2, 3"),
        (["{model}", "--move", "1 2 1 2 1 2 1 2"], r"move '2' after the end of the game"),
        (["{model}", "--move", "1 2 1 2 1 2 1"], r"the game is over"),
        (["{model}", "--simulations", "-1"], r"a whole number from 0 on, of up to 9 digits, not '-1'"),
        (["{model}", "--batch", "0"], r"a whole number from 1 on, of up to 9 digits, not '0'"),
        (["{model}", "--simulations", "9" * 5000], r"of up to 9 digits, not '9999"),
        (["{model}", "--move", "x" * 5000], r"'x{400}"),
        (["{model}", "--device", "abacus", "--move", ""], r"abacus"),
        (["{model}", "--rules", "nowhere.py:make"], r"--rules nowhere.py:make: no such Python file"),
        (["{chess}", "--move", ""], r"no rules of chess here, only of tic_tac_toe, .*; give yours as --rules"),
        (["{hexagons}", "--move", ""], r"the rules of connect_four do not know its options \{'size': 3\}"),
        (["{endless}", "--move", ""], r"rules of hex do not know .*'size': 1000000000\}: a board has 3 to 26"),
        (["{nameless}", "--move", ""], r"the file does not say which game it is for"),
        (["{odd}", "--move", ""], r"no rules of \['hex'\] here"),
        (["{model}", "--rules", "{broken}:make"], r"--rules .*: ZeroDivisionError: division by zero"),
        (
            ["{other}", "--move", ""],
            r"sees \[6, 7, 2\] and knows 7 actions, the rules of tic_tac_toe \[3, 3, 2\] and 9",
        ),
    ],
)
def test_mistakes_are_one_line(model, tmp_path, capsys, words, message):
    files = {
        "chess": {"name": "chess", "options": {}},
        "hexagons": {"name": "connect_four", "options": {"size": 3}},
        "other": {"name": "tic_tac_toe", "options": {}},
        "endless": {"name": "hex", "options": {"size": 10**9}},
        "nameless": {},
        "odd": {"name": ["hex"], "options": {}},
    }
    (tmp_path / "broken.py").write_text("1 / 0\n")
    words = [text.replace("{broken}", str(tmp_path / "broken.py")) for text in words]
    word = words[0].strip("{}")
    path = altered(model, tmp_path, game=files[word]) if word in files else model if word == "model" else word
    with pytest.raises(SystemExit) as raised:
        play_torch.main([str(path), *words[1:]])
    assert raised.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert len(error) <= 510
    assert re.search(message, error), error


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 8, 9])
def test_answers_that_are_no_numbers_are_refused(wrong, place):
    def broken(observation):
        said = torch.zeros(len(observation), 10)
        said[:, place] = wrong
        return said[:, :9], said[:, 9]

    with pytest.raises(ValueError, match="the network's answers are no numbers; it cannot play"):
        search(broken, TIC_TAC_TOE, [TIC_TAC_TOE.start()], 8)


def test_weights_that_are_not_finite_do_not_play(model, tmp_path, capsys):
    contents = torch.load(model, weights_only=True)
    contents["state_dict"]["stem.bias"][0] = math.nan
    contents["metadata"]["weights_sha256"] = torch_module.digest(contents["state_dict"])
    torch.save(contents, path := tmp_path / "n.pt")
    with pytest.raises(SystemExit):
        play_torch.main([str(path), "--move", ""])
    assert capsys.readouterr().err == f"error: {path}: stem.bias is not finite\n"


@pytest.mark.parametrize("size", [10**9, 1000, 27, 2, 0, -6, True, 6.0, "6", None])
@pytest.mark.parametrize("name", ["gomoku", "othello", "hex"])
def test_boards_that_are_none_are_refused_before_they_are_made(name, size):
    with pytest.raises((ValueError, TypeError)):
        torch_games.GAMES[name](size=size)


def test_network_of_a_game_of_chance_is_refused(tmp_path, capsys):
    formats.load("pt").write(path := tmp_path / "n.pt", model_of("muzero-mlp-codes"), "")
    with pytest.raises(SystemExit):
        play_torch.main([str(path), "--move", ""])
    assert capsys.readouterr().err.startswith("error: the network models a game of chance; games without chance can be")


def test_rules_of_the_users_own(model, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from jaxzero.export.standalone.torch_games import ConnectFour\n"
        "class Mine(ConnectFour):\n"
        "    def name(self, action): return 'abcdefg'[action]\n"
    )
    path = altered(model, tmp_path, game={"name": "mine", "options": {}})
    play_torch.main([str(path), "--rules", f"{tmp_path / 'mine.py'}:Mine", "--move", "d d", "--simulations", "8"])
    assert json.loads(capsys.readouterr().out)["move"] in list("abcdefg")
    with pytest.raises(SystemExit):
        play_torch.main([str(path), "--rules", f"{tmp_path / 'mine.py'}:Yours", "--move", ""])
    assert "defines no 'Yours'" in capsys.readouterr().err


@pytest.mark.parametrize("second", [False, True])
def test_a_game_in_the_terminal(model, monkeypatch, capsys, second):
    """A person who plays the first legal column, after one slip, until the game is over."""
    tries = iter(["nine", *"1234567" * 42])
    monkeypatch.setattr("builtins.input", lambda prompt: next(tries))
    play_torch.main([str(model), "--simulations", "8", *["--second"] * second])
    out = capsys.readouterr().out
    assert "'nine' is not a legal move here; legal: 1, 2" in out
    assert "The network plays" in out
    assert out.strip().split("\n")[-1] in ("X has won.", "O has won.", "Drawn.")


def test_end_of_input_ends_the_game(model, monkeypatch, capsys):
    def nothing(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", nothing)
    play_torch.main([str(model)])
    assert capsys.readouterr().out.endswith("\n")
