"""The stages of a Dockerfile, and what each begins with.  Pure.

Dockerfile ──► Outline(arguments before the first FROM, Section per FROM)
"""

from __future__ import annotations

from swarmd.image.build.core.flags import did_you_mean
from swarmd.image.build.core.graph import Base, Node
from swarmd.image.build.core.instructions import understand
from swarmd.image.build.core.lines import failed
from swarmd.image.build.core.meaning import Arg, From, Meaning
from swarmd.image.build.core.options import Options
from swarmd.image.build.core.parse import Dockerfile, Instruction
from swarmd.image.build.core.platform import normal_platform
from swarmd.image.build.core.scope import add_globals, platform_args
from swarmd.image.build.core.words import Expanded, expand
from swarmd.model.errors import Invalid, NotFound
from swarmd.model.image_ref import parse as parse_ref

SCRATCH = "scratch"


class Section(Node, frozen=True, kw_only=True):
    """One FROM and the instructions up to the next.  ``unset``: variables it names that nobody declared."""

    index: int
    said: Instruction
    means: From
    base: Base
    body: tuple[tuple[Instruction, Meaning], ...] = ()
    unset: tuple[str, ...] = ()


class Outline(Node, frozen=True, kw_only=True):
    """``globals`` are the arguments that FROM lines see, with values; ``head`` the ARGs before them."""

    escape: str
    globals: dict[str, str]
    head: tuple[tuple[Instruction, Arg], ...]
    sections: tuple[Section, ...]

    def named(self, name: str) -> int | None:
        """The stage of that name: the last one, if there are several."""
        wanted = name.lower()
        found = [section.index for section in self.sections if section.means.name == wanted]
        return found[-1] if found else None

    def label(self, index: int) -> str:
        """What to call a stage: its name, or its number."""
        return self.sections[index].means.name or str(index)

    def target(self, name: str) -> int:
        """The stage that is asked for; empty means the last.  Raises NotFound."""
        if not name:
            return len(self.sections) - 1
        found = self.named(name)
        if found is None and name.isdecimal() and int(name) < len(self.sections):
            found = int(name)
        if found is None:
            names = tuple(section.means.name for section in self.sections if section.means.name)
            raise NotFound(f'target stage "{name}" could not be found{did_you_mean(name, names)}')
        return found


def outline(dockerfile: Dockerfile, options: Options) -> Outline:
    """Divide into stages.  Raises Invalid, with the line, for whatever is wrong in any of them."""
    seen = platform_args(options)
    seen.update((name, options.build_args[name]) for name in tuple(seen) if name in options.build_args)
    head: list[tuple[Instruction, Arg]] = []
    sections: list[tuple[Section, list[tuple[Instruction, Meaning]]]] = []
    names: dict[str, int] = {}
    for said in dockerfile.instructions:
        means = understand(said)
        if isinstance(means, From):
            section = _section(said, means, len(sections), names, seen, dockerfile.escape)
            sections.append((section, []))
            if means.name:
                names[means.name] = section.index
        elif sections:
            sections[-1][1].append((said, means))
        elif isinstance(means, Arg):
            _declare(said, means, seen, options, dockerfile.escape)
            head.append((said, means))
        else:
            raise failed(said.first, "no build stage in current context")
    if not sections:
        raise failed(dockerfile.instructions[-1].first, "no build stage: there is no FROM")
    return Outline(
        escape=dockerfile.escape,
        globals=seen,
        head=tuple(head),
        sections=tuple(_with_body(section, body) for section, body in sections),
    )


def _with_body(section: Section, body: list[tuple[Instruction, Meaning]]) -> Section:
    return Section(
        index=section.index,
        said=section.said,
        means=section.means,
        base=section.base,
        body=tuple(body),
        unset=section.unset,
    )


def _declare(said: Instruction, arg: Arg, seen: dict[str, str], options: Options, escape: str) -> None:
    try:
        add_globals(seen, arg, options.build_args, escape)
    except Invalid as error:
        raise failed(said.first, str(error)) from None


def _section(
    said: Instruction, means: From, index: int, names: dict[str, int], seen: dict[str, str], escape: str
) -> Section:
    image = _expanded(said, means.image, seen, escape)
    platform = _expanded(said, means.platform, seen, escape)
    if not image.text:
        raise failed(said.first, f"base name ({means.image}) should not be blank")
    if means.platform and not platform.text:
        raise failed(said.first, f'empty platform value from expression "{means.platform}"')
    base = base_named(image.text, names, said.first, _platform(platform.text, said.first, seen))
    return Section(index=index, said=said, means=means, base=base, unset=image.unset + platform.unset)


def _expanded(said: Instruction, text: str, seen: dict[str, str], escape: str) -> Expanded:
    try:
        return expand(text, seen, escape=escape)
    except Invalid as error:
        raise failed(said.first, str(error)) from None


def _platform(text: str, line: int, seen: dict[str, str]) -> str:
    try:
        return normal_platform(text, seen["BUILDPLATFORM"]) if text else ""
    except Invalid as error:
        raise failed(line, f"failed to parse platform: {error}") from None


def base_named(text: str, names: dict[str, int], line: int, platform: str = "") -> Base:
    """What a name in FROM means: an earlier stage, nothing, or an image.  Raises Invalid."""
    stage = names.get(text.lower())
    if stage is not None:
        return Base(where="stage", stage=stage)
    if text == SCRATCH:
        return Base(where="scratch", platform=platform)
    return Base(where="image", ref=checked_ref(text, line), platform=platform)


def checked_ref(text: str, line: int) -> str:
    """The image reference, if it is one.  Raises Invalid."""
    try:
        parse_ref(text)
    except Invalid as error:
        raise failed(line, f'failed to parse stage name "{text}": {error}') from None
    return text
