"""The report of a run: data against what was written by hand, games against the rules, the page in a browser."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import browser
import fabricated
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from jaxzero.runs import curves
from jaxzero.runs import folder as folder_lib

Run = Callable[..., tuple[int, str, str]]
NAME = "a <b>&amp; 'run'"
ENV = envs.make("tic_tac_toe")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / NAME
    fabricated.run_folder(folder)
    return folder


class Page(HTMLParser):
    """The JSON inside, all addresses, and the text of the title."""

    def __init__(self, text: str):
        super().__init__()
        self.inside, self.json, self.title, self.addresses = "", "", "", []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = "json" if ("id", "data") in attrs else tag
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("json", "title"):
            setattr(self, self.inside, getattr(self, self.inside) + data)


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    from jaxzero import report

    file, notices = report.write(folder, None, report.ReportOptions(games=4, simulations=0, opponent="random"))
    assert (file, notices) == (folder / "report.html", [])
    return Page(file.read_text())


def test_one_file_with_the_facts(page: Page):
    data = json.loads(page.json)
    assert page.title == f"{NAME} · jaxzero"
    assert data["title"] == NAME
    assert "<" not in page.json
    assert page.addresses == ["data:,"]
    facts = dict(data["facts"])
    expected = {"iterations": "40 of 50", "training time": "0:01:20", "hardware": "2 CPU cores, 4 GiB memory"}
    expected |= {"games": "320", "positions": "4,000", "positions per second": "50", "checkpoint shown": "iteration 40"}
    assert expected.items() <= facts.items()
    assert ["learner.batch", "8", "256"] in data["settings"]
    assert data["notices"] == []


def test_curves_and_results(page: Page):
    data = json.loads(page.json)
    charts = {chart["title"]: chart["lines"] for chart in data["charts"]}
    assert list(charts) == [
        "Evaluation score by opponent", "Right moves, by the solver", "Error of the value, by the solver", "Losses",
        "Value of the search against the outcome", "mine",
    ]  # fmt: skip
    truth = [
        {"name": f"right moves, {name}", "x": [20, 40], "y": y}
        for name, y in (("policy", [0.25, 0.5]), ("search", [0.5, 1]))
    ]
    assert charts["Right moves, by the solver"] == truth
    assert charts["Error of the value, by the solver"] == [
        {"name": "value error, policy", "x": [20, 40], "y": [0.5, 0.25]}
    ]
    assert charts["mine"] == [{"name": "mine", "x": [20, 40], "y": [20, 40]}]
    assert charts["Evaluation score by opponent"] == [{"name": "random", "x": [20, 40], "y": [0.4, 0.8]}]
    (loss,) = charts["Losses"]
    assert loss["x"] == [i for i in range(1, 41) if i != 7]
    assert loss["raw"] == pytest.approx([2 / x for x in loss["x"]], rel=1e-4)
    found = {result["opponent"]: (result["iteration"], result["wins"]) for result in data["results"]}
    assert found == {"random": (40, 80), "minimax:1": (40, 40)}


def test_elo(page: Page):
    elo = json.loads(page.json)["elo"]
    assert [row["player"] for row in elo["rows"]] == [f"{NAME}@40:4", f"{NAME}@20:4", "random"]
    assert elo["lines"] == [
        {"name": f"{NAME}, 4 simulations", "x": [20, 40], "y": [200, 400], "low": [160, 320], "high": [500, 500]},
        {"name": "random", "x": [0, 40], "y": [0, 0], "flat": True},
    ]


def test_sample_games_follow_the_rules(page: Page, folder: Path):
    """Every board is that of the moves before it, every value the network's, seen by the first player."""
    data, loaded = json.loads(page.json), folder_lib.load(folder)
    infer = jax.jit(loaded.network.infer)
    assert [game["seats"] for game in data["games"]] == [
        ["network", "network"], ["network", "network"], ["network", "random"], ["random", "network"],
    ]  # fmt: skip
    for game in data["games"]:
        state, before, total = ENV.init(jax.random.key(0)), None, np.zeros(2)
        for number, ply in enumerate(game["plies"]):
            assert board(data, ply["board"]) == ENV.to_svg(state, before)
            told = infer(loaded.params, ENV.observe(state)[None])
            assert ply["value"] == pytest.approx(float(told.value[0]) * (-1) ** number, abs=1e-3)
            action = ENV.action_from_str(state, ply["move"])
            legal = np.asarray(ENV.legal_actions(state))
            prior = np.exp(np.asarray(told.logits[0])) * legal
            likely = (prior > 1e-4 * prior.sum()).sum()
            assert [name for name, *_ in ply["candidates"]] == [
                ENV.action_to_str(state, a) for a in np.argsort(-prior)[: min(5, likely)]
            ]
            opening = number < loaded.config.evaluation.opening_plies
            assert ply["by"] == ("random opening" if opening else game["seats"][number % 2])
            if ply["by"] == "network":
                assert action == prior.argmax()
            before, state = state, ENV.step(state, jnp.int32(action))
            total += state.rewards
        assert bool(state.terminated)
        assert board(data, game["last"]["board"]) == ENV.to_svg(state, before)
        winner = "draw" if not total.any() else f"player {total.argmax() + 1} wins"
        assert game["result"].startswith(winner)


