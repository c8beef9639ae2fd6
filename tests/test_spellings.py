"""What is answered to options of other trainers and to slips."""

import re

import pytest

from jaxzero.cli import spellings
from jaxzero.cli.app import COMMANDS, make_app

OTHERS = {  # what the commands of other trainers are called with -> what does it here
    "train": {
        "--lr": "--learner.lr",
        "--batch_size": "--learner.batch",
        "--weight-decay": "--learner.weight_decay",
        "--games_per_iteration": "--selfplay.games",
        "--num_simulations": "--search.simulations",
        "--num_epochs": "--learner.replay_ratio",
        "--num-workers": "--devices",
        "--temperature": "--search.temperature",
        "--training_iterations": "--iterations",
        "--save_checkpoint_every": "--checkpoint.every",
        "--hidden_dim": "--network.hidden_dim",
        "--model-path": "--init-from",
        "--search-widths": "--search.kind minimax --search.widths",
        "--max-samples": "--data.positions",
        "--skip-files": "--data.sources",
        "--exploration-rate": "--search.epsilon",
        "--grad-accum-steps": "--learner.accumulate",
        "--mcts-cpuct=1.5": "--search.kind puct --search.c_puct",
        "--no-amp": "--network.dtype float32",
        "--producer-workers": "--devices",
        "--numMCTSSims": "--search.simulations",
        "--threshold": "--promotion.threshold",
        "--learner.btach": "--learner.batch",
    },
    "match": {"--num-games": "--games", "--num_simulations": "RUN:SIMULATIONS"},
    "evaluate": {"--num_simulations": "--simulations"},
}


def options(command: str) -> list[str]:
    arguments = make_app(command)[command].assemble_argument_collection()
    return [name for argument in arguments for name in argument.names]


@pytest.mark.parametrize("command", list(OTHERS))
def test_spellings_of_others_are_answered(command):
    known = options(command)
    for old, new in OTHERS[command].items():
        assert old.split("=")[0] not in known
        name = old.split("=")[0]
        assert spellings.answer(old, known).startswith(f"there is no option {name}; use {new}")


@pytest.mark.parametrize("nonsense", ["--zork", "--network.widht", "--cache", "-x"])
def test_a_poor_match_is_no_hint(nonsense):
    assert "use" not in spellings.answer(nonsense, options("train"))


def test_every_answer_names_options_that_exist():
    """Of any command; stages of `jaxzero data` are commands of their own."""
    data = make_app("data")["data"]
    known = {name for command in ("train", "match", "evaluate") for name in options(command)}
    for stage in data:
        if not stage.startswith("-"):
            known |= {name for argument in data[stage].assemble_argument_collection() for name in argument.names}
    used = {name for texts in spellings.ELSEWHERE.values() for text in texts for name in re.findall(r"--[\w.-]+", text)}
    assert {name.replace("--data.no-shuffle", "--data.shuffle") for name in used} <= known
    assert "data" in COMMANDS["data"]


def test_the_command_line_answers(run):
    status, _, message = run("train", "tic_tac_toe_test", "--lr", "3")
    assert (status, message) == (2, "error: there is no option --lr; use --learner.lr\n")
