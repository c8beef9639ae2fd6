"""The help of a command that takes settings: those of the preset's kinds, common ones or all."""

import os
import re
from collections.abc import Callable, Sequence

from cyclopts import App, Group

from jaxzero.cli.options import option, with_options
from jaxzero.config import catalog, settings
from jaxzero.config.fields import Field
from jaxzero.config.schema import Config

SHORT, LONG = ("--help", "-h"), "--help-all"
FIRST = ("network", "search", "learner", "selfplay", "replay")  # sections in the order of the short help


def asked(tokens: Sequence[str]) -> bool:
    """Whether a command line wants help."""
    return bool({*SHORT, LONG} & set(tokens))


def show(command: Callable[..., int | None], tokens: Sequence[str]) -> None:
    """Prints the help of `command`, whose arguments are `tokens`.

    With a preset, the settings are those of its kinds and the defaults shown are its values. --help lists the common
    ones and --help-all every one; without a preset --help-all lists those of all kinds.
    """
    preset = next((token for token in tokens[:1] if not token.startswith("-")), None)
    given = {choice.name: value for choice in catalog.CHOICES if (value := argument(tokens, f"--{choice.name}"))}
    config = settings.resolve(preset, given, os.environ) if preset else settings.build(settings.read_options(given))
    everything = LONG in tokens
    fields = catalog.every() if everything and not preset else catalog.fields(config)
    if not everything:
        fields = dict(sorted(((name, field) for name, field in fields.items() if field.common), key=order))
    groups = {field.section: Group.create_ordered(field.section or "run") for field in fields.values()}
    options = [
        option(name, field, text(field, everything, not preset), default(config, field), groups[field.section])
        for name, field in fields.items()
    ]
    app = App(name="jaxzero", help_format="plaintext", help_flags=[], version_flags=[])
    app.command(with_options(vars(command)["__wrapped__"], options), name="train")
    app.help_print(["train"])
    if not everything:
        print(f"These are the common settings{'' if preset else ' of the default kinds'}; {LONG} lists all of them.")


def argument(tokens: Sequence[str], name: str) -> str | None:
    """The value of an option on a command line."""
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if token == name:
            return following
        if token.startswith(f"{name}="):
            return token.partition("=")[2]
    return None


def order(item: tuple[str, Field]) -> int:
    section = item[1].section
    return FIRST.index(section) if section in FIRST else len(FIRST)


def default(config: Config, field: Field) -> object:
    """The value of a setting, or the default where the configuration is of another kind."""
    return catalog.values(config).get(field.dotted, field.default)


def text(field: Field, everything: bool, all_kinds: bool) -> str:
    """The help of a setting: its first sentence, or everything with its range and the kinds that have it."""
    if not everything:
        return re.split(r"(?<=\.)\s", field.help)[0]
    kinds = catalog.holders(field.dotted)[1] if all_kinds else []
    whose = f"({', '.join(kinds)}) " if kinds else ""
    return f"{whose}{field.help}{f' {field.range.sentence}' if field.range else ''}"
