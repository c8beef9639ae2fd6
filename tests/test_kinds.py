"""Settings of networks, searches and optimizers: kinds over layers, settings of other kinds, kinds from outside."""

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest

import envs
from jaxzero import networks, search
from jaxzero.config import catalog, settings
from jaxzero.config.fields import Range
from jaxzero.config.schema import Config
from jaxzero.messages import ConfigError
from jaxzero.networks import NETWORKS, MlpConfig, MuZeroConvConfig, NetworkConfig, ResNetConfig
from jaxzero.search import SEARCHES, SearchConfig
from jaxzero.training import optimizers
from jaxzero.training.optimizers import OPTIMIZERS, OptimizerConfig

TIC_TAC_TOE = envs.make("tic_tac_toe")


def resolved(tmp_path: Path, text: str, options: dict[str, str] | None = None, **environ: str) -> Config:
    (tmp_path / "mine.toml").write_text(text)
    variables = {f"JAXZERO_{name}": value for name, value in environ.items()}
    return settings.resolve(str(tmp_path / "mine.toml"), options or {}, variables)


@pytest.mark.parametrize(("text", "options", "environ", "expected"), [
    ('network = {kind = "mlp", sizes = [8]}', {}, {}, MlpConfig(sizes=(8,))),
    # The kind of a higher layer decides: what only the former kind has falls away, what both have stays.
    ('network = {channels = 8, value = "wdl"}', {"network.kind": "mlp"}, {}, MlpConfig(value="wdl")),
    ("network = {channels = 8, norm = 'batch'}", {"network.kind": "muzero_conv"}, {}, MuZeroConvConfig(channels=8)),
    ("network.channels = 8", {"network.sizes": "8 4"}, {"NETWORK_KIND": "mlp"}, MlpConfig(sizes=(8, 4))),
    ("", {"network.kind": "mlp"}, {"NETWORK_CHANNELS": "8"}, MlpConfig()),
    ("", {"network.kind": "resnet"}, {"NETWORK_KIND": "mlp", "NETWORK_SIZES": "8"}, ResNetConfig()),
    # A setting may come before the kind that has it.
    ("network.sizes = [8]", {"network.kind": "mlp"}, {}, MlpConfig(sizes=(8,))),
    ("network.kind = 'mlp'", {"network.channels": "8"}, {"NETWORK_KIND": "resnet"}, ResNetConfig(channels=8)),
])  # fmt: skip
def test_kinds_of_layers(tmp_path: Path, text: str, options: dict, environ: dict, expected: NetworkConfig):
    assert resolved(tmp_path, text, options, **environ).network == expected


