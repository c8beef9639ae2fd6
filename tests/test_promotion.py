"""Promotion: its two rules on given outcomes, and whole runs in which always, never or sometimes is promoted."""

import csv
import json
import math
from typing import Any

import jax
import numpy as np
import pytest
import test_train as whole

from jaxzero.config.schema import ConfigError, PromotionConfig
from jaxzero.evaluation import promotion
from jaxzero.evaluation.matches import MatchResult
from jaxzero.runs import folder as folder_lib

tiny, quick = whole.tiny, whole.quick
ALWAYS = (("promotion.rule", "threshold"), ("promotion.every", 1), ("promotion.games", 8), ("promotion.threshold", 0.0),
          ("promotion.simulations", 0))  # fmt: skip


def outcomes(wins: int, draws: int, losses: int) -> MatchResult:
    """Pairs of equal games."""
    row = np.repeat(np.array([1, 0, -1], np.int8), [wins, draws, losses])
    return MatchResult(np.stack([row, row]), np.full((2, len(row)), 9, np.int32))  # pyright: ignore[reportArgumentType]


def decide(make: Any, *results: MatchResult, **settings: Any) -> tuple[promotion.Decision, int]:
    """The decision after these results, and how many were asked for."""
    keys = []

    def match(latest: str, best: str, key: jax.Array) -> MatchResult:
        assert (latest, best) == ("latest", "best")
        keys.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))
        return results[len(keys) - 1]

    decided = make(match, PromotionConfig(**settings))("latest", "best", jax.random.key(0))
    assert len(set(keys)) == len(keys)
    return decided, len(keys)


def test_a_threshold_must_be_exceeded():
    decided, _ = decide(promotion.threshold_rule, outcomes(50, 10, 40), threshold=0.55)  # a score of 0.55
    assert not decided.promoted
    decided, _ = decide(promotion.threshold_rule, outcomes(51, 10, 39), threshold=0.55)
    assert decided.promoted
    assert "0.560 of 200 games is above 0.55" in decided.reason


@pytest.mark.parametrize(
    ("results", "looks", "promoted", "words"),
    [
        ([outcomes(20, 10, 20), outcomes(40, 5, 5), outcomes(49, 1, 0)], 2, True, "reached 2.94 after 200 games"),
        ([outcomes(10, 10, 30)] * 4, 1, False, "fell to -2.94 after 100 games"),
        ([outcomes(21, 10, 19), outcomes(22, 10, 18), outcomes(20, 10, 20)], 2, False, "undecided after 200 games"),
    ],
)  # fmt: skip
def test_a_sequential_match_stops_when_it_is_decided(results, looks, promoted, words):
    decided, looked = decide(
        lambda match, settings: promotion.sprt_rule(match, settings, 100), *results, rule="sprt", games=250, elo1=60
    )
    assert (looked, decided.promoted) == (looks, promoted)
    assert words in decided.reason


def test_the_chance_of_a_false_promotion_is_that_of_fair_coins():
    for games, most in ((20, 11), (100, 55), (300, 165)):  # counted out
        tail = sum(math.comb(games, wins) for wins in range(most + 1, games + 1)) / 2**games
        assert promotion.false_promotion(games, 0.55) == pytest.approx(tail)
    text, warning = promotion.risk(PromotionConfig("threshold", games=20))
    assert "25.2%" in text
    assert "300" in warning
    assert not promotion.risk(PromotionConfig("threshold", games=300))[1]
    assert not promotion.risk(PromotionConfig("sprt", games=20))[1]


