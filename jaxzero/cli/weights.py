"""Commands that write weights: `export`, `convert`."""

from typing import Annotated

from cyclopts import Parameter

from jaxzero.cli.notices import notices
from jaxzero.cli.options import Step, compiles


@compiles
def export(
    run: str,
    /,
    *,
    step: Step = None,
    format: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    half: Annotated[bool, Parameter(negative=())] = False,
    int8: Annotated[bool, Parameter(negative=())] = False,
    licence: str = "",
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    promoted: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write the network of a run to files in its folder exports/, each compared with the JAX network on 1,280 positions
    of self-play before it appears, and print their paths and certificates.

    Parameters
    ----------
    run
        A run's folder, or its name.
    step
        The checkpoint; the newest if not given.
    format
        One or more of pt (PyTorch weights; the default), pt2 (PyTorch program), onnx, safetensors, json, stablehlo.
    half
        float16: stored only (pt, safetensors, json, stablehlo), or for arithmetic too (pt2, onnx).
    int8
        onnx in 8 bits, its ranges taken from positions of self-play.
    licence
        Licence of the weights for their card; export.licence of the run if not given.
    overwrite
        Replace files of the same name that hold another network.
    promoted
        The network that was promoted by then (promotion.rule) instead of the latest.
    """
    from jaxzero.export import publish
    from jaxzero.runs import folder as folder_lib

    folder = folder_lib.find(run)
    given = {"half": half, "int8": int8, "licence": licence, "overwrite": overwrite, "promoted": promoted}
    with notices("jaxzero.export"):
        lines = publish.export_run(folder, step, ["pt"] if format is None else format, **given)
    print("\n".join(lines))


@compiles
def convert(
    source: str,
    target: str = "",
    /,
    *,
    test: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write an exported .pt, .safetensors or .json file in another format of `jaxzero export`, or test it.

    Parameters
    ----------
    source
        The file.
    target
        The file to write; its ending names the format.
    test
        Compare what the file computes with the JAX network of its weights, on positions of self-play; programs (.pt2,
        .onnx, .stablehlo) always are.
    overwrite
        Replace a file that is there.
    """
    from jaxzero.export import convert as convert_lib

    for line in convert_lib.convert(source, target or None, test=test, overwrite=overwrite):
        print(line)
