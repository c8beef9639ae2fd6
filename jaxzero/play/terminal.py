"""`jaxzero play`: a person at the terminal against a player; also through pipes."""

import contextlib
import secrets
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.text import Text

from envs import GAMES, Env, host
from jaxzero import records
from jaxzero.config.games import make_env
from jaxzero.config.schema import GameConfig
from jaxzero.evaluation import analysis, arena, players
from jaxzero.evaluation.analysis import Analysis
from jaxzero.evaluation.base import Contestant, HostPlayer, HostPositions
from jaxzero.messages import ConfigError
from jaxzero.play.table import Table
from jaxzero.runs import folder as folder_lib

CANDIDATES = 8  # shown by a hint
WIDTH = 160  # of a line that says what is wrong with a move; what it lists beyond is left out


class Rival(NamedTuple):
    """Who plays the other side. `think(key, state, names of the moves so far) -> (action, None if it gives up; what it
    thinks of the position [1], None if it does not tell)`."""

    name: str
    about: str
    think: Callable[[jax.Array, Any, list[str]], tuple[int | None, Analysis | None]]
    at: Callable[[int], "Rival"] | None = None  # the same with so many simulations a move, where it has any


class Conversation:
    """What is said at a table. `COMMANDS` are its methods by name, their docstrings the help."""

    def __init__(self, game: GameConfig, env: Env, rival: Rival, side: int, seed: int):
        self.game, self.env, self.rival, self.side, self.seed = game, env, rival, side, seed
        self.console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.table, self.shown, self.running = Table(env, seed), "", True

    def run(self) -> None:
        """Until `quit` or the end of the input."""
        about = f" ({self.rival.about})" * bool(self.rival.about)
        relation = "against" if self.env.num_players > 1 else "with"
        self.say(
            f"{self.env.name} {relation} {self.rival.name}{about}. {self.seat()}\nA move, or {', '.join(COMMANDS)}."
        )
        self.show_board()
        try:
            while self.running:
                if not self.table.over and not self.my_turn():
                    self.move_by_rival(self.rival.name)
                else:
                    self.answer(self.ask())
        except EOFError:
            self.say("end of input")

    def answer(self, line: str) -> None:
        """A move or a command; moves come first, should a command have the name of one. Enter plays the only move."""
        word, _, rest = line.strip().partition(" ")
        if not word:
            if not self.table.over and len(self.table.legal) == 1:
                self.move(self.table.legal[0], "you")
            return
        action, problem = self.read_move(line.strip())
        if action is not None:
            self.move(action, "you")
        elif word in COMMANDS:
            COMMANDS[word](self, rest.strip())
        else:
            self.say(f"{problem}; commands: {', '.join(COMMANDS)}")

    def read_move(self, text: str) -> tuple[int | None, str]:
        """The action, or None and one line that says why there is none."""
        if self.table.over:
            return None, f"{self.env.name}: move {text!r} after the end of the game"
        try:
            return self.table.read(text), ""
        except ValueError as error:
            return None, textwrap.shorten(str(error), WIDTH, placeholder=" …")

    # Commands

    def hint(self, _: str) -> None:
        """what the network thinks of your moves"""
        if self.table.over:
            return self.say("The game is over.")
        action, found = self.think()
        if found is None:
            return self.say(f"{self.rival.name} gives no hints.")
        visits, prior, qvalues = (np.asarray(x)[0] for x in (found.visits, found.prior, found.qvalues))
        name = self.table.name
        best = [a for a in np.lexsort((-prior, -visits)) if a in self.table.legal][:CANDIDATES]
        width = max(4, *(len(name(int(a))) for a in best))
        searched = bool(visits.any())
        self.say(f"{'move':<{width}}" + "  visits" * searched + "   prior" + "   value" * searched)
        for a in best:
            middle, end = (f"{visits[a]:8.0f}", f"{qvalues[a]:+8.2f}" if visits[a] else "") if searched else ("", "")
            self.say(f"{name(int(a)):<{width}}{middle}{prior[a]:8.1%}{end}")
        assert action is not None
        self.say(f"Value for you {float(found.value[0]):+.2f}; {self.rival.name} would play {name(action)}.")

    def undo(self, _: str) -> None:
        """take back your last move and the answers to it"""
        given_up, self.table.resigned = self.table.resigned, None
        if given_up != self.side:
            if all(int(turn.before.player) != self.side for turn in self.table.turns):
                self.table.resigned = given_up
                return self.say("There is nothing to take back.")
            self.table.undo()
            while not self.my_turn():
                self.table.undo()
        self.show_board()

    def moves(self, _: str) -> None:
        """list the legal moves"""
        legal = [] if self.table.over else self.table.legal
        self.say(" ".join(self.table.name(action) for action in legal) or "The game is over.")

    def go(self, _: str) -> None:
        """let the network play this move for you"""
        if self.table.over:
            return self.say("The game is over.")
        self.move_by_rival(f"{self.rival.name} for you")

    def sides(self, _: str) -> None:
        """change sides"""
        self.side = (self.side + 1) % self.env.num_players
        self.say(self.seat())

    def strength(self, text: str) -> None:
        """SIMULATIONS: how many the network has for a move from now on; 0 = its raw policy"""
        if self.rival.at is None:
            return self.say(f"{self.rival.name} has no simulations to change.")
        try:
            self.rival = self.rival.at(players.count(text, "SIMULATIONS", 0, players.SIMULATIONS))
        except ValueError as error:
            return self.say(f"strength: {error}")
        self.say(f"{self.rival.name} ({self.rival.about})")

    def resign(self, _: str) -> None:
        """give the game up"""
        if self.table.over:
            return self.say("The game is over.")
        self.table.resigned = self.side
        self.say_result()

    def save(self, file: str) -> None:
        """FILE: write the game so far"""
        path = Path(file)
        if not file:
            return self.say(
                f"save FILE, a name that ends in {' or '.join(records.suffixes(self.game.source or self.game.name))}"
            )
        if path.exists():
            return self.say(f"{path} exists; choose another name.")
        try:
            names = ["you" if player == self.side else self.rival.name for player in range(self.env.num_players)]
            headers = dict(zip(records.format_of(path).players, names, strict=False))
            records.write(path, [self.table.record(self.game, headers)])
        except (OSError, ValueError) as error:
            return self.say(" ".join(f"not saved: {error}".split()))
        self.say(f"saved in {path}")

    def new(self, _: str) -> None:
        """begin another game, from the other side"""
        self.seed += 1
        self.side = (self.side + 1) % self.env.num_players
        self.table = Table(self.env, self.seed)
        self.say(self.seat())
        self.show_board()

    def board(self, _: str) -> None:
        """show the board again"""
        self.show_board()

    def help(self, _: str) -> None:
        """this list"""
        width = max(map(len, COMMANDS)) + 2
        for name, command in COMMANDS.items():
            self.say(f"{name:<{width}}{command.__doc__}")

    def quit(self, _: str) -> None:
        """end"""
        self.running = False

    # What they are made of

    def my_turn(self) -> bool:
        return self.table.mover == self.side

    def seat(self) -> str:
        if self.env.num_players == 1:
            return "You play alone."
        mark = f", as {self.env.marks[self.side]}" if self.env.marks else ""
        return f"You move {('first', 'second')[self.side]}{mark}."

    def think(self) -> tuple[int | None, Analysis | None]:
        """The rival's choice for the side to move, and its analysis if it tells."""
        key = jax.random.fold_in(self.table.dice(), 1)
        with self.console.status(f"{self.rival.name} is thinking", spinner="line"):  # ASCII
            return self.rival.think(key, self.table.state, [turn.name for turn in self.table.turns])

    def move_by_rival(self, who: str) -> None:
        action, found = self.think()
        if action is None:
            self.table.resigned = self.table.mover
            self.say(f"{who} gives the game up.")
            return self.say_result()
        self.move(action, who, "" if found is None else f" (value for it {float(found.value[0]):+.2f})")

    def move(self, action: int, who: str, remark: str = "") -> None:
        self.say(f"{who}: {self.table.name(action)}{remark}")
        self.table.play(action)
        self.show_board()
        if self.table.over:
            self.say_result()

    def say_result(self) -> None:
        totals, plies = self.table.totals(), len(self.table.turns)
        if self.env.num_players == 1:
            verdict = f"{totals[0]:,.0f} points"
        elif totals.min() == totals.max():
            verdict = "a draw"
        else:
            verdict = "you win" if totals[self.side] == totals.max() else f"{self.rival.name} wins"
        self.say(f"Game over after {plies} plies: {verdict}. undo, new, save FILE or quit.")

    def ask(self) -> str:
        only = ""
        if not self.table.over and len(self.table.legal) == 1:
            only = f" (only {self.table.name(self.table.legal[0])}: Enter plays it)"
        prompt = "> " if self.table.over else f"move {len(self.table.turns) + 1}{only}> "
        try:
            if sys.stdin.isatty():
                return input(prompt)
            line = input()
        except OSError as error:  # of a terminal that is gone
            raise EOFError from error
        self.say(prompt + line)  # a transcript shows what came through the pipe
        return line

    def show_board(self) -> None:
        """What has changed since the board was last shown is marked, where the terminal can."""
        board = self.env.to_board(self.table.state)
        text = Text(board)
        if len(board) == len(self.shown):
            for i, (old, new) in enumerate(zip(self.shown, board, strict=True)):
                if old != new and not new.isspace():
                    text.stylize("reverse", i, i + 1)
        self.shown = board
        self.console.print(text)

    def say(self, text: str) -> None:
        self.console.print(text)


