"""Networks for use elsewhere. A new format is one file and one line in `FORMATS`."""

from collections.abc import Callable

from jaxzero.export.pt import ExportError, Parity, check_pt, export_pt

__all__ = ["FORMATS", "ExportError", "Parity", "check_pt", "export_pt"]

FORMATS: dict[str, Callable[..., Parity]] = {"pt": export_pt}