@pytest.mark.parametrize(("text", "options", "environ", "message"), [
    (
        "network.sizes = [8]", {}, {},
        'network.sizes (FILE): resnet has no sizes (mlp has); leave it out, or set network.kind = "mlp"',
    ),
    (
        "network.kind = 'mlp'\nnetwork.channels = 8", {}, {},
        "network.channels (FILE): mlp has no channels (resnet, muzero_conv have); leave it out, or set network.kind = "
        '"resnet"',
    ),
    (
        "network.channels = 8", {"network.kind": "mlp", "network.channels": "8"}, {},
        "network.channels (command line): mlp has no channels (resnet, muzero_conv have); leave it out, or set "
        'network.kind = "resnet"',
    ),
    (
        "", {"network.channels": "8"}, {"NETWORK_KIND": "mlp"},
        "network.channels (command line): mlp has no channels (resnet, muzero_conv have); leave it out, or set "
        'network.kind = "resnet"',
    ),
    (
        "search.kind = 'minimax'", {}, {"SEARCH_ENGINE": "mctx"},
        "search.engine (JAXZERO_SEARCH_ENGINE): minimax has no engine (gumbel, puct have); leave it out, or set "
        'search.kind = "gumbel"',
    ),
    (
        "", {"learner.momentum": "0.5"}, {},
        "learner.momentum (command line): adam has no momentum (sgd, muon have); leave it out, or set "
        'learner.optimizer = "sgd"',
    ),
    # Also what falls away is checked.
    ("network.channels = 0", {"network.kind": "mlp"}, {}, "network.channels (FILE): must be from 1 to 4096, got 0"),
    ("", {"network.kind": "mpl"}, {}, "network.kind (command line): unknown value 'mpl'; did you mean 'mlp'? known: "
     + ", ".join(NETWORKS)),
])  # fmt: skip
def test_settings_of_another_kind_are_refused(tmp_path: Path, text: str, options: dict, environ: dict, message: str):
    with pytest.raises(ConfigError) as raised:
        resolved(tmp_path, text, options, **environ)
    assert str(raised.value) == message.replace("FILE", str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(("old", "new"), settings.RENAMED.items())
def test_old_names_are_told_the_new_ones(tmp_path: Path, old: str, new: str):
    assert old not in catalog.every()
    assert new in catalog.every()
    for where, arguments in (
        (str(tmp_path / "mine.toml"), (f"network.sizes = [8]\n{old} = 2", {}, {})),
        (settings.variable(old), ("", {}, {settings.variable(old).removeprefix("JAXZERO_"): "2"})),
        (f"--{old}", ("", {old: "2"}, {})),
    ):
        text, options, environ = arguments
        with pytest.raises(ConfigError) as raised:
            resolved(tmp_path, text, options, **environ)
        assert str(raised.value) == f"{where}: {old} is now called {new}; use that name"


def test_settings_of_one_name_have_one_type():
    """The command line parses them before their kind is known."""
    hints: dict[str, set[Any]] = {}
    for choice in catalog.CHOICES:
        for kind, (cls, *_) in choice.registry.items():
            assert kind == cls.kind
            for name, field in catalog.fields(catalog.defaults({choice.name: kind})).items():
                hints.setdefault(name, set()).add(field.hint)
    assert [name for name, found in hints.items() if len(found) > 1] == []


@dataclasses.dataclass(frozen=True)
class ToyNetworkConfig(NetworkConfig):
    """Nothing but biases."""

    kind: typing.ClassVar[str] = "toy"
    scale: typing.Annotated[float, Range(0, 9)] = 2.0
    """Factor of the logits."""


@dataclasses.dataclass(frozen=True)
class ToySearchConfig(SearchConfig):
    """No search."""

    kind: typing.ClassVar[str] = "toy_search"
    depth: typing.Annotated[int, Range(1, 9)] = 3
    """Plies."""


@dataclasses.dataclass(frozen=True)
class ToyOptimizerConfig(OptimizerConfig):
    """No steps."""

    kind: typing.ClassVar[str] = "toy_steps"
    damping: typing.Annotated[float, Range(0, 1)] = 0.5
    """Share of each step."""


def test_a_network_search_and_optimizer_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One entry in a dict each: its settings are then read, checked, kept, refused elsewhere, and reach its maker."""
    monkeypatch.setitem(NETWORKS, "toy", (ToyNetworkConfig, lambda config, env: (config, env)))
    monkeypatch.setitem(SEARCHES, "toy_search", (ToySearchConfig, lambda *arguments: arguments))
    monkeypatch.setitem(OPTIMIZERS, "toy_steps", (ToyOptimizerConfig, lambda config: config))
    text = 'network = {kind = "toy", scale = 3.0}\nsearch.kind = "toy_search"\nlearner.optimizer = "toy_steps"'
    config = resolved(tmp_path, text, {"learner.damping": "0.25"}, SEARCH_DEPTH="5")
    assert (config.network, config.search) == (ToyNetworkConfig(scale=3.0), ToySearchConfig(depth=5))
    assert config.learner.optimizer == ToyOptimizerConfig(damping=0.25)
    assert networks.make(config.network, TIC_TAC_TOE) == (config.network, TIC_TAC_TOE)
    model: Any = None
    assert search.make(config.search, TIC_TAC_TOE, model) == (config.search, TIC_TAC_TOE, None, 16)
    assert optimizers.make(config.learner.optimizer) == config.learner.optimizer
    assert resolved(tmp_path, settings.dump(config)) == dataclasses.replace(config, name="mine")
    assert catalog.fields(config)["network.kind"].default == "resnet"
    assert catalog.every()["learner.damping"].help == "Share of each step."
    assert "toy: Nothing but biases." in catalog.every()["network.kind"].help
    for name in ("network.scale", "search.depth", "learner.damping"):
        with pytest.raises(ConfigError, match=rf"^{name} \(.*\): .* has no {name.partition('.')[2]} \(toy.* has\); "):
            resolved(tmp_path, f"{name} = 1")
    with pytest.raises(ConfigError, match=r"^search\.depth \(command line\): must be from 1 to 9, got 10$"):
        resolved(tmp_path, text, {"search.depth": "10"})