def board(data: dict, tags: list[int]) -> str:
    return "<".join(data["tags"][tag] for tag in tags)


CHARTS = 8  # six curves, Elo, the value of the game
LOOK = f"""<!doctype html><iframe src="report.html" width="900" height="600"></iframe><script>
const page = document.querySelector("iframe");
const drawn = () => page.contentDocument.querySelectorAll("svg").length >= {CHARTS};
const look = () => drawn() ? fetch("said", {{
  method: "POST", body: JSON.stringify(page.contentDocument.documentElement.outerHTML) }}) : setTimeout(look, 50);
page.onload = look;  // charts are drawn in a later frame
</script>
"""


def test_a_browser_draws_it(page: Page, folder: Path, tmp_path: Path):
    shutil.copy(folder / "report.html", tmp_path)
    (tmp_path / "look.html").write_text(LOOK)
    (tmp_path / "profile").mkdir()
    drawn, console = browser.visit(tmp_path, "look.html", tmp_path / "profile")
    assert not console
    assert drawn.count('<svg viewBox="') == CHARTS
    assert "<td>+200 (-20 to +420)</td>" in drawn
    assert "<h1>a &lt;b&gt;&amp;amp; 'run'</h1>" in drawn
    assert re.search(r'<img src="data:image/svg\+xml,[^"]*"', drawn)


def test_what_is_missing_or_broken(run: Run, folder: Path, tmp_path: Path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    (copy / "report.html").unlink()
    results = copy / "evaluations" / "iteration_40" / "results.json"
    results.write_text("{")
    status, _, error = run("report", str(copy))
    assert (status, error.count("\n")) == (2, 1)
    assert f"{results}: cannot be read" in error
    shutil.rmtree(copy / "evaluations")
    with (copy / "metrics.jsonl").open("r+") as file:
        file.write("nonsense\n")
    status, _, error = run("report", str(copy))
    assert (status, error.count("metrics.jsonl")) == (0, 1)
    assert "2 of 41 lines skipped, as they are no rows (line 1: not JSON" in error
    (copy / "report.html").unlink()
    (copy / "report.html").mkdir()
    status, _, error = run("report", str(copy))
    assert (status, error.count("\n")) == (2, 1)
    assert "report.html: is not a file" in error
    (copy / "report.html").rmdir()
    (copy / "metrics.jsonl").unlink()
    status, text, error = run("report", str(copy), "--file", str(tmp_path / "out.html"))
    assert (status, text) == (0, f"{tmp_path / 'out.html'}\n")
    assert [line.split(": ", 1)[1] for line in error.splitlines()] == [
        "metrics.jsonl is missing or empty: no curves",
        "no evaluations yet: no results against opponents",
        "no checkpoint yet: no sample games",
    ]
    assert json.loads(Page((tmp_path / "out.html").read_text()).json)["notices"]
    for words, message in (
        (("report", "nowhere"), "nowhere: no run there"),
        (("report", str(copy), "--games", "-1"), "--games: must be from 0 to 1000"),
        (("report", str(copy), "--file", str(tmp_path / "no" / "a.html")), "choose another --file"),
    ):
        status, _, error = run(*words)
        assert (status, error.count("\n")) == (2, 1)
        assert message in error


def test_smoothing_keeps_lines_and_means():
    """A straight line stays as it is, to both ends; inside, each point is the mean of its window."""
    line = np.arange(200) * 3.0 - 5
    np.testing.assert_allclose(curves.smooth(line), line, atol=1e-9)
    noisy = np.random.default_rng(0).normal(size=200)
    np.testing.assert_allclose(curves.smooth(noisy)[100], noisy[95:106].mean())
    x, y = curves.thin(np.arange(900.0), np.arange(900.0))
    assert (len(x), x[-1], y[0]) == (300, 899, 1)
