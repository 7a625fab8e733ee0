"""One stage, instruction by instruction: what each changes, and what it is called in the history.  Pure."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable

from swarmd.image.build.core import history
from swarmd.image.build.core.files import Done, FileSteps, within
from swarmd.image.build.core.graph import MakeDirectory, Operation, Step, Warned
from swarmd.image.build.core.instructions import understand
from swarmd.image.build.core.lines import failed
from swarmd.image.build.core.meaning import Arg, Command, Copy, Health, Meaning, Pairs, Run, Trigger, Words
from swarmd.image.build.core.options import Options
from swarmd.image.build.core.origins import Origins
from swarmd.image.build.core.outline import Outline, Section
from swarmd.image.build.core.parse import Instruction, parse_trigger
from swarmd.image.build.core.ports import read_ports
from swarmd.image.build.core.scope import with_env
from swarmd.image.build.core.state import Expander, StageState
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace


class StageBuilder:
    """Goes through a stage's instructions and changes its state."""

    def __init__(self, sketch: Outline, index: int, options: Options, state: StageState) -> None:
        self._sketch, self._options, self._state = sketch, options, state
        self._files = FileSteps(Origins(sketch, index), state, options)
        self.warnings: list[Warned] = []

    def triggered(self, triggers: tuple[str, ...], section: Section) -> list[Step]:
        """What the base asks of whoever builds on it."""
        steps: list[Step] = []
        for trigger in triggers:
            said = parse_trigger(trigger, section.said.first)
            if said.keyword in ("onbuild", "from", "maintainer"):
                raise failed(
                    section.said.first, f"{said.keyword.upper()} isn't allowed as an ONBUILD trigger"
                )
            made = self.steps([(said, understand(said))])
            steps += [replace(step, line=0, last_line=0) for step in made]
        return steps

    def steps(self, body: Iterable[tuple[Instruction, Meaning]]) -> list[Step]:
        """The steps of these instructions.  Raises Invalid, with the line."""
        steps: list[Step] = []
        for said, means in body:
            expand = Expander(self._state, said.first, self._sketch.escape)
            try:
                done = self._apply(said, means, expand)
            except Invalid as error:
                raise failed(said.first, str(error)) from None
            self.warnings += expand.warnings
            steps += [
                Step(
                    line=said.line.first,
                    last_line=said.line.last,
                    text=said.line.text.strip(),
                    created_by=text,
                    config=self._state.config,
                    operation=operation,
                )
                for text, operation in done
            ]
        return steps

    def _apply(self, said: Instruction, means: Meaning, expand: Expander) -> Done:
        if isinstance(means, Run):
            return self._files.run(means, expand)
        if isinstance(means, Copy):
            return self._files.copy(means, expand)
        if isinstance(means, Words):
            return self._words(said, means.words, expand)
        return [(self._settings(said, means, expand), None)]

    def _settings(self, said: Instruction, means: Meaning, expand: Expander) -> str:
        if isinstance(means, Arg):
            return self._arg(means, expand)
        if isinstance(means, Pairs):
            return self._pairs(said, means, expand)
        if isinstance(means, Command):
            return self._command(said, means)
        if isinstance(means, Health):
            self._change(healthcheck=means.check)
            return history.health(means.check)
        if isinstance(means, Trigger):
            self._change(onbuild=(*self._state.config.onbuild, means.expression))
            return f"ONBUILD {means.expression}"
        raise Invalid(f"{said.word} does not belong here")

    def _change(self, **changes: object) -> None:
        self._state.config = replace(self._state.config, **changes)

    def _arg(self, arg: Arg, expand: Expander) -> str:
        shown: list[str] = []
        given = self._options.build_args
        for name, default in arg.pairs:
            expand.renew()
            if name in given:
                value: str | None = given[name]
            elif default is not None:
                value = expand(default)
            else:
                value = self._sketch.globals.get(name)
            # Declared again without a value it keeps the one it had.
            if value is not None or name not in self._state.args:
                self._state.args[name] = value
            shown.append(name if value is None else f"{name}={value}")
        return f"ARG {' '.join(shown)}"

    def _pairs(self, said: Instruction, pairs: Pairs, expand: Expander) -> str:
        found = [(expand(name), expand(value)) for name, value in pairs.pairs]
        config = self._state.config
        if said.keyword == "label":
            self._change(labels={**config.labels, **dict(found)})
        else:
            env = config.env
            for name, value in found:
                env = with_env(env, name, value)
            self._change(env=env)
        between = " " if pairs.legacy else "="
        shown = " ".join(f"{name}{between}{value}" for name, value in found)
        return f"{said.keyword.upper()} {shown}"

    def _command(self, said: Instruction, command: Command) -> str:
        args = command.args
        if command.shell:
            if not self._state.config.shell:
                self._warn_shell(said)
            args = (*self._state.shell(), " ".join(args))
        if said.keyword == "cmd":
            self._state.cmd_is_ours = True
            self._change(cmd=args)
        else:
            # A CMD of the base belongs to the base's ENTRYPOINT.
            cmd = self._state.config.cmd if self._state.cmd_is_ours else ()
            self._change(entrypoint=args, cmd=cmd)
        return history.quoted(said.keyword.upper(), args)

    def _warn_shell(self, said: Instruction) -> None:
        message = (
            f"JSON arguments recommended for {said.keyword.upper()} to prevent unintended behavior "
            "related to OS signals"
        )
        self.warnings.append(Warned(rule="JSONArgsRecommended", line=said.first, message=message))

    def _words(self, said: Instruction, words: tuple[str, ...], expand: Expander) -> Done:
        reader = _WORDS[said.keyword]
        return [reader(self, words, expand)]

    def _user(self, words: tuple[str, ...], expand: Expander) -> tuple[str, None]:
        user = expand(words[0])
        self._change(user=user)
        return f"USER {user}", None

    def _workdir(self, words: tuple[str, ...], expand: Expander) -> tuple[str, Operation | None]:
        written = expand(words[0])
        if not self._state.workdir_is_ours and not written.startswith("/"):
            message = f'Relative workdir "{written}" can have unexpected results if the base image changes'
            self.warnings.append(Warned(rule="WorkdirRelativePath", line=expand.line, message=message))
        self._state.workdir_is_ours = True
        path = within(self._state.config.workdir, written)
        self._change(workdir=path)
        operation = MakeDirectory(path=path, user=self._state.config.user) if path != "/" else None
        return f"WORKDIR {path}", operation

    def _expose(self, words: tuple[str, ...], expand: Expander) -> tuple[str, None]:
        texts = [text for word in words for text in expand.words(word)]
        ports = tuple(port for text in texts for port in read_ports(text))
        known = set(self._state.config.exposed_ports)
        self._change(exposed_ports=tuple(sorted({*known, *ports})))
        self._warn_ports(texts, expand.line)
        return history.listed("EXPOSE", ports), None

    def _warn_ports(self, texts: list[str], line: int) -> None:
        for text in texts:
            if text != text.lower():
                message = f"Defined protocol '{text}' in EXPOSE instruction should be lowercase"
                self.warnings.append(Warned(rule="ExposeProtoCasing", line=line, message=message))
            if ":" in text:
                message = (
                    f"EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
                )
                self.warnings.append(Warned(rule="ExposeInvalidFormat", line=line, message=message))

    def _volume(self, words: tuple[str, ...], expand: Expander) -> tuple[str, None]:
        volumes = tuple(expand(word) for word in words)
        if not all(volumes):
            raise Invalid("VOLUME specified can not be an empty string")
        self._change(volumes=tuple(sorted({*self._state.config.volumes, *volumes})))
        return history.listed("VOLUME", volumes), None

    def _stop_signal(self, words: tuple[str, ...], expand: Expander) -> tuple[str, None]:
        name = expand(words[0])
        if not is_signal(name):
            raise Invalid(f"invalid signal: {name}")
        self._change(stop_signal=name)
        return f"STOPSIGNAL {name}", None

    def _shell(self, words: tuple[str, ...], _: Expander) -> tuple[str, None]:
        self._change(shell=words)
        return history.listed("SHELL", words), None

    def _maintainer(self, words: tuple[str, ...], _: Expander) -> tuple[str, None]:
        self._state.author = words[0]
        return f"MAINTAINER {words[0]}", None


_WORDS: dict[str, Callable[[StageBuilder, tuple[str, ...], Expander], tuple[str, Operation | None]]] = {
    "expose": StageBuilder._expose,
    "maintainer": StageBuilder._maintainer,
    "shell": StageBuilder._shell,
    "stopsignal": StageBuilder._stop_signal,
    "user": StageBuilder._user,
    "volume": StageBuilder._volume,
    "workdir": StageBuilder._workdir,
}


def is_signal(text: str) -> bool:
    """Whether Linux knows the signal, by number or name, with ``SIG`` or without."""
    if text.isdecimal():
        return 0 < int(text) <= 64
    name = text.upper().removeprefix("SIG")
    base, sign, offset = name.partition("+" if "+" in name else "-")
    if base in ("RTMIN", "RTMAX"):
        return not sign or (offset.isdecimal() and int(offset) <= 30)
    return f"SIG{name}" in signal.Signals.__members__
