"""What an accelerator does during a call: how long it works, how often it is started, and which kernels cost most."""

import collections
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


def profile(label: str, call: Callable[[], Any], top: int = 10) -> None:
    """Prints it for one warm call; XLA gives the kernels' names."""
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        (file,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
    ran = [
        (event.start_ns, event.duration_ns, event.name)
        for plane in data.planes if plane.name.startswith("/device:")
        for line in plane.lines if line.name.startswith("Stream")
        for event in line.events
    ]  # fmt: skip
    if not ran:
        print(f"{label}: no accelerator has run anything")
        return
    span = max(begin + duration for begin, duration, _ in ran) - min(begin for begin, _, _ in ran)
    total: collections.Counter[str] = collections.Counter()
    count: collections.Counter[str] = collections.Counter()
    for _, duration, name in ran:
        total[name] += duration
        count[name] += 1
    busy, upto = 0.0, 0.0
    for begin, duration, _ in sorted(ran):  # streams may overlap
        busy += max(0.0, begin + duration - max(begin, upto))
        upto = max(upto, begin + duration)
    print(f"{label}: {span / 1e6:.2f} ms, {busy / span:.0%} of them in {len(ran)} kernels and copies; the longest:")
    for name, spent in total.most_common(top):
        print(f"  {spent / sum(total.values()):6.1%} {spent / 1e6:8.3f} ms {count[name]:6d} × {name[:90]}")
