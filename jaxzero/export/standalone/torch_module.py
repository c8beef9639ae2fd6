"""Networks trained by jaxzero, in PyTorch alone: copy this one file anywhere.

    network = load("name_step000100.pt")
    logits, value = network(observation)    # f32[B, *observation_shape] -> f32[B, A], f32[B]
    save(network, "tuned.pt")               # after training it here; `jaxzero train PRESET --init-from tuned.pt`

`python torch_module.py FILE.pt` describes a file. Letters: B batch, H rows, W columns, C channels, A actions.
"""

import ctypes
import hashlib
import io
import os
import pickletools
import signal
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = "jaxzero network"
VERSION = 1
LARGEST = 1 << 31  # bytes of a file
# The form and the names of a pickle of float tensors alone.
ASKED = {2, "torch._utils _rebuild_tensor_v2", "torch FloatStorage", "torch HalfStorage", "collections OrderedDict"}
TYPES = {"kind": str, "value": str, "pooling": bool, "shared": bool, "sizes": list, "observation_shape": list}
OPTIONAL = {"blocks", "dynamics_blocks", "value_hidden", "codes", "projection"}  # numbers that may be 0


class Network(nn.Module):
    """Observations [B, *observation_shape] -> policy logits [B, A] and value [B].

    An observation is what `env.observe` gives: rows, columns, planes. The value is the player to move's, in [-1, 1];
    illegal actions are not masked. `metadata` describes the game, the planes, the actions and the training.
    """

    functions: tuple[str, ...] = ("predict",)  # the methods that are exported, each from tensors to tensors

    def __init__(self, metadata: dict[str, Any]):
        super().__init__()
        self.metadata = metadata
        self.observation_shape = tuple(metadata["observation_shape"])
        self.kind, self.support = metadata["network"]["value"], metadata["network"].get("support", 0)
        self.has_wdl = self.kind == "wdl"
        self.outputs = {"wdl": 3, "categorical": 2 * self.support + 1}.get(self.kind, 1)

    def heads(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Policy logits [B, A] and value outputs: [B, 1], or [B, 3] logits of win, draw, loss."""
        raise NotImplementedError

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        return self.predict(observation)

    def predict(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        logits, outputs = self.heads(self.check(observation))
        return logits, self.number(outputs)

    def number(self, outputs: Tensor) -> Tensor:
        """What the outputs [B, ·] of a value head mean, [B]."""
        if self.has_wdl:
            win, _, loss = outputs.softmax(-1).unbind(-1)
            return win - loss
        if self.kind == "scalar":
            return outputs[:, 0].tanh()
        y = outputs[:, 0]
        if self.kind == "categorical":
            bins = torch.arange(-self.support, self.support + 1, dtype=outputs.dtype, device=outputs.device)
            y = (outputs.softmax(-1) * bins).sum(-1)
        size = y.abs() + 1.001  # the inverse of sign(x)(sqrt(|x| + 1) - 1) + 0.001 x
        return y.sign() * ((2 * size / ((1 + 0.004 * size).sqrt() + 1)).square() - 1).relu()

    def wdl(self, observation: Tensor) -> Tensor:
        """Probabilities [B, 3] of win, draw and loss for the player to move."""
        if not self.has_wdl:
            raise ValueError("this network was trained with a scalar value; it has no win, draw and loss")
        return self.heads(self.check(observation))[1].softmax(-1)

    def check(self, observation: Tensor) -> Tensor:
        if tuple(observation.shape[1:]) != self.observation_shape:
            expected = ", ".join(map(str, self.observation_shape))
            raise ValueError(f"an observation is [B, {expected}], got {list(observation.shape)}")
        return observation.to(next(self.parameters()).dtype)


class Block(nn.Module):
    """[B, C, H, W] -> the same; `pooled` adds a bias made of the whole board's mean and maximum."""

    def __init__(self, channels: int, pooling: bool):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.pooled = nn.Linear(2 * channels, channels) if pooling else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        z = self.second(y)
        if self.pooled is not None:
            z = z + self.pooled(torch.cat([y.mean((2, 3)), y.amax((2, 3))], -1))[:, :, None, None]
        return (x + z).relu()


class Head(nn.Module):
    """[B, C, H, W] -> [B, outputs]: 1×1 convolution, flattened board, dense layers."""

    def __init__(self, channels: int, head_channels: int, squares: int, hidden: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, head_channels, 1)
        flat = squares * head_channels
        self.hidden = nn.Linear(flat, hidden) if hidden else None
        self.out = nn.Linear(hidden or flat, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().permute(0, 2, 3, 1).flatten(1)  # the dense layers know the order H, W, C
        if self.hidden is not None:
            x = self.hidden(x).relu()
        return self.out(x)


def tower(planes: int, channels: int, blocks: int, pooling: bool) -> nn.Sequential:
    """A stem and residual blocks, [B, planes, H, W] -> [B, C, H, W]."""
    layers = OrderedDict[str, nn.Module](stem=nn.Conv2d(planes, channels, 3, padding=1), relu=nn.ReLU())
    for i in range(blocks):
        layers[f"block{i}"] = Block(channels, pooling)
    return nn.Sequential(layers)


class ResNet(Network):
    """Residual convolutional network; normalisation is already part of the convolutions."""

    def __init__(self, metadata: dict[str, Any]):
        super().__init__(metadata)
        network = metadata["network"]
        rows, columns, planes = self.observation_shape
        channels, head_channels = network["channels"], network["head_channels"]
        for name, part in tower(planes, channels, network["blocks"], network["pooling"]).named_children():
            self.add_module(name, part)
        self.policy = Head(channels, head_channels, rows * columns, 0, metadata["num_actions"])
        self.value = Head(channels, head_channels, rows * columns, network["value_hidden"], self.outputs)

    def heads(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        x = observation.permute(0, 3, 1, 2)
        *layers, policy, value = self.children()
        for layer in layers:
            x = layer(x)
        return policy(x), value(x)


def trunk(inputs: int, sizes: list[int]) -> nn.Sequential:
    """Dense layers [B, inputs] -> [B, sizes[-1]], a ReLU after each."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (width_in, width_out) in enumerate(zip([inputs, *sizes], sizes, strict=False)):
        layers[f"layer{i}"] = nn.Linear(width_in, width_out)
        layers[f"relu{i}"] = nn.ReLU()
    return nn.Sequential(layers)


class Mlp(Network):
    """Dense network; policy and value share one trunk or have one each."""

    def __init__(self, metadata: dict[str, Any]):
        super().__init__(metadata)
        network = metadata["network"]
        sizes, inputs = network["sizes"], torch.Size(self.observation_shape).numel()
        self.trunk = trunk(inputs, sizes)
        self.value_trunk = None if network["shared"] else trunk(inputs, sizes)
        self.policy = nn.Linear(sizes[-1], metadata["num_actions"])
        self.value = nn.Linear(sizes[-1], self.outputs)

    def heads(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        x = observation.flatten(1)
        y = self.trunk(x)
        z = y if self.value_trunk is None else self.value_trunk(x)
        return self.policy(y), self.value(z)


def dense(inputs: int, sizes: list[int], outputs: int) -> nn.Sequential:
    """[B, inputs] -> [B, outputs] through hidden layers."""
    return nn.Sequential(OrderedDict(trunk=trunk(inputs, sizes), out=nn.Linear(sizes[-1], outputs)))


class MuZero(Network):
    """A network that models its game, of three functions whose latent states [B, …] lie in [0, 1]:

    (latent,) = network.represent(observation)
    latent, reward, discount = network.dynamics(latent, action)    # action i32[B]
    logits, value = network.predict(latent)

    The reward is the acting player's; the discount says who moves next: 1 the same player, -1 the other, 0 nobody.
    """

    functions = ("represent", "dynamics", "predict")

    def build(self, size: int, head: Callable[[int, bool], nn.Module]) -> None:
        """Adds the heads, each made by `head(outputs, hidden)`, and layers that only training uses."""
        self.num_actions = self.metadata["num_actions"]
        self.policy = head(self.num_actions, False)
        self.value, self.reward, self.follows = (head(n, True) for n in (self.outputs, self.outputs, 3))
        if codes := self.metadata["network"]["codes"]:
            self.functions = (*self.functions, "settle")
            self.codes = head(codes, True)
            inputs, hidden = torch.Size(self.observation_shape).numel(), self.metadata["network"]["hidden_dim"]
            self.coder = dense(2 * inputs, [hidden] * 2, codes)
        if width := self.metadata["network"]["projection"]:
            self.projector, self.online = dense(size, [width], width), dense(width, [width], width)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        return self.predict(*self.represent(observation))

    def represent(self, observation: Tensor) -> tuple[Tensor]:
        return (scaled(self.encode(self.check(observation))),)

    def dynamics(self, latent: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen = (action[:, None] == torch.arange(self.num_actions, device=action.device)).to(latent.dtype)
        latent = scaled(latent + self.move(latent, chosen))
        same, other, _ = self.read(self.follows, latent).softmax(-1).unbind(-1)
        return latent, self.number(self.read(self.reward, latent)), same - other

    def settle(self, latent: Tensor, code: Tensor) -> tuple[Tensor]:
        """The position after an outcome of chance, one of `codes`, as f32[B, codes]."""
        return (scaled(latent + self.happen(latent, code)),)

    def predict(self, latent: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.read(self.policy, latent), self.number(self.read(self.value, latent))

    def heads(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        (latent,) = self.represent(observation)
        return self.read(self.policy, latent), self.read(self.value, latent)

    def encode(self, observation: Tensor) -> Tensor:
        raise NotImplementedError

    def move(self, latent: Tensor, chosen: Tensor) -> Tensor:
        raise NotImplementedError

    def happen(self, latent: Tensor, code: Tensor) -> Tensor:
        raise NotImplementedError

    def read(self, head: nn.Module, latent: Tensor) -> Tensor:
        raise NotImplementedError


def scaled(latent: Tensor) -> Tensor:
    """Each latent to [0, 1] by its own least and greatest number."""
    axes = tuple(range(1, latent.ndim))
    low, high = latent.amin(axes, keepdim=True), latent.amax(axes, keepdim=True)
    return (latent - low) / (high - low + 1e-5)


class MuZeroMlp(MuZero):
    """Latents [B, latent_dim]."""

    def __init__(self, metadata: dict[str, Any]):
        super().__init__(metadata)
        network, inputs = metadata["network"], torch.Size(self.observation_shape).numel()
        hidden, size = network["hidden_dim"], network["latent_dim"]
        self.encoder = dense(inputs, [hidden] * 2, size)
        self.mover = dense(size + metadata["num_actions"], [hidden] * 2, size)
        if codes := network["codes"]:
            self.settler = dense(size + codes, [hidden] * 2, size)
        self.build(size, lambda outputs, _: dense(size, [hidden], outputs))

    def encode(self, observation: Tensor) -> Tensor:
        return self.encoder(observation.flatten(1))

    def move(self, latent: Tensor, chosen: Tensor) -> Tensor:
        return self.mover(torch.cat([latent, chosen], -1))

    def happen(self, latent: Tensor, code: Tensor) -> Tensor:
        return self.settler(torch.cat([latent, code], -1))

    def read(self, head: nn.Module, latent: Tensor) -> Tensor:
        return head(latent)


class MuZeroConv(MuZero):
    """Latents [B, H, W, C]."""

    def __init__(self, metadata: dict[str, Any]):
        super().__init__(metadata)
        network, (rows, columns, planes) = metadata["network"], self.observation_shape
        channels, self.shape = network["channels"], (rows, columns, network["action_planes"])
        self.encoder = tower(planes, channels, network["blocks"], network["pooling"])
        self.mover = tower(channels + self.shape[2], channels, network["dynamics_blocks"], network["pooling"])
        self.action = nn.Linear(metadata["num_actions"], torch.Size(self.shape).numel(), bias=False)
        if codes := network["codes"]:
            self.settler = tower(channels + self.shape[2], channels, network["dynamics_blocks"], network["pooling"])
            self.code = nn.Linear(codes, torch.Size(self.shape).numel(), bias=False)
        head_channels, squares, hidden = network["head_channels"], rows * columns, network["value_hidden"]
        self.build(squares * channels, lambda n, deep: Head(channels, head_channels, squares, hidden * deep, n))

    def encode(self, observation: Tensor) -> Tensor:
        return self.encoder(observation.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def move(self, latent: Tensor, chosen: Tensor) -> Tensor:
        return self.beside(self.mover, latent, self.action(chosen))

    def happen(self, latent: Tensor, code: Tensor) -> Tensor:
        return self.beside(self.settler, latent, self.code(code))

    def beside(self, layers: nn.Module, latent: Tensor, planes: Tensor) -> Tensor:
        seen = torch.cat([latent, planes.unflatten(1, self.shape)], -1)
        return layers(seen.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def read(self, head: nn.Module, latent: Tensor) -> Tensor:
        return head(latent.permute(0, 3, 1, 2))


KINDS: dict[str, type[Network]] = {"resnet": ResNet, "mlp": Mlp, "muzero_mlp": MuZeroMlp, "muzero_conv": MuZeroConv}


def digest(state_dict: dict[str, Tensor]) -> str:
    """sha256 over names, shapes and values of the weights, in order of name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        tensor = tensor.cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(ctypes.string_at(tensor.data_ptr(), tensor.nbytes))  # bytes without needing numpy
    return sha.hexdigest()


def save(network: Network, path: str | os.PathLike[str]) -> None:
    """Writes the network as it is now, with a fresh digest, in the file format that `load` reads.

    Raises:
        OSError, ValueError: it cannot be written, or `load` would refuse it, as with weights that are not finite; what
            was there before is left as it was.
    """
    write(network.state_dict(), network.metadata, path)


def write(state_dict: dict[str, Tensor], metadata: dict[str, Any], path: str | os.PathLike[str]) -> None:
    state_dict = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in state_dict.values()}
    facts = {"format": FORMAT, "format_version": VERSION, "dtype": min(kinds), "weights_sha256": digest(state_dict)}
    contents = {"state_dict": state_dict, "metadata": metadata | facts}
    rebuild(contents)
    whole = io.BytesIO()  # by its name the file would differ, and on a full disk torch's writer ends the process
    torch.save(contents, whole)
    draft = f"{os.fspath(path)}.{os.getpid()}"
    try:
        with open(draft, "wb") as file:
            file.write(whole.getbuffer())
        os.replace(draft, path)
    finally:
        if os.path.exists(draft):
            os.remove(draft)


def load(path: str | os.PathLike[str]) -> Network:
    """The network of an exported file, on the CPU, in evaluation mode; it computes in float32, also if its weights
    were stored in float16 (`network.half()` computes in float16).

    Nothing that a file says is executed, and no more memory is taken than the file has bytes.

    Raises:
        OSError, ValueError: one line naming the file and what is wrong with it.
    """
    try:
        return rebuild(read(path)).float()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read(path: str | os.PathLike[str]) -> Any:
    """What a .pt file holds: plain values and tensors, whatever they say. ValueError: what is wrong."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                wrong = suspicious(archive, os.fstat(file.fileno()).st_size)
            if not wrong:
                file.seek(0)
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # what reading a damaged file raises has no common type
            raise ValueError(f"not a readable .pt file of weights alone ({type(error).__name__})") from error
    raise ValueError(wrong)


def suspicious(archive: zipfile.ZipFile, size: int) -> str:
    """What no file of ours has, "" if there is nothing such."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if size > LARGEST or sum(entry.file_size for entry in entries) > size or any(x.compress_type for x in entries):
        return "not written by jaxzero: it is too large, or its entries are compressed or overlap"
    if len({name.lower() for name in names}) < len(names) or all(entry.header_offset for entry in entries):
        return "not written by jaxzero: two entries have one name, or something stands before them"
    if any(".." in name.split("/") or name.startswith("/") for name in names):
        return "not written by jaxzero: an entry points outside"
    if archive.testzip() is not None:
        return "the file is damaged: an entry does not have its checksum"
    pickles = [archive.read(name) for name in names if name.endswith("/data.pkl")]
    asked = {word for text in pickles for code, word, _ in pickletools.genops(text) if code.name in ("PROTO", "GLOBAL")}
    # Some of what torch allows beside these takes any amount of memory.
    return f"not written by jaxzero: it asks for {str(min(asked - ASKED, key=str))[:80]!r}" if asked - ASKED else ""


def rebuild(contents: Any) -> Network:
    """{"state_dict": …, "metadata": …} -> network, its weights as they are stored. ValueError: what is wrong."""
    state_dict, metadata = parts(contents)
    try:
        check_description(metadata, len(state_dict))
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
            network = KINDS[metadata["network"]["kind"]](metadata)
        expected = network.to(getattr(torch, metadata.get("dtype", "float32"))).state_dict()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the network description cannot be followed: {type(error).__name__} {reason}") from error
    fit(state_dict, expected)
    if metadata.get("weights_sha256") != digest(state_dict):
        raise ValueError("the weights are damaged: they do not have the digest in the metadata")
    network.load_state_dict(state_dict, assign=True)
    return network.eval()


def check_description(metadata: dict[str, Any], most: int) -> None:
    """ValueError if a fact has a wrong type or size, or asks for more than `most` layers: building takes no memory, but
    time."""
    if metadata["network"]["value"] not in ("scalar", "wdl", "transformed", "categorical"):
        raise ValueError(f"value is {short(metadata['network']['value'])}")
    shapes = {name: metadata[name] for name in ("num_actions", "observation_shape")}
    for name, value in {**metadata["network"], **shapes}.items():
        kind = TYPES.get(name, int)
        numbers = value if kind is list else [value] if kind is int else []
        wrong = type(value) is not kind or any(type(n) is not int or n < (name not in OPTIONAL) for n in numbers)
        if wrong or value == [] or len(numbers) > most or (name.endswith("blocks") and value > most):
            raise ValueError(f"{name} is {short(value)}")


def parts(contents: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State_dict and metadata if they are what this file writes, whatever they say. ValueError: what is wrong."""
    contents = contents if type(contents) is dict else {}
    state_dict, metadata = contents.get("state_dict"), contents.get("metadata")
    if type(state_dict) is not dict or type(metadata) is not dict:  # attributes of a subclass may hide its methods
        raise ValueError("not written by jaxzero: it holds no state_dict and metadata")
    check_plain(metadata)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"not written by jaxzero: its format is {short(metadata.get('format'))}, not {FORMAT!r}")
    if metadata.get("format_version") != VERSION:
        raise ValueError(f"format version {short(metadata.get('format_version'))}, this file reads {VERSION}")
    if metadata.get("dtype", "float32") not in ("float32", "float16"):
        raise ValueError(f"weights of type {short(metadata['dtype'])}; known are float32 and float16")
    check_tensors(state_dict)
    return state_dict, metadata


def check_plain(metadata: dict[str, Any]) -> None:
    """ValueError if the metadata is not a tree of texts and finite numbers that can be shown, each written once."""
    left, seen = [(metadata, 0)], set()
    while left:
        value, depth = left.pop()
        if type(value) in (dict, list):
            if depth > 50 or (value and id(value) in seen):
                raise ValueError("the metadata is nested deeply, or contains itself or a part of it twice")
            seen.add(id(value))
            if type(value) is dict and not all(type(key) is str for key in value):
                raise ValueError("the metadata has names that are no texts")
            left += [(part, depth + 1) for part in ([*value, *value.values()] if type(value) is dict else value)]
        elif isinstance(value, str):
            value.encode()  # UnicodeEncodeError, a ValueError
        elif value is not None and not (isinstance(value, int | float) and abs(value) < 1e300):
            raise ValueError(f"metadata of type {type(value).__name__} is no text, list, dict or number below 1e300")


def short(value: Any) -> str:
    return repr(value)[:50] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def check_tensors(state_dict: dict[Any, Any]) -> None:
    """ValueError if something is no plain tensor with memory of its own, such as one number shown as a billion."""
    places = set()
    for name, tensor in state_dict.items():
        if not isinstance(name, str) or not name.isprintable() or type(tensor) is not Tensor:
            raise ValueError(f"state_dict: {short(name)} is a {type(tensor).__name__}, not a tensor with a name")
        whole = tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.is_contiguous()
        if not whole or tensor.is_neg() or tensor.dtype not in (torch.float32, torch.float16):
            raise ValueError(f"{name[:80]} is not plain: {tensor.dtype}, {tensor.layout}, {tensor.device}, or negated")
        if tensor.nbytes != tensor.untyped_storage().nbytes() or tensor.data_ptr() in places:
            raise ValueError(f"{name[:80]} is not plain: it shares its memory, or has more of it")
        if not tensor.isfinite().all():
            raise ValueError(f"{name[:80]} is not finite")
        places.add(tensor.data_ptr())


def fit(given: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name in sorted(given.keys() | expected.keys()):
        shapes = [f"{weights[name].dtype} {list(weights[name].shape)}"[:99] if name in weights else "nothing"
                  for weights in (given, expected)]  # fmt: skip
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name[:80]} is {shapes[0]}, the network description asks for {shapes[1]}")


def main(arguments: list[str]) -> None:
    """Prints what a file is and what the network says about an empty observation."""
    try:
        if len(arguments) != 1:
            raise ValueError("usage: python torch_module.py FILE.pt")
        network = load(arguments[0])
    except (OSError, ValueError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    for name, entry in network.metadata.items():
        print("".join(c if c.isprintable() or c == "\n" else "?" for c in f"{name}: {entry}"))
    print(f"parameters: {sum(weights.numel() for weights in network.parameters())}")
    with torch.inference_mode():
        empty = torch.zeros(1, *network.observation_shape)
        logits, value = network(empty)
        print(f"empty observation: value {value.item():+.6f}")
        if network.has_wdl:
            print("  win, draw, loss: " + ", ".join(f"{p:.6f}" for p in network.wdl(empty)[0].tolist()))
        best = logits[0].topk(min(5, logits.shape[1]))
        for action, logit in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            print(f"  action {action}: logit {logit:+.6f}")


if __name__ == "__main__":
    if sys.stdout:
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a pipe that is closed ends it quietly
    main(sys.argv[1:])
