"""Plays with an exported network in PyTorch alone: copy this file, `torch_games.py` and `torch_module.py` anywhere, no
JAX is needed.

    python play_torch.py MODEL.pt                   # a game in the terminal
    python play_torch.py MODEL.pt --move "4 4 3"    # the reply to these moves, as JSON

It knows the rules of tic_tac_toe, connect_four, gomoku, othello and hex; not of chess, Go and others. Any other game of
two players without chance: `--rules my_rules.py:make`, where `make(**options)` gives an object like
`torch_games.Game`. From Python:

    network, game = load("MODEL.pt"), GAMES["connect_four"]()
    root = search(network, game, [game.start()], simulations=128)[0]
    print(game.name(root.best()), root.value())

The search is PUCT (Silver et al. 2018) over many positions at once; in each it collects several leaves for one call of
the network, and counts a leaf still to be evaluated as lost, so that the next descent looks elsewhere (virtual loss).
A network that models its game (MuZero) looks ahead in its model and asks the rules for legal moves at the root alone.
"""

import argparse
import importlib.util
import json
import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    print("error: PyTorch is missing: pip install torch", file=sys.stderr)
    sys.exit(2)

if __package__:
    from jaxzero.export.standalone.torch_games import GAMES, Game
    from jaxzero.export.standalone.torch_module import load
else:  # copied out of the project, or run as a file
    from torch_games import GAMES, Game
    from torch_module import load

