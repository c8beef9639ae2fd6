"""What is measured of processors and accelerators, with and without NVML."""

import sys
import types

import jax
import pytest

from jaxzero import hardware


@pytest.fixture(autouse=True)
def forget_nvml():
    hardware._nvml.cache_clear()
    yield
    hardware._nvml.cache_clear()


def fake_nvml():
    nvml = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def utilisation(card):
        if card == 0:
            raise NVMLError("not supported")
        return types.SimpleNamespace(gpu=40 * card)

    nvml.__dict__.update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda card: "NVIDIA Fake",
        nvmlDeviceGetUtilizationRates=utilisation,
        nvmlDeviceGetMemoryInfo=lambda card: types.SimpleNamespace(total=80 * 2**30),
    )
    return nvml


def test_hardware_on_cpu_without_nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    row = hardware.Sampler().sample()
    assert set(row) == {"cpu_percent", "memory_mb"}
    assert 50 < row["memory_mb"] < 20_000
    summary = hardware.device_summary()
    assert "CPU core" in summary
    assert "warning" not in summary


def test_cpu_percent_is_since_the_last_sample():
    sampler = hardware.Sampler()
    sum(i * i for i in range(2_000_000))
    assert sampler.sample()["cpu_percent"] > 5


def test_idle_card_is_warned_about(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    first, second = hardware.device_summary().splitlines()
    assert "CPU core" in first
    assert second.startswith("warning: NVIDIA Fake is idle because JAX runs on CPU; install jax[cuda13]")


def test_gpus_are_measured_under_their_visible_numbers(monkeypatch):
    def device(number, peak):
        stats = {"peak_bytes_in_use": peak * 2**20}
        return types.SimpleNamespace(
            platform="gpu", local_hardware_id=number, device_kind="NVIDIA Fake", memory_stats=lambda: stats
        )

    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    monkeypatch.setattr(jax, "local_devices", lambda: [device(0, 100), device(1, 300)])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 1")
    row = hardware.Sampler().sample()
    assert row["device_memory_mb"] == 300
    assert row["device_utilisation"] == 60
    assert hardware.device_summary() == "2 × NVIDIA Fake, 80 GiB memory"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "device_utilisation" not in hardware.Sampler().sample()
