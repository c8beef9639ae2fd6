"""Pictures of runs: their colours and lines, and what is left out."""

import math

import numpy as np
import pytest
from matplotlib.image import imread

from jaxzero.runs import plot


def run_rows(count, every=0):
    rows = []
    for i in range(1, count + 1):
        row = {"iteration": i, "seconds": 3.0 * i, "positions": 1000 * i, "loss": 3 / i, "policy_loss": 2 / i}
        row |= {"value_loss": 1 / i, "value_error": 0.5, "game_length": 20 + i % 3}
        row |= {"first_player_wins": 0.5, "draws": 0.125, "second_player_wins": 0.375}
        rows.append(row | ({"eval/random/score": 0.9, "eval/minimax:2/score": 0.4} if every and i % every == 0 else {}))
    return rows


def colours(path, top, left):
    """The colours in one of the four panels, after checking that the picture decodes to its size."""
    picture = imread(path)
    assert picture.shape == (825, 1320, 4)
    half = picture[(slice(60, 412) if top else slice(412, 780)), (slice(0, 655) if left else slice(665, None)), :3]
    return set(np.unique((half * 255).round().astype(int) @ [1 << 16, 1 << 8, 1]).tolist())


def rgb(colour):
    return int(colour[1:], 16)


@pytest.mark.parametrize(("count", "every"), [(1, 1), (40, 0), (10_000, 20)])
def test_learning_curve_draws_what_there_is(tmp_path, count, every):
    path = tmp_path / "learning_curve.png"
    plot.learning_curve(run_rows(count, every), path, "run_1 $5")
    evaluation = colours(path, top=True, left=True)
    assert (rgb(plot.BLUE) in evaluation) == (rgb(plot.ORANGE) in evaluation) == bool(every)
    assert {rgb(plot.BLUE), rgb(plot.RED)} <= colours(path, top=True, left=False)
    assert {rgb(plot.PURPLE), rgb(plot.GREEN)} <= colours(path, top=False, left=True)
    assert [each.name for each in tmp_path.iterdir()] == ["learning_curve.png"]


def test_comparison_has_a_colour_for_each_run_that_has_points(tmp_path):
    path = tmp_path / "comparison.png"
    runs = {name: [row | {"games": i} for i, row in enumerate(run_rows(40, 5))] for name in ("one", "two")}
    plot.comparison(runs | {"none": []}, ["eval/random/score"], path)
    picture = (imread(path)[..., :3] * 255).round().astype(int) @ [1 << 16, 1 << 8, 1]
    for half in (picture[:, : picture.shape[1] // 2], picture[:, picture.shape[1] // 2 :]):
        found = set(np.unique(half).tolist())
        # The same numbers: the later run lies over the earlier.
        assert rgb(plot.ORANGE) in found
        assert rgb(plot.GREEN) not in found
    assert [each.name for each in tmp_path.iterdir()] == ["comparison.png"]


def test_learning_curve_without_rows_keys_or_numbers(tmp_path):
    path = tmp_path / "learning_curve.png"
    plot.learning_curve([], path)
    assert rgb(plot.RED) not in colours(path, top=True, left=False)
    rows = run_rows(9)
    rows[3] |= {"draws": None, "policy_loss": math.nan, "value_error": math.inf}
    rows[4] = {"iteration": 5}
    rows = [{key: value for key, value in row.items() if key not in ("value_loss", "positions")} for row in rows]
    plot.learning_curve(rows, path)
    losses = colours(path, top=True, left=False)
    assert rgb(plot.BLUE) in losses
    assert rgb(plot.RED) not in losses


def test_runs_with_one_evaluation_each_are_told_apart(tmp_path, monkeypatch):
    """Every line of a comparison differs in its marker, runs in their colour too."""
    figures = []
    monkeypatch.setattr(plot, "_save", lambda figure, path: figures.append(figure))
    row = {"iteration": 1, "seconds": 60.0, "games": 10, "eval/random/score": 0.5, "eval/greedy/score": 0.5}
    plot.comparison({"one": [row], "two": [row]}, ["eval/random/score", "eval/greedy/score"], tmp_path / "x.png")
    for axes in figures[0].axes:
        looks = {line.get_label(): (line.get_color(), line.get_marker()) for line in axes.lines}
        assert len({marker for _, marker in looks.values()}) == 4
        colours = [looks[f"{run}: {player}"][0] for run in ("one", "two") for player in ("random", "greedy")]
        assert colours[0] == colours[1] != colours[2] == colours[3]


@pytest.mark.parametrize("value", [1e308, -1e308, 10**18, True, "x", [], {}, None])
def test_odd_numbers_are_drawn_or_left_out(tmp_path, value):
    rows = [{"iteration": i, "seconds": i, "games": i, "positions": i, "loss": 1 / i} for i in range(1, 40)]
    for key in ("seconds", "positions", "loss", "game_length", "draws", "eval/random/score", "oracle/policy_moves"):
        odd = [row | {key: value} if i % 2 else row for i, row in enumerate(rows)]
        plot.learning_curve(odd, tmp_path / "x.png")
        plot.comparison({"a": odd, "b": rows}, [key], tmp_path / "x.png")
