"""The page: a file of `jaxzero export` in onnxruntime-web, in a real headless Chromium. Skipped where there is none.

onnxruntime-web comes from `npm install` into `.cache`, or from the folder that ONNXRUNTIME_WEB names (its `dist`).
"""

import base64
import functools
import json
import os
import pathlib
import random
import shutil
import subprocess

import browser
import fabricated
import jax
import numpy as np
import pytest
import torch
from exports import RESNET

import jaxzero.export
from jaxzero.cli import app
from jaxzero.export.standalone import torch_games, torch_module
from jaxzero.export.standalone.play_torch import search
from jaxzero.runs import folder as folder_lib

WEB = pathlib.Path(jaxzero.export.__file__).parent / "standalone" / "web"
CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "npm"
PACKAGE = "onnxruntime-web@1.30.0"
GAMES = {"3,3,2": "tic_tac_toe", "6,7,2": "connect_four"}
MODEL = f"c4_step{fabricated.STEP:06d}"

CHECK = """<!doctype html><script type="module">
const said = {};
const until = async (ready) => { while (!ready()) await new Promise((go) => setTimeout(go, 50)); };
async function page(query) {  // opens the page and waits until it says something
  const frame = document.body.appendChild(document.createElement("iframe"));
  frame.src = "index.html?" + query;
  const status = () => frame.contentDocument?.getElementById("status")?.textContent ?? "";
  await until(() => status() && !status().startsWith("Loading"));
  return { frame, status, board: () => [...frame.contentDocument.querySelectorAll("#board button")] };
}
try {
  const asked = await (await fetch("asked.json")).json();
  const ort = await import("./ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("./ort/", location).href;
  ort.env.wasm.numThreads = 1;
  const { GAMES, loadNetwork, search } = await import("./jaxzero.js");
  said.lines = {};
  for (const [shape, lines] of Object.entries(asked.lines)) {
    said.lines[shape] = lines.map((line) => {
      let position = GAMES[shape].start();
      return line.map((action) => {
        const legal = GAMES[shape].legal(position), seen = [...GAMES[shape].observe(position)];
        position = GAMES[shape].play(position, action);
        return { legal, seen, player: position.player, result: position.result, board: [...position.board] };
      });
    });
  }
  said.names = Object.fromEntries(Object.entries(GAMES).map(([shape, game]) =>
    [shape, game.legal(game.start()).map((action) => game.moveName(action))]));
  const network = await loadNetwork(ort, "model.onnx");
  const positions = asked.positions.map((line) => line.reduce((p, a) => network.game.play(p, a), network.game.start()));
  const judged = await network.evaluate(positions);
  said.logits = judged.map((one) => [...one.logits]);
  said.value = judged.map((one) => one.value);
  said.roots = [];
  for (const position of positions.slice(0, 10)) {
    const root = await search(network, position, 48);
    said.roots.push({ counts: root.counts(), value: root.value(), best: root.best() });
  }
  const { frame, status, board } = await page("model=model.onnx&ort=ort/&simulations=0");
  said.title = frame.contentDocument.getElementById("title").textContent;
  board().find((button) => button.dataset.action === "3").click();
  await until(() => status() === "Your move.");
  said.stones = board().map((button) => button.classList[0] ?? "");
  frame.contentDocument.getElementById("reply").click();
  await until(() => status() === "Your move.");
  said.begun = board().map((button) => button.classList[0] ?? "");
  said.errors = [];
  for (const query of ["model=missing.onnx&ort=ort/", "model=model.onnx&ort=nowhere/", "model=model.onnx"]) {
    said.errors.push((await page(query)).status());
  }
  said.asks = (await page("")).status();
} catch (error) { said.failed = String(error.stack ?? error); }
await fetch("said", { method: "POST", body: JSON.stringify(said) });
</script><body></body>
"""


def onnxruntime_web() -> pathlib.Path:
    """The folder of its files."""
    if "ONNXRUNTIME_WEB" in os.environ:
        return pathlib.Path(os.environ["ONNXRUNTIME_WEB"])
    dist = CACHE / "node_modules" / "onnxruntime-web" / "dist"
    if not (dist / "ort.wasm.min.mjs").is_file():
        if not shutil.which("npm"):
            pytest.skip("no npm on PATH to install onnxruntime-web")
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0", PACKAGE]
        run = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=browser.SECONDS, check=False)
        if run.returncode:
            pytest.skip(f"npm install {PACKAGE} failed: {run.stderr.strip().splitlines()[-1:]}")
    return dist


WITHOUT_BROWSER = """
const { loadNetwork } = await import("data:text/javascript;base64," + process.argv[1]);
const wrong = { NaN: NaN, Infinity: Infinity, zero: 0 };
for (const [name, bad] of Object.entries(wrong)) for (const at of [0, 8, 9]) {
  const all = new Float32Array(10);
  all[at] = bad;
  const run = () => ({ logits: { data: all.slice(0, 9), dims: [1, 9] }, value: { data: all.slice(9) } });
  const session = { inputMetadata: [{ shape: ["N", 3, 3, 2] }], inputNames: ["x"], outputNames: ["logits"], run };
  const ort = { Tensor: class {}, InferenceSession: { create: () => session } };
  console.log(await loadNetwork(ort, "model.onnx").then(() => "plays", (error) => error.message));
}
"""


