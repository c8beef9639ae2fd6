"""What leaving costs: every preset's network in every format, and the strength of coarse ones.

    python -m benchmarks.exported presets                         # differences and seconds, preset by preset
    python -m benchmarks.exported match FILE.pt --simulations 32  # onnxruntime in each precision against JAX

Networks of presets have random weights here, far from initialisation (statistics of normalisation are a matter of the
tests: no preset has any). Their heads are scaled so that logits spread as in trained networks: float32 rounds a
logit of hundreds by more than 1e-4, whatever computes it. Seconds are processor time.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from jaxzero import evaluation, networks
from jaxzero.config import presets as presets_lib
from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.config.schema import Config
from jaxzero.evaluation import matches
from jaxzero.export import FORMATS, convert, formats, parity, publish
from jaxzero.export.model import ExportedModel, ExportError, make
from jaxzero.networks import Network, Prediction
from jaxzero.search import GumbelConfig

BEGAN = time.perf_counter() - time.process_time()  # imports use one core
SPREAD = 3.0  # standard deviation of logits
HEADS = {"policy", "value", "reward", "follows"}


def random_variables(network: Network) -> Any:
    rng = np.random.default_rng(1)

    def draw(leaf: Any) -> jax.Array:
        if leaf.ndim == 1:
            return jnp.asarray(np.abs(rng.normal(0, 0.3, leaf.shape)) + 0.3, jnp.float32)
        return jnp.asarray(rng.normal(0, 1 / np.sqrt(np.prod(leaf.shape[:-1])), leaf.shape), jnp.float32)

    return jax.tree.map(draw, jax.eval_shape(network.init, jax.random.key(0)))


def scaled(network: Network, params: Any, env: Env) -> Any:
    """Folded parameters, the last layers of all heads multiplied by one factor that gives logits their `SPREAD`."""
    states = parity.entered(env, jax.random.key(1))[1][0]
    factor = SPREAD / jax.jit(network.infer)(params, jax.vmap(env.observe)(states)).logits.std()

    def last(head: Any) -> Any:
        return head | {"out": last(head["out"])} if "out" in head else jax.tree.map(lambda x: x * factor, head)

    return params | {name: last(params[name]) for name in HEADS & params.keys()}


def models(names: list[str]) -> Iterator[tuple[str, ExportedModel]]:
    """A network of each distinct game and architecture, under the name of its first preset."""
    seen = set()
    for name, path in presets_lib.files().items():
        config = settings.load(path)
        env = make_env(config.game)
        if (env, config.network) in seen or (names and name not in names):
            continue
        seen.add((env, config.network))
        network = networks.make(config.network, env)
        params = scaled(network, network.fold(random_variables(network)), env)
        yield name, make(env, config.network, jax.device_get(params), {})


def presets(names: list[str], kinds: list[str]) -> None:
    """Every network in every format. An export in one format costs what its line says and what the network's does."""
    modules = {kind: formats.load(kind) for kind in kinds}
    for name, model in models(names):
        start = time.process_time()
        reference = parity.references(model)
        seconds, parameters = time.process_time() - start, sum(x.size for x in model.weights.values())
        logits = reference.functions["predict"][1][0]
        print(f"{name}: {parameters:,} parameters, logits ±{logits.std():.1f}, at most {np.abs(logits).max():.1f}; "
              f"positions and answers of JAX {seconds:.1f} s", flush=True)  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            for job in publish.plan(Path(folder), name, modules, model, "float32"):
                cost(job, model, reference)


def cost(job: publish.Job, model: ExportedModel, reference: parity.Reference) -> None:
    start = time.process_time()
    publish.write(job, job.path, model)
    written = time.process_time()
    try:
        found = [f"{proof.function}: {proof}" for proof in publish.prove(job, job.path, model, reference)]
    except ExportError as error:
        found = [f"FAILS: {error}"]
    seconds = f"written in {written - start:.1f} s, proven in {time.process_time() - written:.1f} s"
    for line in found:
        print(f"  .{job.kind} {line}; {seconds}", flush=True)


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
    architecture = convert.configuration(model.metadata["network"])
    config = Config(search=GumbelConfig(simulations=max(simulations, 1)))
    ours = evaluation.search_agent(model.env, model.network, config, simulations)
    with tempfile.TemporaryDirectory() as folder:
        for precision in precisions:
            coarse = make(model.env, architecture, model.params, {}, half=precision == "float16")
            jobs = publish.plan(Path(folder), "network", {"onnx": formats.load("onnx")}, coarse, precision)
            print(*publish.publish(Path(folder), "network", coarse, jobs, overwrite=True), flush=True)
            network = model.network._replace(infer=in_onnxruntime(jobs[0].path, model.env.num_actions))
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
    one.add_argument("--simulations", type=int, default=32, help="0: the raw policy")
    one.add_argument("--games", type=int, default=200)
    one.add_argument("--opening-plies", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.command == "presets":
        presets(arguments.names, arguments.formats)
        clock = time.perf_counter() - BEGAN
        print(f"in all, imports and random weights included: {time.process_time():.1f} s, by the clock {clock:.1f} s")
    else:
        match(arguments.file, arguments.precisions, arguments.simulations, arguments.games, arguments.opening_plies)


if __name__ == "__main__":
    main()