def test_promoted_at_once_a_run_is_as_without_promotion(tiny):
    plain, always = tiny(name="plain"), tiny(*ALWAYS, name="always")
    whole.drain(plain)
    rows = whole.drain(always)
    wanted, (step, got) = whole.state_of(plain), whole.state_of(always)
    best = {name: got.pop(name) for name in list(got) if "['best']" in name}
    whole.assert_same((step, got), wanted)
    assert int(best.pop("[0]['best'].iteration")) == 6
    for name, array in best.items():
        assert array.tobytes() == got[name.replace("['best'].variables", "['train_state'].ema")].tobytes()
    assert [row["promotion/best"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_self_play_is_by_best(tiny):
    """Never promoted, the first network plays to the end, as it does where nothing is learned."""
    never = tiny(*ALWAYS, ("promotion.threshold", 1.0), name="never")
    untrained = tiny(("learner.lr", 1e-30), name="untrained")
    whole.drain(never)
    whole.drain(untrained)
    (_, got), (_, wanted) = whole.state_of(never), whole.state_of(untrained)
    assert got["[1]['replay'].transitions.action"].tobytes() == wanted["[1]['replay'].transitions.action"].tobytes()
    assert got["[0]['best'].iteration"] == 0
    metadata = json.loads((whole.folder_of(never) / "metadata.json").read_text())
    assert (metadata["best"], metadata["promotions"]) == (0, [])
    assert folder_lib.load(whole.folder_of(never), promoted=True).step == 0
    (line,) = whole.train.export_run(whole.folder_of(never), promoted=True)
    assert "never_best_step000000.pt" in line
    with pytest.raises(ConfigError, match=r"promotion\.rule is off"):
        folder_lib.load(whole.folder_of(untrained), promoted=True)


def test_a_resumed_run_promotes_what_the_undisturbed_one_does(tiny):
    changes = (*ALWAYS, ("promotion.threshold", 0.5))
    wanted, cut = tiny(*changes, name="wanted"), tiny(*changes, name="cut")
    whole.drain(wanted)
    for row in whole.train.run(cut):
        if row["iteration"] == 4:
            break
    whole.drain(cut, from_step=3)
    whole.assert_same(whole.state_of(cut), whole.state_of(wanted))

    def told(config):
        metadata = json.loads((whole.folder_of(config) / "metadata.json").read_text())
        for entry in metadata["promotions"]:
            del entry["timestamp"]
        return metadata["best"], metadata["promotions"]

    assert told(cut) == told(wanted)
    best, promoted = told(wanted)
    assert 0 < len(promoted) < 6
    assert best == promoted[-1]["iteration"]

    def book(config):
        return list(csv.DictReader((whole.folder_of(config) / "arena.csv").read_text().splitlines()))

    assert [row["a"] for row in book(cut)] == [f"cut@{n}:0" for n in range(1, 7)]
    rows = book(wanted)
    assert [row["a"] for row in rows] == [f"wanted@{n}:0" for n in range(1, 7)]
    assert [float(row["score"]) > 0.5 for row in rows] == [n in [e["iteration"] for e in promoted] for n in range(1, 7)]
    last = json.loads((whole.folder_of(wanted) / "last_arena.json").read_text())
    assert (last["iteration"], last["promoted"]) == (6, best == 6)


@pytest.mark.parametrize("damage", ["", "null", "[]", '{"promotions": 3}', '{"promotions": []}', "[" * 100_000, None])
def test_promotions_are_found_again_in_the_checkpoint(tmp_path, damage):
    """`cut_back` as a resumed run calls it, with what the checkpoint knows."""
    file, known = tmp_path / "metadata.json", [{"iteration": 2, "reason": "x"}, {"iteration": 3, "reason": "y"}]
    promotion.write_metadata(tmp_path, [*known, {"iteration": 5}])
    whole = promotion.content_of(tmp_path, known)
    assert promotion.cut_back(tmp_path, 4, known) == (known, "")
    assert json.loads(file.read_text()) == whole
    file.unlink() if damage is None else file.write_text(damage)
    promotions, told = promotion.cut_back(tmp_path, 4, known)
    assert promotions == known
    assert str(file) in told
    assert "written anew with the 2 of the checkpoint" in told
    assert json.loads(file.read_text()) == whole
    # In a run from before checkpoints held them, the file is all there is.
    assert promotion.cut_back(tmp_path, 2, None) == (known[:1], "")
    file.write_text("null")
    with pytest.raises(ConfigError, match=r"metadata\.json: cannot be read"):
        promotion.cut_back(tmp_path, 2, None)
    assert file.read_text() == "null"


def test_a_run_whose_books_are_damaged_goes_on(tiny):
    config = tiny(*ALWAYS, ("iterations", 3))
    whole.drain(config)
    folder = whole.folder_of(config)
    wanted = json.loads((folder / "metadata.json").read_text())
    assert len(wanted["promotions"]) == 3
    (folder / "metadata.json").write_text("[]")
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join([rows[0], rows[0], "null\n", rows[2]]))
    (folder / "prechecks.json").write_text("null")
    (folder / "learning_curve.png").unlink()
    (folder / "learning_curve.png").mkdir()
    whole.drain(tiny(*ALWAYS, ("iterations", 4)))
    after = json.loads((folder / "metadata.json").read_text())
    assert after["promotions"][:3] == wanted["promotions"]
    assert [entry["iteration"] for entry in after["promotions"]] == [1, 2, 3, 4]
    log = (folder / "run.log").read_text()
    assert log.count("metadata.json: cannot be read (it is not an object: [])") == 1
    told = (
        "1 of 4 lines skipped, as they are no rows (line 3: it is not an object: None); doubled rows of iterations 1 "
    )
    assert told + "dropped; the file as it was is metrics.jsonl.old; rows of iterations 2 are missing" in log
    assert "learning_curve.png: not drawn: " in log
    assert [row["iteration"] for row in whole.metrics.read(folder)] == [1, 3, 4]


def test_what_cannot_work_is_refused(tiny):
    for change, words in (
        (("promotion.games", 7), "even"),
        (("promotion.opening_plies", 0), "same"),
        (("promotion.elo1", -5.0), "elo0"),
    ):
        with pytest.raises(ConfigError, match=rf"promotion\..*{words}"):
            next(whole.train.run(tiny(*ALWAYS, change)))
