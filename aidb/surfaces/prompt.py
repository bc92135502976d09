"""The prompt: statements of one or several lines, with colours, completion and history, until the person leaves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import completion_is_selected, is_searching
from prompt_toolkit.history import History as AnyHistory
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.styles import Style

from aidb.sql.tokens import is_complete, split
from aidb.surfaces.completing import complete, complete_command
from aidb.surfaces.config import Config, history_file
from aidb.surfaces.vocabulary import Known

if TYPE_CHECKING:
    from aidb.surfaces.opening import Opening
    from aidb.surfaces.session import Session

PROMPT, CONTINUED = "aidb> ", " ...> "
_BARE = {"help": ".help", "quit": ".quit", "exit": ".quit"}
_STYLE = Style.from_dict(
    {
        # The terminal's own colours: it knows whether it is dark or light.
        "prompt": "ansicyan bold",
        "pygments.keyword": "ansiblue bold",
        "pygments.keyword.pseudo": "ansimagenta bold",
        "pygments.keyword.type": "ansicyan",
        "pygments.name.function": "ansicyan",
        "pygments.name.builtin": "ansimagenta",
        "pygments.name.decorator": "ansimagenta",
        "pygments.name.variable": "ansiyellow",
        "pygments.literal.string": "ansigreen",
        "pygments.literal.number": "ansiyellow",
        "pygments.comment": "ansibrightblack italic",
        "auto-suggestion": "ansibrightblack",
        "completion-menu": "bg:ansiblack fg:ansiwhite",
        "completion-menu.completion.current": "bg:ansiblue fg:ansiwhite",
        "completion-menu.meta.completion": "bg:ansiblack fg:ansibrightblack",
        "completion-menu.meta.completion.current": "bg:ansiblue fg:ansiwhite",
    }
)


class Completions(Completer):
    """`aidb.surfaces.completing`, as the prompt wants it."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """What fits at the cursor, from the names that are known by now."""
        text, at = document.text, document.cursor_position
        if text.lstrip().startswith((".", "\\")):
            from aidb.surfaces.commands import ALIASES, COMMANDS

            commands = {name: command.completes for name, command in COMMANDS.items()}
            commands |= {alias: COMMANDS[name].completes for alias, name in ALIASES.items()}
            found = complete_command(text, at, self._known.now, commands)
        else:
            found = complete(text, at, self._known.now, asked=complete_event.completion_requested)
        for candidate in found:
            if candidate.text != text[candidate.start : at]:
                yield Completion(candidate.text, candidate.start - at, display_meta=candidate.kind)


def converse(opening: Opening[Session], config: Config, output: Output | None = None) -> None:
    """Read and run statements until the end of the input or .quit; errors are told, and the conversation goes on.

    The database is opened behind the first prompt. output: where the prompt is shown, by default on stdout, or on stderr
    where rows go to a file. Raises what opening it raises, and BrokenPipeError.
    """
    if output is None and not sys.stdout.isatty():
        if not sys.stderr.isatty():
            _Conversation(opening, None).run()
            return
        output = create_output(sys.stderr)
    known = Known(lambda: opening.get().connection.engine)
    prompt = _prompt(config, known, output)

    def begin(_: object) -> None:
        prompt.app.after_render -= begin
        opening.begin()
        known.refresh()

    prompt.app.after_render += begin
    try:
        _Conversation(opening, prompt, known).run()
    finally:
        known.wait()


def _prompt(config: Config, known: Known, output: Output | None) -> PromptSession[str]:
    return PromptSession(
        [("class:prompt", PROMPT)],
        multiline=True,
        prompt_continuation=lambda width, number, wrapped: [
            ("class:prompt", CONTINUED.rjust(width) if not wrapped else "")
        ],
        lexer=PygmentsLexer(_lexer()) if config.colors else None,
        style=_STYLE,
        include_default_pygments_style=False,
        completer=Completions(known),
        complete_while_typing=config.suggest,
        auto_suggest=AutoSuggestFromHistory() if config.suggest else None,
        history=_history(config),
        search_ignore_case=True,
        enable_open_in_editor=True,
        tempfile_suffix=".sql",
        key_bindings=_keys(),
        editing_mode=EditingMode.EMACS,
        output=output,
    )


def _lexer() -> type:
    from aidb.surfaces.highlighting import AidbLexer

    return AidbLexer


def _history(config: Config) -> AnyHistory:
    path = history_file() if config.history else None
    if path is None:
        return InMemoryHistory()
    from aidb.surfaces.history import History

    return History(path, config.history, lambda text: print(text, file=sys.stderr, flush=True))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected & ~is_searching)
    def _enter(event: KeyPressEvent) -> None:
        """Run what is whole; go on below with what isn't."""
        buffer = event.current_buffer
        if is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("enter", filter=completion_is_selected)
    def _take(event: KeyPressEvent) -> None:
        """Take the completion that is chosen, and go on typing."""
        event.current_buffer.complete_state = None

    return keys


def is_whole(text: str) -> bool:
    """Can this be run as it is: nothing, a command, or statements of which the last is ended?"""
    stripped = text.strip()
    if not stripped or stripped.startswith((".", "\\")) or stripped.rstrip(";").lower() in _BARE:
        return True
    return is_complete(text)


class _Conversation:
    """One after the other, what the person says."""

    def __init__(
        self, opening: Opening[Session], prompt: PromptSession[str] | None, known: Known | None = None
    ) -> None:
        self._opening, self._prompt, self._known = opening, prompt, known

    def run(self) -> None:
        """Until .quit or the end of the input."""
        from aidb.surfaces.commands import Quit

        while True:
            try:
                text = self._ask()
            except EOFError:
                return
            except KeyboardInterrupt:
                continue  # what was typed is gone
            session = self._opening.get()
            try:
                self._do(session, text)
            except Quit:
                return
            if self._known is not None and session.defined:
                session.defined = False
                self._known.refresh()

    def _ask(self) -> str:
        if self._prompt is not None:
            return self._prompt.prompt()
        lines: list[str] = []  # nobody can see a prompt
        while not lines or not is_whole("".join(lines)):
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            lines.append(line)
        return "".join(lines)

    def _do(self, session: Session, text: str) -> None:
        from aidb.errors import SqlSyntaxError
        from aidb.surfaces.commands import Quit, is_command, perform
        from aidb.surfaces.session import Failed, report_bug

        command = _BARE.get(text.strip().rstrip(";").lower(), text.strip())
        try:
            if is_command(command):
                perform(session, command)
                return
            for sql, _ in split(text):
                session.run(sql)
        except SqlSyntaxError as wrong:  # Alt-Enter ran what is not whole
            session.complain(str(wrong))
        except Failed:
            return  # what was wrong has been said
        except (BrokenPipeError, Quit):
            raise
        except KeyboardInterrupt:
            session.complain("interrupted; finished work is kept")
        except Exception:
            report_bug()
