"""Games side by side: a mesh of the local devices, and random keys that do not depend on the number of devices."""

import jax
from jax.sharding import AxisType, Mesh, PartitionSpec

AXIS = "devices"
REPLICATED, LANES = PartitionSpec(), PartitionSpec(AXIS)


def make_mesh(devices: int) -> Mesh:
    """The first `devices` local devices along one axis, `AXIS`."""
    return jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:devices])


def keys_by_index(key: jax.Array, index: jax.Array) -> jax.Array:
    """A key for each index i32[N], the same whichever other indices there are."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
