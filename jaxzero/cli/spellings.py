"""The answer to an option that does not exist: what other trainers call so, or the nearest name here."""

import difflib
import re
from collections.abc import Sequence

from jaxzero.messages import shortened

CUTOFF = 0.8  # of similarity, below which a suggestion misleads more than it helps
_DEVICES = "--devices"
_MINIMAX = "--search.kind minimax --search.widths 15 10 5"
_RUN = "--root RUNS --name NAME"
_SHARE = "--data.sources DIR with --data.share 1, which plays no games"
_LENGTH = "--selfplay.games and --selfplay.plies: an iteration plays so many plies of so many games"
_RATIO = "--learner.replay_ratio: how often a position is trained on; it sets the updates of an iteration"
_SIMULATIONS = ("--search.simulations", "--simulations", "RUN:SIMULATIONS in place of RUN")

# By the names of others without dashes and underscores. An entry that begins with an option is what to use here; where
# several are given, the first that the command has. Names whose last part is the same here need no entry.
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "actors": ("--selfplay.games: games played in parallel",),
    "agentdir": (_RUN,),
    "amp": ("--network.dtype bfloat16",),
    "arenacompare": ("--promotion.games", "--games"),
    "basedatadir": ("--out", "--root"),
    "basedir": ("--root",),
    "batchsize": ("--learner.batch; games searched at once are --selfplay.games", "--at-once"),
    "cachesize": ("no option: positions of a search stay in its tree, and others are not kept",),
    "checkpointfreq": ("--checkpoint.every",),
    "checkpointinterval": ("--checkpoint.every",),
    "chunksize": ("--chunk", "--shard", "`jaxzero data clean --chunk`"),
    "cpuct": ("--search.kind puct --search.c_puct",),
    "cudavisibledevices": ("the environment variable CUDA_VISIBLE_DEVICES, or JAX_PLATFORMS=cpu",),
    "device": ("the environment variable JAX_PLATFORMS=cpu, or cuda; --devices says on how many",),
    "dirichletepsilon": ("--search.kind puct --search.dirichlet_fraction",),
    "env": ("--game.name, or a preset of the game", "--game"),
    "envid": ("--game.name, or a preset of the game", "--game"),
    "episodes": (_LENGTH,),
    "epochs": (f"{_RATIO}; for positions from disk, --data.epochs",),
    "evalfreq": ("--evaluation.every",),
    "evalgames": ("--evaluation.games", "--games"),
    "evalinterval": ("--evaluation.every",),
    "evaluators": ("--evaluation.games and --evaluation.every",),
    "existingshuffleddatadir": ("--data.sources",),
    "explorationrate": ("--search.epsilon",),
    "gamesperiteration": (_LENGTH,),
    "gradaccumsteps": ("--learner.accumulate",),
    "gradclip": ("--learner.clip",),
    "itersperepoch": (_RATIO,),
    "l2": ("--learner.weight_decay with --learner.decay l2",),
    "learningrate": ("--learner.lr",),
    "lrinit": ("--learner.lr",),
    "maxepochs": ("--iterations, or --data.epochs",),
    "maxlenofqueue": ("--replay.capacity",),
    "maxnumiters": ("--iterations",),
    "maxsamples": ("--data.positions",),
    "maxsimulations": _SIMULATIONS,
    "maxsteps": ("--iterations",),
    "maxworkerstrmph": ("--workers", "`jaxzero data import --workers`"),
    "mctsbatchsize": ("--selfplay.games: every network call takes one position of each game",),
    "mctscpuct": ("--search.kind puct --search.c_puct",),
    "mctssims": _SIMULATIONS,
    "mctssimulations": _SIMULATIONS,
    "minibatchsize": ("--learner.batch",),
    "modelepoch": ("--from-step", "RUN@STEP in place of RUN"),
    "modelmini": ("--init-from FILE",),
    "modelpath": ("--init-from FILE", "a run or a file as an argument"),
    "nblocks": ("--network.blocks",),
    "nchannels": ("--network.channels",),
    "nndepth": ("--network.blocks",),
    "nnwidth": ("--network.channels",),
    "noamp": ("--network.dtype float32",),
    "nocleanup": ("`jaxzero data shuffle` without --remove keeps what it reads",),
    "nopreprocessing": ("`jaxzero data`, where each stage is a command",),
    "noselfplay": (_SHARE,),
    "noshuffling": ("--data.no-shuffle",),
    "notraining": ("`jaxzero data generate`, which plays games and trains nothing",),
    "notrmphprocessing": ("`jaxzero data`, where each stage is a command",),
    "numactors": ("--selfplay.games: games played in parallel",),
    "numblocks": ("--network.blocks",),
    "numbucketsshuffle": ("--memory: it decides on the buckets", "`jaxzero data shuffle --memory`"),
    "numchannels": ("--network.channels",),
    "numenvs": ("--selfplay.games",),
    "numeps": (_LENGTH,),
    "numepochs": (f"{_RATIO}; for positions from disk, --data.epochs",),
    "numgames": ("--games", _LENGTH),
    "numiters": ("--iterations",),
    "numlayers": ("--network.blocks",),
    "nummctssims": _SIMULATIONS,
    "numresblocks": ("--network.blocks",),
    "numselfplay": (_LENGTH,),
    "numsimulations": _SIMULATIONS,
    "numunrollsteps": ("--learner.unroll",),
    "numworkers": ("--workers", _DEVICES),
    "outputdir": ("--out", "--root"),
    "pbcinit": ("--search.kind puct --search.c_puct",),
    "peralpha": ("--learner.priority",),
    "playouts": _SIMULATIONS,
    "policyalpha": ("--search.kind puct --search.dirichlet_alpha",),
    "policyepsilon": ("--search.kind puct --search.dirichlet_fraction",),
    "positionselector": ("--select", "`jaxzero data convert --select`"),
    "precision": ("--network.dtype",),
    "producerdevice": (f"{_DEVICES}: games are played on the devices that train",),
    "producerqueuesize": ("--replay.capacity: self-play and learning take turns, without a queue",),
    "producerworkers": (f"{_DEVICES}: self-play and learning take turns on the same devices",),
    "ratio": (_RATIO,),
    "reanalyzeratio": ("--learner.reanalyse",),
    "replaybuffersize": ("--replay.capacity",),
    "replaybufferreuse": (_RATIO,),
    "replaycapacity": ("--replay.capacity",),
    "resultsdir": ("--root",),
    "resume": ("the same command without it: a run of that name goes on",),
    "rootdirichletalpha": ("--search.kind puct --search.dirichlet_alpha",),
    "rootexplorationfraction": ("--search.kind puct --search.dirichlet_fraction",),
    "savecheckpointevery": ("--checkpoint.every",),
    "searchwidths": (_MINIMAX,),
    "selfplaybatchsize": ("--selfplay.games",),
    "selfplaydir": ("--data.sources",),
    "sims": _SIMULATIONS,
    "skipfiles": ("--data.sources DIR:WEIGHT:SKIP",),
    "supportsize": ("--network.support",),
    "temperaturedrop": ("--search.temperature_plies",),
    "tempthreshold": ("--search.temperature_plies",),
    "trainbatchsize": ("--learner.batch",),
    "traineriters": (_RATIO,),
    "trainingbatchsize": ("--learner.batch",),
    "trainingiterations": ("--iterations",),
    "trainingsteps": ("--iterations",),
    "uctc": ("--search.kind puct --search.c_puct",),
    "updatepercollect": (_RATIO,),
    "updatethreshold": ("--promotion.rule threshold --promotion.threshold",),
    "useamp": ("--network.dtype bfloat16",),
    "visits": _SIMULATIONS,
    "weightdecayl2": ("--learner.weight_decay with --learner.decay l2",),
    "workers": (_DEVICES,),
}


def answer(option: str, known: Sequence[str]) -> str:
    """What to use in place of an option that is none of the `known` ones of the command."""
    name = option.split("=", 1)[0]
    plain = _plain(name)
    taken = next((text for text in ELSEWHERE.get(plain, ()) if _has(text, known)), "")
    if not taken:
        same = [other for other in known if _plain(other.rpartition(".")[2]) == plain]
        near = [other for other in difflib.get_close_matches(name, known, cutoff=CUTOFF) if _alike(name, other)]
        taken = " or ".join(same[:3] or near[:1])
    use = f"use {taken}" if taken else "add --help for the list of options"
    return f"there is no option {shortened(name)}; {use}"


def _plain(name: str) -> str:
    return re.sub(r"[-_]", "", name.lower())


def _alike(name: str, other: str) -> bool:
    """Whether the parts after the section are alike too."""
    one, two = (text.rpartition(".")[2] for text in (name, other))
    return difflib.SequenceMatcher(None, one, two).ratio() >= CUTOFF


def _has(text: str, known: Sequence[str]) -> bool:
    """Whether the command has the option that the text begins with, if it begins with one."""
    first = re.match(r"--[\w.-]+", text)
    return first is None or first[0] in known
