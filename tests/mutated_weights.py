"""Weights and metadata with one thing wrong, in the three formats that are read back."""

import json

import numpy as np
import torch
from exports import model_of
from safetensors.numpy import save_file

# Broken and hostile files. Every one of them is read by `load`, compiles nothing, and ends with one line.


def small():
    going = model_of("mlp-dropout")
    return dict(going.weights), going.metadata


def save(kind, weights, metadata, path):
    """Writes anything that the format can hold."""
    if kind == "pt":
        tensors = {k: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for k, x in weights.items()}
        torch.save({"state_dict": tensors, "metadata": metadata}, path)
    elif kind == "safetensors":
        save_file({k: np.ascontiguousarray(x) for k, x in weights.items()}, path, {"jaxzero": json.dumps(metadata)})
    else:
        entries = {k: {"shape": list(x.shape), "data": x.ravel().tolist()} for k, x in weights.items()}
        path.write_text(json.dumps({"metadata": metadata, "weights": entries}))


def change(target, **facts):
    target.update(facts)


def reshape(weights, name, shape):
    weights[name] = weights[name].reshape(shape)


def one(weights, name, value):
    weights[name] = weights[name].copy()
    weights[name].flat[-1] = value


WEIGHT = {
    "missing": lambda w, m: w.pop("policy.bias"),
    "missing layer": lambda w, m: [w.pop(k) for k in list(w) if k.startswith("trunk.layer1")],
    "all missing": lambda w, m: w.clear(),
    "extra": lambda w, m: change(w, extra=np.zeros(3, np.float32)),
    "extra layer": lambda w, m: change(w, **{"trunk.layer2.weight": np.zeros((16, 16), np.float32)}),
    "renamed": lambda w, m: change(w, bias=w.pop("policy.bias")),
    "strange name": lambda w, m: change(w, **{"../../policy\n.bias": w.pop("policy.bias")}),
    "transposed": lambda w, m: change(w, **{"trunk.layer1.weight": w["trunk.layer1.weight"].T.copy()}),
    "flat": lambda w, m: reshape(w, "policy.weight", -1),
    "another axis": lambda w, m: reshape(w, "policy.bias", (-1, 1)),
    "longer": lambda w, m: change(w, **{"policy.bias": np.zeros(10, np.float32)}),
    "shorter": lambda w, m: change(w, **{"policy.bias": np.zeros(8, np.float32)}),
    "empty": lambda w, m: change(w, **{"policy.bias": np.zeros(0, np.float32)}),
    "scalar": lambda w, m: change(w, **{"value.bias": np.float32(1).reshape(())}),
    "nan": lambda w, m: one(w, "policy.weight", np.nan),
    "infinite": lambda w, m: one(w, "policy.weight", -np.inf),
}
STALE = {
    "changed": lambda w, m: one(w, "policy.weight", 0.125),
    "exchanged": lambda w, m: change(w, **{"policy.bias": w["policy.bias"][::-1].copy()}),
    "no digest": lambda w, m: m.pop("weights_sha256"),
    "other digest": lambda w, m: change(m, weights_sha256="0" * 64),
    "digest of another type": lambda w, m: change(m, weights_sha256=[1]),
}
TYPES = {  # JSON has one type of number
    "double": lambda w, m: change(w, **{"policy.bias": w["policy.bias"].astype(np.float64)}),
    "half": lambda w, m: change(w, **{"policy.bias": w["policy.bias"].astype(np.float16)}),
    "integers": lambda w, m: change(w, **{"policy.bias": np.arange(9, dtype=np.int32)}),
    "all half": lambda w, m: change(w, **{k: x.astype(np.float16) for k, x in w.items()}),
    "booleans": lambda w, m: change(w, **{"policy.bias": np.ones(9, bool)}),
}
METADATA = {
    "another game": lambda w, m: change(m, game={"name": "connect_four", "options": {}}),
    "other options": lambda w, m: change(m, game={"name": "tic_tac_toe", "options": {"size": 3}}),
    "game of another type": lambda w, m: change(m, game="tic_tac_toe"),
    "no game": lambda w, m: m.pop("game"),
    "other observations": lambda w, m: change(m, observation_shape=[3, 3, 3]),
    "observations of another type": lambda w, m: change(m, observation_shape=[3, 3, 2.0]),
    "other actions": lambda w, m: change(m, num_actions=10),
    "actions true": lambda w, m: change(m, num_actions=True),
    "kind": lambda w, m: change(m["network"], kind="resnet"),
    "unknown kind": lambda w, m: change(m["network"], kind="../../evil"),
    "value": lambda w, m: change(m["network"], value="wdl"),
    "sizes": lambda w, m: change(m["network"], sizes=[24]),
    "huge sizes": lambda w, m: change(m["network"], sizes=[10**12, 10**12]),
    "sizes of another type": lambda w, m: change(m["network"], sizes="24"),
    "shared": lambda w, m: change(m["network"], shared=0),
    "unknown fact": lambda w, m: change(m["network"], blocks=10**9),
    "no network": lambda w, m: m.pop("network"),
    "network a list": lambda w, m: change(m, network=[1]),
    "format": lambda w, m: change(m, format="something"),
    "no format": lambda w, m: m.pop("format"),
    "version": lambda w, m: change(m, format_version=2),
    "version as text": lambda w, m: change(m, format_version="1"),
    "dtype": lambda w, m: change(m, dtype="float64"),
    "dtype of another type": lambda w, m: change(m, dtype=["float32"]),
    "half said": lambda w, m: change(m, dtype="float16"),
    "empty": lambda w, m: m.clear(),
}
