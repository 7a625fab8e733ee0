"""What holds at one place in a stage: configuration, build arguments, how words are expanded there.  Pure.

It is changed as instructions are gone through, and belongs to the planner alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from swarmd.image.build.core.graph import Warned
from swarmd.image.build.core.scope import as_mapping, proxies
from swarmd.image.build.core.words import expand
from swarmd.image.core.config import ImageConfig

DEFAULT_SHELL = ("/bin/sh", "-c")


class StageState:
    """``args`` are the declared ones: None for those without a value."""

    def __init__(
        self, config: ImageConfig, args: Mapping[str, str | None] | None = None, author: str = ""
    ) -> None:
        self.config = config
        self.args: dict[str, str | None] = dict(args or {})
        self.author = author
        self.cmd_is_ours = False
        self.workdir_is_ours = False

    def child(self) -> StageState:
        """How a stage on top of this one begins."""
        made = StageState(self.config, self.args, self.author)
        made.workdir_is_ours = self.workdir_is_ours
        return made

    def variables(self) -> dict[str, str]:
        """What words are expanded with: the environment, and arguments it does not hide."""
        given = {name: value for name, value in self.args.items() if value is not None}
        return {**given, **as_mapping(self.config.env)}

    def environment(self) -> tuple[str, ...]:
        """The same for a program."""
        hidden = as_mapping(self.config.env)
        given = (f"{k}={v}" for k, v in self.args.items() if v is not None and k not in hidden)
        return (*self.config.env, *given)

    def declared(self) -> dict[str, str]:
        """The arguments as the history of a command names them."""
        seen = self.variables()
        return {name: seen.get(name, "") for name in self.args}

    def proxies(self, given: Mapping[str, str]) -> tuple[str, ...]:
        """Arguments that need no declaration, as far as nobody declared them."""
        return proxies(given, self.args)

    def shell(self) -> tuple[str, ...]:
        return self.config.shell or DEFAULT_SHELL


class Expander:
    """Expands words of one instruction with what held before it, and notes names that nobody declared."""

    def __init__(self, state: StageState, line: int, escape: str) -> None:
        self._state, self.line, self._escape = state, line, escape
        self._seen = state.variables()
        self.warnings: list[Warned] = []

    def __call__(self, text: str) -> str:
        return self.text(text)

    def renew(self) -> None:
        """See what holds now: an ARG sees those before it on its line."""
        self._seen = self._state.variables()

    def text(self, text: str, *, quotes: bool = True) -> str:
        """One word; raises Invalid."""
        found = expand(text, self._seen, escape=self._escape if quotes else "\\", quotes=quotes)
        self._note(found.unset)
        return found.text

    def words(self, text: str) -> tuple[str, ...]:
        """Words divided after expansion; raises Invalid."""
        found = expand(text, self._seen, escape=self._escape)
        self._note(found.unset)
        return found.words

    def _note(self, unset: tuple[str, ...]) -> None:
        for name in unset:
            if name in self._state.args:
                continue
            like = get_close_matches(name, list(self._seen), n=1, cutoff=0.75)
            hint = f" (did you mean ${like[0]}?)" if like else ""
            self.warnings.append(
                Warned(
                    rule="UndefinedVar",
                    line=self.line,
                    message=f"Usage of undefined variable '${name}'{hint}",
                )
            )
