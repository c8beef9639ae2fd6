"""Options of the command line: settings, whole numbers, what several commands take."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_origin

from cyclopts import Group, Parameter

from jaxzero import compiled, hardware
from jaxzero.config import settings
from jaxzero.config.schema import Range


def raw_text(hint: Any, tokens: Sequence[Any]) -> str:
    """Leaves a value as text: `settings` parses it by the strict rules of files and environment."""
    return tokens[0].value


def raw_texts(hint: Any, tokens: Sequence[Any]) -> list[str]:
    return [token.value for token in tokens]


def whole(low: int, high: int) -> Parameter:
    """A whole number within bounds; cyclopts itself would round 2.5."""
    bounds = Range(low, high)

    def convert(hint: Any, tokens: Sequence[Any]) -> int:
        try:
            return settings.whole_number(tokens[0].value, bounds)
        except ValueError as error:
            raise ValueError(f"{error}.") from None

    return Parameter(converter=convert)


ALIASES = {"game.source": ["--game"], "init_from": ["--init-from"]}
Step = Annotated[int | None, whole(0, 10**9)]
Games = Annotated[int, whole(2, 10**6)]
Plies = whole(0, 65_536)
Simulations = Annotated[int | None, whole(0, 32_766)]
Seed = whole(0, 2**32 - 1)


def option(name: str, field: settings.Field, group: Group) -> inspect.Parameter:
    """A setting as an option of the command line, None unless given."""
    kind = get_origin(field.hint) or field.hint
    parameter = Parameter(
        name=[f"--{name}", *ALIASES.get(name, ())],
        help=f"{field.help} {field.range.sentence}" if field.range else field.help,
        show_default=settings.toml(field.default),
        group=group,
        converter={bool: None, dict: None, tuple: raw_texts}.get(kind, raw_text),
        consume_multiple=kind is tuple,
        negative_iterable=(),
    )
    hint = dict[str, str] if kind is dict else field.hint
    return inspect.Parameter(
        name.replace(".", "__"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[hint | None, parameter],
    )


def with_settings(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Gives a command an option for every setting in place of its `**options`."""
    groups = {section: Group.create_ordered(section or "run") for section in ("", *settings.sections())}
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [option(name, field, groups[field.section]) for name, field in settings.fields().items()]
    command.__signature__ = signature.replace(parameters=own + options)  # pyright: ignore[reportFunctionMemberAccess]
    return command


def compiles(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Gives a command all cores and the cache of compiled programs, and an option to do without the cache."""

    @functools.wraps(command)
    def prepared(*args: Any, compile_cache: bool = True, **kwargs: Any) -> int | None:
        hardware.use_all_cores()
        if compile_cache:
            compiled.keep()
        return command(*args, **kwargs)

    parameter = Parameter(
        negative="--no-compile-cache",
        help="Keep compiled programs for later runs, in the user's cache folder; JAX_COMPILATION_CACHE_DIR moves them, "
        "JAX_ENABLE_COMPILATION_CACHE=false is --no-compile-cache.",
    )
    option = inspect.Parameter(
        "compile_cache", inspect.Parameter.KEYWORD_ONLY, default=True, annotation=Annotated[bool, parameter]
    )
    signature = inspect.signature(command, eval_str=True)
    parameters = [*signature.parameters.values(), option]
    prepared.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]
    return prepared
