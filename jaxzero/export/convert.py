"""Weight files into other formats, and proof that a file is what it says."""

import os
import tempfile
from pathlib import Path
from typing import Any

from jaxzero.config.games import make_env
from jaxzero.config.schema import GameConfig, NetworkConfig
from jaxzero.export import FORMATS, formats, parity, publish
from jaxzero.export.load import fitted, read
from jaxzero.export.model import ExportedModel, make
from jaxzero.messages import ConfigError, shortened
from jaxzero.networks import NETWORKS

DEEPEST, WIDEST = 64, 1 << 20  # layers of a kind; units of one


def convert(source: str | Path, target: str | Path | None, *, test: bool = False, overwrite: bool = False) -> list[str]:
    """Writes a .pt, .safetensors or .json file in another format; with `test`, and if it is a program, compares what it
    computes with the JAX network of the same weights, on positions of self-play. Returns lines to be read.

    Raises:
        ConfigError: one line that names the file; then nothing was written.
    """
    source = Path(source)
    model = rebuild(source)
    if target is None:
        if not test:
            raise ConfigError("give a file to write, or --test")
        return [f"{source}: {certificate(source, model, source)}"]
    target = Path(target)
    kind = target.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise ConfigError(f"{target}: cannot be written; give one of {', '.join('.' + kind for kind in FORMATS)}")
    module, (function, *others) = formats.load(kind), model.functions
    if module.PROGRAM and others:
        raise ConfigError(f"{target}: a program is one function, and this network has more; use jaxzero export")
    if os.path.lexists(target) and not overwrite:
        raise ConfigError(f"{target}: is there already; move it, or use --overwrite")
    try:
        place = tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-")
        with publish.unless_full(target), place as folder:
            draft = Path(folder) / target.name
            module.write(draft, model, function)
            if not module.PROGRAM:
                rebuild(draft)
            line = f" ({certificate(draft, model, target)})" if test or module.PROGRAM else ""
            publish.replace(draft, target)
    except OSError as error:
        raise ConfigError(f"{target}: {os.strerror(error.errno or 0)}; give a file that can be written") from error
    except ConfigError:
        raise
    except ValueError as error:  # a format that cannot hold what another can
        raise ConfigError(f"{target}: {shortened(str(error), 400)}; nothing was written") from error
    return [f"{target}{line}"]


def rebuild(path: Path) -> ExportedModel:
    """The network of a file, by what it says of its game and network."""
    try:
        weights, metadata = read(path)
        env = make_env(GameConfig(metadata["game"]["name"], options=metadata["game"]["options"]))
        network = configuration(metadata["network"])
        params, metadata = fitted(weights, metadata, env, network)
        half = metadata.get("dtype") == "float16"
        return make(env, network, params, metadata.get("training", {}), half=half)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; give a file that can be read") from error
    except ValueError as error:  # ours among them
        raise ConfigError(f"{path}: {shortened(str(error), 400)}") from error
    except Exception as error:  # what building from a wrong description raises has no common type
        raise ConfigError(f"{path}: game or network cannot be built as described ({type(error).__name__})") from error


def configuration(description: dict[str, Any]) -> NetworkConfig:
    """The settings of which `model.architecture` makes this description, which `fitted` checks. ValueError: one has
    another type, or the network is too deep to be built in good time."""
    kind = description["kind"]
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise ValueError(f"network.kind is {shortened(kind)}, which no network here has")
    cls, _ = NETWORKS[kind]
    defaults = vars(cls())
    known = {name: value for name, value in description.items() if name in defaults}
    known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    for name, value in known.items():
        numbers = value if isinstance(value, tuple) else [value] * isinstance(value, int)
        whole = all(isinstance(n, int) and 0 <= n <= WIDEST for n in numbers)
        layers = len(numbers) if isinstance(value, tuple) else value if name.endswith("blocks") else 0
        if type(value) is not type(defaults[name]) or not whole or layers > DEEPEST:
            raise ValueError(f"network.{name} is {shortened(value)}, which no network here has")
    return cls(**{**known, "dtype": "float32"})


def certificate(path: Path, model: ExportedModel, named: Path) -> str:
    """Compares a file with the JAX network. ConfigError: it computes something else; the line speaks of `named`."""
    module, (function, *_) = formats.load(path.suffix.removeprefix(".")), model.functions
    job = publish.Job(module, "", named, function, model.metadata["dtype"])
    return "; ".join(map(str, publish.prove(job, path, model, parity.references(model))))
