"""A whole run: a generator of rows of metrics that trains, evaluates, commits and exports. Wiring only."""

import dataclasses
import logging
import math
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import Env
from jaxzero import evaluation, files, hardware, networks
from jaxzero.clock import timestamp
from jaxzero.config.games import make_env
from jaxzero.config.schema import Config, GameConfig
from jaxzero.config.validation import validate
from jaxzero.evaluation import measures, promotion
from jaxzero.export import parity, publish
from jaxzero.export.load import ImportedNetwork, initial_weights
from jaxzero.export.model import make as make_model
from jaxzero.export.publish import export_run
from jaxzero.interrupts import Interrupt
from jaxzero.messages import ConfigError
from jaxzero.runs import folder as folder_lib
from jaxzero.runs import metrics, table
from jaxzero.runs.checkpoint import Checkpointer
from jaxzero.training import disk, iteration, learner
from jaxzero.training.dry_run import dry_run
from jaxzero.training.preparation import check_game, explained, outlook, precheck

__all__ = ["dry_run", "export_run", "load", "run"]

Row = dict[str, Any]
load = folder_lib.load
DRAWING = 20  # times as long as a drawing took passes before the next: it takes at most 5 % of a run
_log = logging.getLogger(__name__)


def run(
    config: Config,
    env: Env | None = None,
    *,
    allow_change: Sequence[str] = (),
    from_step: int | None = None,
    overwrite: bool = False,
) -> Generator[Row, None, None]:
    """Trains in the run's folder, resuming what is there, and yields a row of numbers at each log interval.

    Args:
        config: the run; `config.iterations` in all, those already done counted.
        env: a game in place of `config.game`; one from outside `envs` must pass `envs.contract` first.
        allow_change: settings that may differ from the run's own, such as "learner.lr".
        from_step: go on from this checkpoint; newer ones are set aside.
        overwrite: delete the run that is there and start again.

    Raises:
        ConfigError: bad input or a full device or disk; one line that says what to do.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP where nothing is left to save: before the first iteration, after
            the last; or a second SIGINT. In between, a signal ends the generator after the iteration under way and its
            commit; `interrupts.current.number` is then the signal's.
    """
    if overwrite and from_step is not None:
        raise ConfigError("--from-step goes on with a run that --overwrite deletes; give one of them")
    if env is None:
        env = make_env(config.game)
    elif not config.game.source and env.name != config.game.name:
        config = dataclasses.replace(config, game=GameConfig(env.name))
    if type(env).__module__.split(".")[0] != "envs":
        check_game(env)
    config = config if config.name else dataclasses.replace(config, name=env.name)
    validate(config, env, jax.local_device_count())
    reader = disk.open_reader(config, env)
    config = disk.with_epochs(config, reader)
    if config.export.final:
        publish.check_final(config.network)
    origin = None
    if config.init_from and (overwrite or not folder_lib.has_checkpoint(config)):  # before anything is deleted
        origin = initial_weights(config, env)
    opponents = evaluation.opponents(env, config)  # before anything is deleted, too
    with folder_lib.opened(config, allow_change, overwrite) as (folder, changes):
        try:
            metrics.open_log(folder)
            precheck(env, folder)
            with Interrupt() as interrupt, Checkpointer(folder / "checkpoints", config.checkpoint.keep) as checkpoints:
                interrupt.outlook = lambda: outlook(checkpoints)
                trainer = Trainer(config, env, folder, checkpoints, interrupt, opponents, origin, reader)
                yield from trainer.rows(changes, from_step)
        except Exception as error:
            _log.exception("the run ended with an error")
            if message := explained(error, folder):
                raise ConfigError(message) from error
            raise