Network = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Observations f32[B, …] -> policy logits [B, A] and values [B] in [-1, 1] for the player to move."""

C_PUCT = 1.5  # how much a prior weighs against values in [-1, 1]


class Node:
    """A state in the tree. Children stand in the order of `actions`; those not yet visited are None.

    To the player whose move leads here it returns reward + discount · what it returns to the player who moves here;
    the discount is 1 if that is the same player, -1 if the other, 0 if the game is over.
    """

    __slots__ = ("actions", "children", "discount", "pending", "priors", "reward", "state", "total", "visits")

    def __init__(self, state: Any, reward: float = 0.0, discount: float = 1.0):
        self.state, self.reward, self.discount = state, reward, discount
        self.actions: list[int] = []  # until evaluated
        self.priors: list[float] = []
        self.children: list[Node | None] = []
        self.visits = 0
        self.total = 0.0  # of the returns of all visits, to the player who moves here
        self.pending = 0  # descents through this node that wait for the network

    def value(self) -> float:
        """Mean return for the player to move, in [-1, 1]."""
        return self.total / self.visits

    def counts(self) -> list[int]:
        return [child.visits if child else 0 for child in self.children]

    def best(self) -> int:
        """The action visited most; among equals, and without a search, the likeliest one."""
        keys = zip(self.counts(), self.priors, strict=True)
        return self.actions[max(enumerate(keys), key=lambda item: (item[1], -item[0]))[0]]

    def select(self) -> int:
        """Index of the child with the highest value + exploration; one not yet visited is worth what this node is."""
        value = self.value()
        explore = C_PUCT * math.sqrt(self.visits + self.pending)
        highest, index = -math.inf, 0
        for i, (child, prior) in enumerate(zip(self.children, self.priors, strict=True)):
            if child is None:
                score = value + explore * prior
            else:
                visits = child.visits + child.pending
                returns = child.visits * child.reward + child.discount * child.total
                score = (returns - child.pending) / visits + explore * prior / (1 + visits)
            if score > highest:
                highest, index = score, i
        return index


Evaluated = tuple[Sequence[Sequence[int]], Tensor, Tensor]
"""Actions, policy logits [N, A] and values [N] of N nodes."""


class Rules:
    """States are positions: the rules make them, the network judges them."""

    def __init__(self, network: Any, game: Game, device: str):
        self.network, self.game, self.device = network, game, device

    def observe(self, nodes: Sequence[Node]) -> Tensor:
        return self.game.observe([node.state for node in nodes]).to(self.device)

    def after(self, node: Node, action: int) -> Node:
        position = self.game.play(node.state, action)
        sign = 1 - 2 * node.state.player
        if position.result is not None:
            return Node(position, float(sign * position.result), 0.0)
        return Node(position, 0.0, float(sign * (1 - 2 * position.player)))

    def evaluate(self, leaves: Sequence[Node]) -> Evaluated:
        logits, values = self.network(self.observe(leaves))
        return [self.game.legal(leaf.state) for leaf in leaves], logits, values

    evaluate_roots = evaluate


class Learned(Rules):
    """States are latents of a network that models the game; before they are evaluated, the latent and the action that
    lead there. Only at the root the rules are asked; below it every action may be tried."""

    def after(self, node: Node, action: int) -> Node:
        return Node((node.state, action))

    def evaluate(self, leaves: Sequence[Node]) -> Evaluated:
        before, actions = zip(*(leaf.state for leaf in leaves), strict=True)
        chosen = torch.tensor(actions, device=self.device)
        latents, rewards, discounts = self.network.dynamics(torch.stack(before), chosen)
        for leaf, *facts in zip(leaves, latents, rewards.tolist(), discounts.tolist(), strict=True):
            leaf.state, leaf.reward, leaf.discount = facts
        logits, values = self.network.predict(latents)
        return [range(self.game.num_actions)] * len(leaves), logits, values

    def evaluate_roots(self, roots: Sequence[Node]) -> Evaluated:
        legal = [self.game.legal(root.state) for root in roots]
        (latents,) = self.network.represent(self.observe(roots))
        for root, latent in zip(roots, latents, strict=True):
            root.state = latent
        logits, values = self.network.predict(latents)
        return legal, logits, values


def descend(tree: Rules, root: Node) -> list[Node]:
    """The path from the root to a node to evaluate, or to the end of a game."""
    path = [root]
    while path[-1].actions:
        node = path[-1]
        index = node.select()
        child = node.children[index]
        if child is None:
            child = node.children[index] = tree.after(node, node.actions[index])
        path.append(child)
    return path


def back_up(path: list[Node], value: float) -> None:
    """`value`: to the player who moves at the end of the path."""
    for node in reversed(path):
        node.visits += 1
        node.total += value
        value = node.reward + node.discount * value


def expand(paths: list[list[Node]], evaluated: Evaluated) -> None:
    """Gives the last nodes of the paths what the network says of them, and backs it up."""
    actions, logits, values = evaluated
    for path, allowed, scores, value in zip(paths, actions, logits.tolist(), values.tolist(), strict=True):
        leaf = path[-1]
        leaf.actions = list(allowed)
        most = max(scores[action] for action in leaf.actions)
        weights = [math.exp(scores[action] - most) for action in leaf.actions]
        total = sum(weights)
        if not math.isfinite(total + value):
            raise ValueError("the network's answers are no numbers; it cannot play")
        leaf.priors = [weight / total for weight in weights]
        leaf.children = [None] * len(leaf.actions)
        back_up(path, value)


@torch.inference_mode()
def search(
    network: Network, game: Game, positions: Sequence[Any], simulations: int = 128, batch: int = 8, device: str = "cpu"
) -> list[Node]:
    """The roots of a tree for each position; a call of the network takes up to `batch` leaves of each tree.

    Args:
        network: one with `represent`, `dynamics` and `predict` (`torch_module.MuZero`) looks ahead by these.
        device: where the network is.

    Raises:
        ValueError: a game is over.
    """
    if any(position.result is not None for position in positions):
        raise ValueError("the game is over")
    tree = (Learned if hasattr(network, "dynamics") else Rules)(network, game, device)
    roots = [Node(position) for position in positions]
    if roots:
        expand([[root] for root in roots], tree.evaluate_roots(roots))
    done = [0] * len(roots)
    while min(done, default=simulations) < simulations:
        waiting: list[list[Node]] = []
        for i, root in enumerate(roots):
            for _ in range(min(batch, simulations - done[i])):
                path = descend(tree, root)
                if path[-1].pending:  # a second time at the same leaf: better ask the network first
                    break
                done[i] += 1
                if path[-1].discount == 0:  # the end of a game
                    back_up(path, 0.0)
                    continue
                waiting.append(path)
                for node in path:
                    node.pending += 1
        if waiting:
            expand(waiting, tree.evaluate([path[-1] for path in waiting]))
        for path in waiting:
            for node in path:
                node.pending -= 1
    return roots


def parse(game: Game, position: Any, text: str) -> int:
    """The legal action of that name. ValueError: there is none."""
    if position.result is not None:
        raise ValueError(f"move {text!r} after the end of the game")
    names = {game.name(action): action for action in game.legal(position)}
    if text.lower() not in names:
        raise ValueError(f"{text!r} is not a legal move here; legal: {', '.join(names)}")
    return names[text.lower()]


def report(game: Game, root: Node) -> dict[str, Any]:
    """What a search found, by names of moves, likeliest first; values as the player to move sees them."""
    rows = sorted(zip(root.counts(), root.priors, map(game.name, root.actions), strict=True), reverse=True)
    return {
        "move": game.name(root.best()),
        "action": root.best(),
        "value": round(root.value(), 6),
        "simulations": sum(root.counts()),
        "visits": {name: count for count, _, name in rows},
        "policy": {name: round(prior, 6) for _, prior, name in rows},
    }


def rules(metadata: dict[str, Any], source: str | None) -> Game:
    """The game of a network. ValueError: it has no rules here, or they do not fit the network."""
    try:
        name, options = metadata["game"]["name"], dict(metadata["game"]["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the file does not say which game it is for") from error
    sees, knows = metadata["observation_shape"], metadata["num_actions"]
    if metadata["network"].get("codes"):
        raise ValueError("the network models a game of chance; games without chance can be played here")
    if source:
        make = own_rules(source)
    elif name in list(GAMES):
        make = GAMES[name]
    else:
        known = ", ".join(GAMES)
        raise ValueError(f"no rules of {str(name)[:80]} here, only of {known}; give yours as --rules FILE.py:NAME")
    try:
        game = make(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the rules of {name} do not know its options {repr(options)[:80]}: {error}") from error
    if (sees, knows) != (list(game.observation_shape), game.num_actions):
        theirs = f"{list(game.observation_shape)} and {game.num_actions}"
        raise ValueError(f"the network sees {sees} and knows {knows} actions, the rules of {name} {theirs}")
    return game


def own_rules(source: str) -> Callable[..., Game]:
    """What FILE.py:NAME defines. ValueError: no such file or name, or an error in the file."""
    file, _, attribute = source.partition(":")
    spec = importlib.util.spec_from_file_location("rules", file)
    if not pathlib.Path(file).is_file() or spec is None or spec.loader is None:
        raise ValueError(f"--rules {source}: no such Python file; give FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"--rules {source}: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, attribute, None)):
        raise ValueError(f"--rules {source}: {file} defines no {attribute!r}")
    return getattr(module, attribute)


def converse(game: Game, think: Callable[[Any], Node], human: int) -> None:
    """A game in the terminal."""
    position = game.start()
    while position.result is None:
        print(f"\n{game.show(position)}\n")
        if position.player == human:
            text = input(f"{'XO'[human]}, your move (or quit): ").strip()
            if text == "quit":
                return
            try:
                action = parse(game, position, text)
            except ValueError as error:
                print(error)
                continue
        else:
            root = think(position)
            action = root.best()
            print(f"The network plays {game.name(action)}; it expects {root.value():+.2f}.")
        position = game.play(position, action)
    print(f"\n{game.show(position)}\n")
    print("Drawn." if position.result == 0 else f"{'XO'[position.result < 0]} has won.")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        self.exit(2, f"error: {text if len(text) <= 500 else text[:499] + '…'}\n")


def number(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not text.isdecimal() or len(text) > 9 or int(text) < least:
            raise argparse.ArgumentTypeError(f"a whole number from {least} on, of up to 9 digits, not {text!r}")
        return int(text)

    return convert


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser(description="Play against an exported network.", allow_abbrev=False)
    parser.add_argument("model", help="a .pt file of jaxzero export")
    parser.add_argument("--move", metavar="MOVES", help="print the reply to these moves (with spaces between) as JSON")
    parser.add_argument("--simulations", type=number(0), default=128, help="0 = the network's policy alone")
    parser.add_argument("--batch", type=number(1), default=8, help="leaves for one call of the network")
    parser.add_argument("--second", action="store_true", help="let the network begin")
    parser.add_argument("--device", default="cpu", help="cuda, mps, …")
    parser.add_argument("--rules", metavar="FILE.py:NAME", help="rules of another game")
    options = parser.parse_args(arguments)
    try:
        network = load(options.model)
        game = rules(network.metadata, options.rules)
        network.to(options.device)
        position = game.start()
        for text in (options.move or "").split():
            position = game.play(position, parse(game, position, text))

        def think(position: Any) -> Node:
            return search(network, game, [position], options.simulations, options.batch, options.device)[0]

        if options.move is None:
            converse(game, think, int(options.second))
        else:
            print(json.dumps(report(game, think(position))))
    except (EOFError, KeyboardInterrupt):
        print()
    except FileNotFoundError as error:
        parser.error(f"{error.filename}: no such file; give a .pt file of jaxzero export")
    except (OSError, ValueError, RuntimeError, AssertionError) as error:  # the last two: no such device
        parser.error(str(error))


if __name__ == "__main__":
    main()
