"""Elo: the fit by hand and by another optimiser, intervals by simulation, `jaxzero rate` on runs."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs as whole
from scipy.optimize import minimize

from jaxzero.evaluation import rate, rating
from jaxzero.evaluation.sprt import SCORES, expected_score
from jaxzero.messages import ConfigError

tiny, quick = whole.tiny, whole.quick


def test_two_players_by_hand():
    """20 wins of 50 pairs, 20 drawn, 10 lost: 60 of 100 points, and a game drawn: 60.5 against 40.5."""
    ratings = rating.fit({("a", "b"): [10, 0, 20, 0, 20]}, "b")
    assert ratings.players == ["a", "b"]
    assert ratings.elo == pytest.approx([400 * math.log10(60.5 / 40.5), 0])
    low, high = ratings.interval("a")
    assert low < ratings.elo[0] < high
    # By the spread of pairs: 2 · 1.96 · sd / √50 as a score, and Elo changes by 724 a point of score here.
    width = 2 * 1.96 * math.sqrt((10 * 0.6**2 + 20 * 0.1**2 + 20 * 0.4**2) / 50 / 50) * 400 / math.log(10) / (0.6 * 0.4)
    assert high - low == pytest.approx(width, rel=0.15)


def test_many_players_by_another_optimiser():
    rng = np.random.default_rng(0)
    names = ["a", "b", "c", "d", "e"]
    meetings = {
        (x, y): rng.multinomial(30, rng.dirichlet(np.ones(5))) for i, x in enumerate(names) for y in names[i + 1 :: 2]
    }

    def loss(elo):
        total = 0.0
        for (x, y), counts in meetings.items():
            p = expected_score(elo[names.index(x)] - elo[names.index(y)])
            won = 2 * counts @ SCORES
            total -= (won + 0.5) * math.log(p) + (2 * counts.sum() - won + 0.5) * math.log(1 - p)
        return total + (elo[0] / 1000) ** 2  # without it any shift would do

    wanted = minimize(loss, np.zeros(5), options={"gtol": 1e-9}).x
    ratings = rating.fit(meetings, "c")
    order = [ratings.players.index(name) for name in names]
    assert ratings.elo[order] == pytest.approx(wanted - wanted[2], abs=0.05)
    low, high = ratings.interval("a", "b")
    back = ratings.interval("b", "a")
    assert (low, high) == pytest.approx((-back[1], -back[0]))


def test_a_clean_sweep_has_a_finite_rating_and_a_wide_interval():
    ratings = rating.fit({("a", "b"): [0, 0, 0, 0, 50]}, "b")
    assert ratings.elo[0] == pytest.approx(400 * math.log10(100.5 / 0.5))
    low, high = ratings.interval("a")
    assert high - low > 150


def test_who_never_met_is_not_rated():
    with pytest.raises(ValueError, match="links c, d to a"):
        rating.fit({("a", "b"): [1] * 5, ("c", "d"): [1] * 5}, "a")


def test_intervals_hold_the_truth():
    """60 matches of 60 pairs with draws and correlation: at least 90 % of the 95 % intervals hold it, of the difference
    of two and, along a chain of three, of the ends."""
    shape = np.array([0.05, 0.15, 0.35, 0.25, 0.2])
    score = shape @ SCORES
    elo, rng, inside = 400 * math.log10(score / (1 - score)), np.random.default_rng(0), 0
    for seed in range(60):
        ratings = rating.fit(
            {("a", "b"): rng.multinomial(60, shape), ("b", "c"): rng.multinomial(60, shape)}, "c", seed
        )
        for player, against, truth in (("a", "b", elo), ("a", "c", 2 * elo)):
            low, high = ratings.interval(player, against)
            inside += low <= truth <= high
    assert inside >= 108


def test_rate_plays_only_what_is_new(tiny, run):
    config = tiny(("iterations", 3), ("checkpoint.keep", 2))
    whole.drain(config)
    folder = whole.folder_of(config)
    options = ("--games", "4", "--simulations", "0", "--anchors", "random")
    status, out, err = run("rate", str(folder), *options)
    assert (status, err) == (0, "")
    assert "1 checkpoints, of iterations 1 to 1, have been deleted" in out
    assert all(text in out for text in ("1/3", "3/3", "run@3:0"))
    content = json.loads((folder / "ratings.json").read_text())
    assert {row["player"] for row in content["ratings"]} == {"run@2:0", "run@3:0", "random"}
    assert next(row for row in content["ratings"] if row["player"] == "random")["elo"] == 0
    assert next(row for row in content["ratings"] if row["player"] == "run@3:0")["gain"]["on"] == "run@2:0"
    assert (folder / "elo.png").read_bytes().startswith(b"\x89PNG")

    status, again, _ = run("rate", str(folder), *options)
    assert "1/" not in again.partition("┏")[0]
    assert json.loads((folder / "ratings.json").read_text())["ratings"] == content["ratings"]

    whole.drain(tiny(("iterations", 4), ("checkpoint.keep", 2)))
    status, out, _ = run("rate", str(folder), *options)
    assert "2/2" in out
    assert "3/" not in out.partition("┏")[0]
    players = [row["player"] for row in json.loads((folder / "ratings.json").read_text())["ratings"]]
    assert sorted(players) == ["random", "run@2:0", "run@3:0", "run@4:0"]

    status, _, err = run("rate", str(folder), *options, "--opening-plies", "2")
    assert (status, err.count("\n")) == (2, 1)
    assert "--opening-plies 4" in err


def test_a_checkpoint_that_was_trained_anew_plays_anew(tmp_path):
    kept = rate.PlayedGames(tmp_path / "ratings.json", rate.RateOptions())
    a, b = (rate.Entrant(name, "run", 1, "old", lambda *_: jnp.zeros(1), lambda: None) for name in "ab")
    assert not kept.add(a)
    assert not kept.add(b)
    kept.put(a, b, np.array([1, 0, 0, 0, 0]))
    again = rate.PlayedGames(tmp_path / "ratings.json", rate.RateOptions())
    assert not again.add(a)
    assert again.pairs(a, b).sum() == 1
    assert again.add(a._replace(digest="new"))
    assert again.pairs(a, b).sum() == 0


def entrants(names):
    return [rate.Entrant(name, "run", i, name, lambda *_: jnp.zeros(1), lambda: None) for i, name in enumerate(names)]


def opened(file, players, **options):
    kept = rate.PlayedGames(file, rate.RateOptions(**options))
    for player in players:
        kept.add(player)
    return kept


def test_two_at_once_keep_the_results_of_both(tmp_path):
    """Each has read the file before the other wrote it."""
    file = tmp_path / "ratings.json"
    a, b, c, d, e = entrants("abcde")
    one, two = opened(file, (a, b, c)), opened(file, (a, b, d, e))
    one.put(a, b, np.array([1, 0, 0, 0, 1]))
    two.put(d, e, np.array([3, 0, 0, 0, 1]))
    assert {row["player"] for row in one.rated("a")} == {"a", "b"}  # d and e are not linked to a yet
    two.put(a, b, np.array([2, 0, 0, 0, 2]))
    two.put(a, d, np.array([0, 0, 1, 0, 3]))
    one.put(a, c, np.array([0, 0, 2, 0, 2]))
    assert {row["player"] for row in two.rated("a")} == set("abcde")
    content = json.loads(file.read_text())
    assert {"".join(each["players"]): each["pairs"] for each in content["meetings"]} == {
        "ab": [2, 0, 0, 0, 2], "de": [3, 0, 0, 0, 1], "ad": [0, 0, 1, 0, 3], "ac": [0, 0, 2, 0, 2],
    }  # fmt: skip
    assert set(content["players"]) == set("abcde")
    assert {row["player"] for row in one.rated("a")} == set("abcde")
    # A call that breaks off leaves the ratings of before; overwriting forgets what was there, not what comes.
    three, four = opened(file, (a, b), overwrite=True), opened(file, (a, b, c))
    four.put(b, c, np.array([1, 0, 0, 0, 0]))
    assert len(json.loads(file.read_text())["ratings"]) == 5
    three.put(a, b, np.array([0, 0, 0, 0, 1]))
    four.put(b, c, np.array([1, 1, 0, 0, 0]))
    three.rated("a")
    content = json.loads(file.read_text())
    assert {"".join(each["players"]) for each in content["meetings"]} >= {"ab", "bc"}


def test_a_result_of_another_checkpoint_is_not_kept(tmp_path):
    a, b = entrants("ab")
    one = opened(tmp_path / "ratings.json", (a, b))
    one.put(a, b, np.array([9, 0, 0, 0, 0]))
    two = opened(tmp_path / "ratings.json", (a, b._replace(digest="new")))
    two.put(a, b, np.array([1, 0, 0, 0, 0]))
    (meeting,) = json.loads((tmp_path / "ratings.json").read_text())["meetings"]
    assert meeting["pairs"] == [1, 0, 0, 0, 0]


def sound():
    names = {name: {"run": "", "iteration": 0, "digest": ""} for name in "ab"}
    row = {"player": "a", "run": "", "iteration": 0, "elo": 0.0, "interval": [0, 0]}
    meetings = [{"players": ["a", "b"], "pairs": [1, 0, 0, 0, 1]}]
    return {"zero": "a", "ratings": [row], "opening_plies": 4, "players": names, "meetings": meetings}


@pytest.mark.parametrize(
    "change",
    [
        lambda it: [it],
        lambda it: it | {"meetings": {}},
        lambda it: it | {"meetings": [{"players": ["a", "b"], "pairs": [1, 0, 0, 0]}]},
        lambda it: it | {"meetings": [{"players": ["a", "b"], "pairs": [0, 0, 0, 0, 0]}]},
        lambda it: it | {"meetings": [{"players": ["a", "b"], "pairs": [-1, 0, 0, 0, 2]}]},
        lambda it: it | {"meetings": [{"players": ["a", "b"], "pairs": [1 << 62] * 5}]},
        lambda it: it | {"meetings": [{"players": ["a", "a"], "pairs": [1, 0, 0, 0, 1]}]},
        lambda it: it | {"meetings": [{"players": ["a", "c"], "pairs": [1, 0, 0, 0, 1]}]},
        lambda it: it | {"meetings": [{"players": ["a", ["b"]], "pairs": [1, 0, 0, 0, 1]}]},
        lambda it: it | {"players": {"a": None, "b": None}},
        lambda it: it | {"opening_plies": "4"},
        lambda it: it | {"ratings": [None]},
    ],
)
def test_ratings_that_cannot_be_are_one_line(tmp_path, change):
    file = tmp_path / "ratings.json"
    file.write_text(json.dumps(sound()))
    assert rate.PlayedGames(file, rate.RateOptions()).meetings[("a", "b")].tolist() == [1, 0, 0, 0, 1]
    file.write_text(json.dumps(change(sound())))
    with pytest.raises(ConfigError, match="--overwrite to rate anew"):
        rate.PlayedGames(file, rate.RateOptions())
    assert rate.PlayedGames(file, rate.RateOptions(overwrite=True)).meetings == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "name one run"), (("none",), "no run"), (("plain", "--games", "3"), "--games"), (("plain", "plain"), "same")],
)
def test_mistakes_of_the_user(words, message, run, tiny):
    folder = whole.folder_of(tiny(name="plain"))
    folder.mkdir()
    (folder / "config.toml").write_text("")
    status, _, err = run("rate", *(str(folder) if word == "plain" else word for word in words))
    assert (status, err.count("\n")) == (2, 1)
    assert message in err