def test_answers_that_are_no_numbers_are_refused():
    """In node, which needs no browser and no onnxruntime-web."""
    if not shutil.which("node"):
        pytest.skip("no node on PATH")
    words = ["node", "--input-type=module", "-e", WITHOUT_BROWSER]
    code = base64.b64encode((WEB / "jaxzero.js").read_bytes()).decode()
    run = subprocess.run([*words, code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.splitlines() == ["The network's answers are no numbers; it cannot play."] * 6 + ["plays"] * 3


def random_line(game: torch_games.Game, rng: random.Random) -> list[int]:
    position, line = game.start(), []
    while position.result is None:
        line.append(rng.choice(game.legal(position)))
        position = game.play(position, line[-1])
    return line


@pytest.fixture(scope="module")
def visited(tmp_path_factory):
    """What was asked of the page, what it said, and the network in question."""
    dist, folder = onnxruntime_web(), tmp_path_factory.mktemp("web")
    torch.set_num_threads(1)
    for file in WEB.iterdir():
        shutil.copy(file, folder)
    (folder / "ort").symlink_to(dist.resolve())
    run, rng = tmp_path_factory.mktemp("runs") / "c4", random.Random(0)
    fabricated.run_folder(run, "connect_four", network=RESNET)
    assert app.main(["export", str(run), "--format", "onnx", "pt"]) == 0
    shutil.copy(run / "exports" / f"{MODEL}.onnx", folder)
    lines = {shape: [random_line(torch_games.GAMES[name](), rng) for _ in range(50)] for shape, name in GAMES.items()}
    played = [random_line(torch_games.GAMES["connect_four"](), rng) for _ in range(100)]
    asked = {"lines": lines, "positions": [line[: rng.randrange(len(line))] for line in played]}
    (folder / "asked.json").write_text(json.dumps(asked))
    (folder / "check.html").write_text(CHECK.replace("model.onnx", f"{MODEL}.onnx"))
    said = browser.visit(folder, "check.html", tmp_path_factory.mktemp("profile")).said
    assert "failed" not in said, said["failed"]
    return asked, said, folder_lib.load(run), torch_module.load(run / "exports" / f"{MODEL}.pt")


@pytest.mark.parametrize("shape", GAMES)
def test_rules_of_the_page(visited, shape):
    """Beside those of `torch_games`, which `test_play_torch` compares with the games that are trained."""
    asked, said, *_ = visited
    game = torch_games.GAMES[GAMES[shape]]()
    for line, told in zip(asked["lines"][shape], said["lines"][shape], strict=True):
        position = game.start()
        for action, ply in zip(line, told, strict=True):
            assert ply["legal"] == game.legal(position)
            assert ply["seen"] == game.observe([position]).flatten().tolist()
            position = game.play(position, action)
            assert (bytes(ply["board"]), ply["player"], ply["result"]) == position
    assert said["names"][shape] == [game.name(action) for action in game.legal(game.start())]


def at(asked, count=100):
    game = torch_games.GAMES["connect_four"]()
    return game, [functools.reduce(game.play, line, game.start()) for line in asked["positions"][:count]]


def test_logits_of_100_positions_are_those_of_the_trained_network(visited):
    asked, said, model, _ = visited
    game, positions = at(asked)
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(model.network.infer)(model.params, game.observe(positions).numpy())
    np.testing.assert_allclose(said["logits"], expected.logits, atol=1e-5)
    np.testing.assert_allclose(said["value"], expected.value, atol=1e-5)
    assert np.std(expected.logits, axis=0).min() > 0.05, "a network that says nothing would prove nothing"


def test_search_of_the_page_is_that_of_play_torch(visited):
    asked, said, _, network = visited
    game, positions = at(asked, 10)
    for root, told in zip(search(network, game, positions, 48), said["roots"], strict=True):
        assert told["counts"] == root.counts()
        assert told["value"] == pytest.approx(root.value(), abs=1e-5)
        assert told["best"] == root.best()


def test_visitor_plays_against_the_network(visited):
    _, said, _, network = visited
    assert said["title"] == "Play Connect Four against the network"
    game = torch_games.GAMES["connect_four"]()
    after = game.play(game.start(), 3)
    after = game.play(after, search(network, game, [after], 0)[0].best())
    assert said["stones"] == [["", "first", "second"][stone] for stone in after.board]
    first = game.play(game.start(), search(network, game, [game.start()], 0)[0].best())
    assert said["begun"] == [["", "first", "second"][stone] for stone in first.board]


def test_mistakes_are_said_on_the_page(visited):
    _, said, *_ = visited
    missing, nowhere, default = said["errors"]
    assert "missing.onnx" in missing or "404" in missing
    assert "onnxruntime-web is not at" in nowhere
    assert "nowhere/" in nowhere
    assert "node_modules/onnxruntime-web/dist/: npm install onnxruntime-web" in default
    assert said["asks"].startswith("Choose an exported network")