class Trainer:
    """The host side of one run."""

    def __init__(
        self,
        config: Config,
        env: Env,
        folder: Path,
        checkpoints: Checkpointer,
        interrupt: Interrupt,
        opponents: evaluation.Opponents,
        origin: ImportedNetwork | None = None,
        reader: disk.Reader | None = None,
    ):
        self.config, self.env, self.folder = config, env, folder
        self.checkpoints, self.interrupt = checkpoints, interrupt
        self.origin, self.init_from = origin, {}
        self.network = networks.make(config.network, env)
        self.steps = iteration.make(config, env, self.network)
        self.fold = jax.jit(self.network.fold)
        self.healthy = jax.jit(lambda tree: jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)])))
        self.lr = learner.learning_rate(config.learner, config.iterations * config.updates)
        self.sampler = hardware.Sampler()
        self.draw_after = 0.0  # by time.monotonic
        self.totals = {"seconds": 0.0, "games": 0, "positions": 0, "updates": 0}
        self.promotions: list[promotion.Entry] | None = []
        self.evaluators = evaluation.make(env, self.network, config, opponents)
        self.measures = measures.make(env, self.network, config)
        self.feed = disk.Feed(config, reader) if reader else None
        self.validate = disk.make_validate(env, self.network, config, reader) if reader else None
        self.stopping = disk.Stopping(config.data.patience)
        self.gate = None
        if config.promotion.rule != "off":
            self.gate = promotion.make(env, self.network, config)

    def rows(self, changes: list[str], from_step: int | None) -> Iterator[Row]:
        config = self.config
        for line in hardware.device_summary().splitlines():
            _log.info(line)
        state, start = self.restore(from_step)
        folder_lib.record(self.folder, config, changes, start)
        if self.gate:
            text, warning = promotion.risk(config.promotion)
            _log.info(text)
            if warning:
                _log.warning(warning)
        for change in changes:
            _log.info("changed at iteration %d: %s", start, change)
        if warning := metrics.cut_back(self.folder, start, self.totals if start else None, config.log.every):
            _log.warning(warning)
        if self.gate:
            self.promotions, warning = promotion.cut_back(self.folder, start, self.promotions)
            if warning:
                _log.warning(warning)
        if start >= config.iterations or self.stopping.over:
            done = f"{start} of {config.iterations} iterations are done"
            limit = "data.patience" if self.stopping.over else "iterations"
            _log.info("nothing to do: %s; raise %s to go on", done, limit)
            self.finish(state, start)
            return
        with metrics.MetricsLog(self.folder, config.log.sinks) as log:
            for row in self.iterate(state, start, log):
                due = row["iteration"] // config.log.every % config.log.plot_every == 0
                if due and time.monotonic() >= self.draw_after:
                    self.draw()
                yield row
        if not self.interrupt.number:
            self.finish(self.state, self.done)

    def restore(self, from_step: int | None) -> tuple[iteration.RunState, int]:
        """The state to go on from, and how many iterations it has done."""
        abstract = self.steps.abstract
        templates = iteration.learner_part(abstract), iteration.data_part(abstract)
        restored = self.checkpoints.restore(*templates, step=from_step)
        if restored is not None and from_step is not None:
            for path in self.checkpoints.rewind(from_step):
                _log.info("newer checkpoint set aside: %s", path)
        self.checkpoints.tidy()
        if restored is None:
            return self.begin(self.steps.init(np.int32(0))), 0
        self.totals |= restored.info["totals"]
        self.promotions = restored.info.get("promotions")
        self.init_from = restored.info.get("init_from", {})
        if self.feed and (read := restored.info.get("data")):
            self.feed.read = read["batches"]
            self.stopping.restore(read["stopping"])
        data = restored.data
        if data is None:
            _log.warning("checkpoint %d no longer holds the replay: starting with an empty one", restored.step)
            data = iteration.data_part(self.steps.init(np.int32(restored.step)))
        _log.info("resuming %s after iteration %d", self.folder, restored.step)
        return iteration.RunState(**restored.learner, **data), restored.step

    def begin(self, state: iteration.RunState) -> iteration.RunState:
        """A new run, with the weights of `init_from` if it has one: no random ones are left, the optimizer is new."""
        if self.origin is None:
            return state
        if self.network.unfold is None:
            raise ConfigError(
                f"init_from: network.kind {self.config.network.kind!r} cannot begin with weights from a file"
            )
        params, metadata = self.origin
        model = make_model(self.env, self.config.network, params, {})
        variables = self.network.unfold(params, lambda: parity.self_play(model, 0).observation)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, state.train_state.variables)
        # Two copies: what is trained is donated, the EMA beside it too.
        twice = jax.jit(lambda x: (jax.tree.map(jnp.copy, x),) * 2, out_shardings=(shardings, shardings))
        variables, ema = twice(variables)
        train_state = state.train_state._replace(variables=variables, ema=ema)
        self.init_from = {"file": Path(self.config.init_from).name, "weights_sha256": metadata["weights_sha256"]}
        _log.info("beginning with %s: weights %s", self.config.init_from, metadata["weights_sha256"])
        state = dataclasses.replace(state, train_state=train_state)
        return iteration.promoted(state) if state.best else state

    def iterate(self, state: iteration.RunState, start: int, log: metrics.MetricsLog) -> Iterator[Row]:
        config = self.config
        began = time.perf_counter()
        _log.info("compiling self-play and learning")
        self_play = self.steps.self_play.lower(state).compile() if config.plays else lambda state: (state, {})
        learn = self.steps.learn.lower(state, *((self.feed.peek(),) if self.feed else ())).compile()
        extra: Row = {"compile_s": time.perf_counter() - began, "device": hardware.device_summary().splitlines()[0]}
        pending: list[Any] = []
        mark = time.perf_counter()
        for done in range(start + 1, config.iterations + 1):
            self.interrupt.unsaved = f"iteration {done}"
            state, sums = self_play(state)
            state, learning = learn(state, *((self.feed.take(),) if self.feed else ()))
            pending.append((sums, learning))
            if len(pending) > iteration.IN_FLIGHT:
                jax.block_until_ready(pending[-1 - iteration.IN_FLIGHT])
            last = done == config.iterations or bool(self.interrupt.number)
            validates = self.validate is not None and done % config.data.validate_every == 0
            evaluates = bool(config.evaluation.every and done % config.evaluation.every == 0)
            challenges = self.gate is not None and done % config.promotion.every == 0
            commits = done % config.checkpoint.every == 0 or last
            evaluates |= done == config.iterations and config.evaluation.final
            if not (done % config.log.every == 0 or evaluates or challenges or commits or validates):
                continue
            row = self.measure(done, pending, mark) | extra | self.sampler.sample()
            pending, extra = [], {}
            if validates:
                row |= self.losses_held_back(state, done)
                commits |= self.stopping.iteration == done
                if self.stopping.over:
                    last = commits = True
                    evaluates |= config.evaluation.final
            if not math.isfinite(row.get("loss", 0.0)) or (commits and not bool(self.healthy(state.train_state))):
                self.checkpoints.wait()
                newest = max(self.checkpoints.steps(), default=0)
                raise ConfigError(
                    f"iteration {done}: loss or parameters are not finite; lower learner.lr or set learner.clip, and "
                    f"run again with --allow-change learner: it goes on from iteration {newest}"
                )
            if challenges or evaluates:
                self.interrupt.unsaved = f"the evaluation of iteration {done}"
            if challenges:
                state, result = self.promote(state, done)
                row |= result
            if evaluates:
                row |= self.evaluate(state, done)
            log.write(row)  # before the commit: a run resumed from it must not lack the row
            if commits:
                extra = self.commit(state, done, row)
            self.state, self.done = state, done
            yield row
            if self.stopping.over:
                _log.info("stopped: no lower loss on the games held back since iteration %d", self.stopping.iteration)
                return
            if last and done < config.iterations:
                _log.warning("%s: stopped after iteration %d; the same command goes on", self.interrupt.name, done)
                return
            mark = time.perf_counter()

    def measure(self, done: int, pending: list[Any], mark: float) -> Row:
        """The row of the iterations since `mark`. The device is waited for here and nowhere else."""
        jax.block_until_ready(pending[-1][0])
        played = time.perf_counter()
        fetched = jax.device_get(pending)
        now = time.perf_counter()
        rows = [iteration.averages(self.config, *one) for one in fetched]
        count, seconds, learn_s = len(pending), now - mark, now - played
        config = self.config
        positions = config.selfplay.games * config.selfplay.plies * count if config.plays else 0
        self.totals["seconds"] += seconds
        updates = round(sum(float(learning["updates"]) for _, learning in fetched))
        games = round(sum(float(sums.get("games", 0)) for sums, _ in fetched))
        self.totals["games"] += games
        self.totals["positions"] += positions
        self.totals["updates"] += updates
        keys = {key for row in rows for key in row}
        means = {key: float(np.mean([row[key] for row in rows if key in row])) for key in sorted(keys)}
        epoch = {"epoch": self.feed.epoch} if self.feed else {}
        return {"iteration": done, "span": count, **self.totals, **means, **epoch} | {
            "lr": float(jnp.asarray(self.lr(max(0, self.totals["updates"] // config.learner.accumulate - 1)))),
            "games_per_s": games / seconds,
            "positions_per_s": positions / seconds,
            "simulations_per_s": positions * config.simulations_per_move(done - 1) / seconds,
            "samples_per_s": updates * config.learner.batch / seconds,
            "self_play_s": seconds / count - learn_s,
            "learn_s": learn_s,
        }

    def losses_held_back(self, state: iteration.RunState, done: int) -> Row:
        """The losses of the EMA on the games held back."""
        assert self.validate is not None
        losses = self.validate(state.train_state.ema)
        self.stopping.measured(losses["validation/loss"], done)
        return losses

    def evaluate(self, state: iteration.RunState, done: int) -> Row:
        began = time.perf_counter()
        key = iteration.stream(state.key, iteration.EVALUATE, done)
        params = self.fold(state.train_state.ema)
        results = {name: play(params, key) for name, play in self.evaluators.items()}
        measured: Row = {}
        for measure in self.measures:
            measured |= measure(params, done)
        evaluation.write_results(self.folder, done, results, timestamp(), measured=measured)
        row: Row = {"evaluation_s": time.perf_counter() - began, **measured}
        for name, result in results.items():
            row |= {f"eval/{name}/{key}": result[key] for key in ("score", "wins", "draws", "losses", "mean_length")}
        return row

    def promote(self, state: iteration.RunState, done: int) -> tuple[iteration.RunState, Row]:
        """Plays the latest network against the best one and replaces that if it is beaten. Returns the state and
        numbers for the row."""
        assert self.gate is not None
        assert state.best is not None
        assert self.promotions is not None
        began = time.perf_counter()
        latest, best = self.fold(state.train_state.ema), self.fold(state.best.variables)
        decision = self.gate.decide(latest, best, iteration.stream(state.key, iteration.PROMOTE, done))
        against, seconds = int(state.best.iteration), time.perf_counter() - began
        if decision.promoted:
            state = iteration.promoted(state)
        verb = "is now" if decision.promoted else "does not replace"
        _log.info("iteration %d %s best (of iteration %d): %s", done, verb, against, decision.reason)
        match = promotion.record(
            self.folder, self.config, self.gate.agent, done, against, decision, seconds, self.promotions
        )
        return state, {
            "promotion_s": seconds,
            "promotion/score": match["score"],
            "promotion/games": match["games"],
            "promotion/best": done if decision.promoted else against,
        }

    def commit(self, state: iteration.RunState, done: int, row: Row) -> Row:
        """Saves a checkpoint. Returns its seconds, for the next row."""
        began = time.perf_counter()
        scores = [value for name, value in row.items() if table.is_score(name)]
        info = {"totals": dict(self.totals), "versions": folder_lib.packages()}
        info |= {"init_from": self.init_from} if self.init_from else {}
        info |= {"promotions": self.promotions} if self.gate else {}
        score = sum(scores) / len(scores) if scores else None
        if self.feed:
            info["data"] = {"batches": self.feed.read, "stopping": self.stopping.state()}
            if not self.config.plays:  # the best checkpoint is that of the lowest loss
                score = -row["validation/loss"] if "validation/loss" in row else None
        self.checkpoints.save(done, iteration.learner_part(state), iteration.data_part(state), info, score)
        return {"checkpoint_s": time.perf_counter() - began}

    def draw(self) -> None:
        from jaxzero.runs import plot  # late: takes half a second

        began = time.monotonic()
        file = self.folder / "learning_curve.png"
        try:
            files.check_regular(file)
            plot.learning_curve(metrics.read(self.folder), file, self.folder.name)
        except (OSError, ConfigError) as error:  # a picture is no reason to end a run
            _log.warning("%s: not drawn: %s", file, error)
        now = time.monotonic()
        self.draw_after = now + DRAWING * (now - began)

    def finish(self, state: iteration.RunState, done: int) -> None:
        """Ends a complete run: writes proof, curve and weights, and logs where they are in one line."""
        config, params = self.config, self.fold(state.train_state.ema)
        self.checkpoints.wait()
        self.interrupt.unsaved = ""
        if self.interrupt.number:
            return
        if not self.totals["updates"]:
            played = config.iterations * config.selfplay.plies
            raise ConfigError(
                f"iterations: nothing was learned: no game has ended in {played} plies of each; raise iterations "
                f"({config.iterations}) or selfplay.plies ({config.selfplay.plies})"
            )
        parts = [f"{self.folder.name}: {done} iterations"]
        if self.stopping.iteration:
            lowest = self.stopping
            parts.append(f"lowest loss on games held back {lowest.lowest:.4f}, after iteration {lowest.iteration}")
        if config.evaluation.exhaustive:
            parts.append(evaluation.prove(self.env, self.network, config, params))
        self.draw()
        parts.append(f"curve {self.folder / 'learning_curve.png'}")
        if config.export.final:
            # A rewound run has set the checkpoint of what is overwritten aside, not deleted it.
            for promoted in (False, True) if self.gate else (False,):
                lines = export_run(self.folder, overwrite=True, promoted=promoted, env=self.env)
                parts += [f"{'promoted ' * promoted}weights {line}" for line in lines]
        _log.info("; ".join(parts))
