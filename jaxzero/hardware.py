"""What the run uses: processor, memory, accelerator."""

import functools
import logging
import os
from typing import Any

import jax
import psutil

_log = logging.getLogger(__name__)


def use_all_cores() -> None:
    """On a machine without an accelerator, makes every CPU core a JAX device; call it before JAX is used.

    XLA runs the small convolutions and tree steps of a search on one core, so that games shared out over the cores
    play about as many times faster. XLA_FLAGS or jax_num_cpu_devices, where set, are left alone.
    """
    if "device_count" in os.environ.get("XLA_FLAGS", "") or jax.config.values["jax_num_cpu_devices"] >= 0:
        return
    try:
        jax.config.update("jax_num_cpu_devices", cpu_cores())
    except RuntimeError:
        _log.warning("JAX was in use before use_all_cores: on CPU self-play will use one core")


def cpu_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_memory() -> int | None:
    """Bytes of memory that JAX may use on one device (on CPU: of the machine, shared by all); None if unknown."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return psutil.virtual_memory().total
    return (device.memory_stats() or {}).get("bytes_limit")


class Sampler:
    """Utilisation of this process and its accelerators; what cannot be measured is left out."""

    def __init__(self):
        self._process = psutil.Process()
        self._process.cpu_percent()  # starts the clock of the first sample
        self._cards = _cards_of_jax()

    def sample(self) -> dict[str, float]:
        """cpu_percent (since the last sample; 100 is one core), memory_mb, and of accelerators device_utilisation
        (percent, mean) and device_memory_mb (peak, of the fullest device)."""
        row = {
            "cpu_percent": self._process.cpu_percent(),
            "memory_mb": self._process.memory_info().rss / 2**20,
        }
        stats = [device.memory_stats() for device in jax.local_devices()]
        peaks = [stat["peak_bytes_in_use"] for stat in stats if stat and "peak_bytes_in_use" in stat]
        if peaks:
            row["device_memory_mb"] = max(peaks) / 2**20
        busy = [rates.gpu for card in self._cards if (rates := _ask("nvmlDeviceGetUtilizationRates", card))]
        if busy:
            row["device_utilisation"] = sum(busy) / len(busy)
        return row


def device_summary() -> str:
    """One line naming the devices in use, and a second, a warning, where an NVIDIA card is idle beside them."""
    if jax.default_backend() == "cpu":
        cores = cpu_cores()
        summary = f"{cores} CPU core{'' if cores == 1 else 's'}, {psutil.virtual_memory().total / 2**30:.0f} GiB memory"
        if _count():
            name = _ask("nvmlDeviceGetName", _ask("nvmlDeviceGetHandleByIndex", 0)) or "an NVIDIA card"
            summary += (
                f"\nwarning: {name} is idle because JAX runs on CPU; install jax[cuda13] "
                "(jax[cuda12] for an older driver), and unset JAX_PLATFORMS if it says cpu"
            )
        return summary
    devices = jax.local_devices()
    memory = [info.total for card in _cards_of_jax() if (info := _ask("nvmlDeviceGetMemoryInfo", card))]
    size = f", {min(memory) / 2**30:.0f} GiB memory" if memory else ""
    return f"{f'{len(devices)} × ' if len(devices) > 1 else ''}{devices[0].device_kind}{size}"


@functools.cache
def _nvml() -> Any:
    """The pynvml module once it answers, else None: no driver, no card, or no package."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # a missing or broken driver must never stop a run
        return None
    return pynvml


def _ask(function: str, *arguments: Any) -> Any:
    """The answer of an NVML function, None if it has none (card lost, MIG, not supported)."""
    nvml = _nvml()
    if nvml is None or None in arguments:
        return None
    try:
        return getattr(nvml, function)(*arguments)
    except nvml.NVMLError:
        return None


def _count() -> int:
    return _ask("nvmlDeviceGetCount") or 0


def _cards_of_jax() -> list[Any]:
    """NVML handles of the cards JAX uses; CUDA_VISIBLE_DEVICES renumbers them for JAX but not for NVML."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(_count())))
    names = visible.split(",")
    cards = []
    for device in jax.local_devices():
        number = device.local_hardware_id
        if device.platform == "gpu" and number is not None and number < len(names):
            name = names[number].strip()
            by_index = name.isdecimal()
            card = (
                _ask("nvmlDeviceGetHandleByIndex", int(name)) if by_index else _ask("nvmlDeviceGetHandleByUUID", name)
            )
            cards.append(card)
    return [card for card in cards if card is not None]
