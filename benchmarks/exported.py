"""What leaving costs: every preset's network in every format, and the strength of coarse ones.

    python -m benchmarks.exported presets                         # differences and seconds, preset by preset
    python -m benchmarks.exported match FILE.pt --simulations 32  # onnxruntime in each precision against JAX

Networks of presets have random weights here, far from initialisation, and statistics of normalisation that matter.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxzero import evaluation, networks, settings
from jaxzero.config import Config, SearchConfig
from jaxzero.evaluation import matches
from jaxzero.export import FORMATS, convert, formats, publish
from jaxzero.export.model import Model, make
from jaxzero.games import make_env
from jaxzero.networks import Network, Prediction


def export(folder: str, model: Model, names: list[str], precision: str) -> list[publish.Job]:
    """Writes and proves files, and prints their certificates."""
    jobs = publish.plan(Path(folder), "network_step000000", {n: formats.load(n) for n in names}, model, precision)
    for line in publish.publish(Path(folder), "network_step000000", model, jobs, overwrite=True):
        print(f"  {Path(line.split(' ')[0]).name} {line.partition(' ')[2]}", flush=True)
    return jobs


def random_variables(network: Network) -> Any:
    rng = np.random.default_rng(1)

    def draw(leaf: Any) -> jax.Array:
        if leaf.ndim == 1:
            return jnp.asarray(np.abs(rng.normal(0, 0.3, leaf.shape)) + 0.3, jnp.float32)
        return jnp.asarray(rng.normal(0, 1 / np.sqrt(np.prod(leaf.shape[:-1])), leaf.shape), jnp.float32)

    return jax.tree.map(draw, jax.eval_shape(network.init, jax.random.key(0)))


def presets(names: list[str], kinds: list[str]) -> None:
    """One export a distinct network and game."""
    seen = set()
    for name, path in settings.presets().items():
        config = settings.load(path)
        env = make_env(config.game)
        if (env, config.network) in seen or (names and name not in names):
            continue
        seen.add((env, config.network))
        network = networks.make(config.network, env)
        params = jax.device_get(network.fold(random_variables(network)))
        start, used = time.perf_counter(), cpu()
        with tempfile.TemporaryDirectory() as folder:
            export(folder, make(env, config.network, params, {}), kinds, "float32")
        print(f"{name}: {time.perf_counter() - start:.1f} s, {cpu() - used:.1f} s of CPU time", flush=True)


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def in_onnxruntime(path: Path, num_actions: int) -> Any:
    """`infer` of a network by a file: JAX's search asks onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def call(observation: Any) -> tuple[np.ndarray, np.ndarray]:
        logits, value = session.run(None, {"observation": np.asarray(observation, np.float32)})
        return np.asarray(logits, np.float32), np.asarray(value, np.float32)

    def infer(params: Any, observation: jax.Array) -> Prediction:
        batch = observation.shape[0]
        shapes = jax.ShapeDtypeStruct((batch, num_actions), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.float32)
        logits, value = jax.pure_callback(call, shapes, observation)
        return Prediction(logits, value, {"value": value})

    return infer


def match(file: Path, precisions: list[str], simulations: int, games: int, opening_plies: int) -> None:
    model = convert.rebuild(file)
    architecture = convert.configuration(model.metadata["network"], len(model.weights))
    config = Config(search=SearchConfig(simulations=max(simulations, 1)))
    ours = evaluation.search_agent(model.env, model.network, config, simulations)
    with tempfile.TemporaryDirectory() as folder:
        for precision in precisions:
            half = precision == "float16"
            coarse = make(model.env, architecture, model.params, {}, half=half)
            (job,) = export(folder, coarse, ["onnx"], precision)
            network = model.network._replace(infer=in_onnxruntime(job.path, model.env.num_actions))
            theirs = evaluation.search_agent(model.env, network, config, simulations)
            play = matches.play(model.env, theirs, ours, games, opening_plies)
            result = matches.summary(play(None, model.params, jax.random.key(0)))
            facts = {key: result[key] for key in ("wins", "draws", "losses", "score")}
            print(f"{precision} in onnxruntime against float32 in JAX, {simulations} simulations: {facts}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    some = commands.add_parser("presets")
    some.add_argument("names", nargs="*", help="of presets; all if none is given")
    some.add_argument("--formats", nargs="+", default=list(FORMATS))
    one = commands.add_parser("match")
    one.add_argument("file", type=Path)
    one.add_argument("--precisions", nargs="+", default=["float32", "float16", "int8"])
    one.add_argument("--simulations", type=int, default=32, help="0: the bare policy")
    one.add_argument("--games", type=int, default=200)
    one.add_argument("--opening-plies", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.command == "presets":
        presets(arguments.names, arguments.formats)
    else:
        match(arguments.file, arguments.precisions, arguments.simulations, arguments.games, arguments.opening_plies)


if __name__ == "__main__":
    main()