def play(spec: str, game: str, options: dict[str, str], side: int, seed: int | None) -> None:
    """A person against the player that a text names, see `players.make_player`; `game` is empty for a run's own.

    Raises:
        ConfigError: no such player or game.
    """
    config = arena.game_of(game, options, (spec,)) if game or options else None
    env = config and make_env(config)
    with contextlib.ExitStack() as stack:
        if spec.partition(":")[0] not in players.KINDS:
            loaded, simulations = players.load_run(spec, env)
            config, env, rival = config or loaded.config.game, loaded.env, network_rival(spec, loaded, simulations)
        elif config is None or env is None:
            raise ConfigError(f"--game: which game shall {spec} play? known: {', '.join(GAMES)}")
        else:
            rival = other_rival(arena.opened(stack, players.make_player(spec, env)), env)
        if side >= env.num_players:
            raise ConfigError(f"--side: {env.name} has one player, who moves first")
        Conversation(config, env, rival, side, secrets.randbits(31) if seed is None else seed).run()


def network_rival(spec: str, loaded: folder_lib.Loaded, simulations: int) -> Rival:
    """One that tells what it thinks."""
    analyse = jax.jit(analysis.make(loaded.env, loaded.network, loaded.config, simulations))

    def think(key: jax.Array, state: Any, moves: list[str]) -> tuple[int, Analysis]:
        found = jax.device_get(analyse(loaded.params, key[None], alone(state)))
        return int(found.action[0]), found

    def other_strength(simulations: int) -> Rival:
        return network_rival(f"{spec.partition(':')[0]}:{simulations}", loaded, simulations)

    strength = f"{simulations} simulations" if simulations else "raw policy"
    return Rival(spec, f"iteration {loaded.step}, {strength}", think, other_strength)


def other_rival(contestant: Contestant, env: Env) -> Rival:
    player = contestant.player
    if isinstance(player, HostPlayer):

        def choose(key: jax.Array, state: Any, moves: list[str]) -> int | None:
            rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
            allowed = np.asarray(host.legal_actions(env, state))[None]
            return player.choose(HostPositions(alone(state), allowed, [moves]), rng)[0]
    else:
        play_one = jax.jit(player)

        def choose(key: jax.Array, state: Any, moves: list[str]) -> int | None:
            return int(play_one(contestant.params, key[None], alone(state))[0])

    return Rival(contestant.name, "", lambda *position: (choose(*position), None))


def alone(state: Any) -> Any:
    """A batch of one."""
    return jax.tree.map(lambda x: np.asarray(x)[None], state)


COMMANDS: dict[str, Callable[[Conversation, str], None]] = {
    command.__name__: command
    for command in (
        Conversation.hint, Conversation.undo, Conversation.moves, Conversation.go, Conversation.sides,
        Conversation.strength, Conversation.resign, Conversation.save, Conversation.new, Conversation.board,
        Conversation.help, Conversation.quit,
    )
}  # fmt: skip
