"""One demo from the empty folder to the summary, also after errors and signals."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live

from services.demo import (
    board,
    chronicle,
    days,
    folder,
    hindsight,
    monthly,
    playlist,
    summary,
    system,
)
from services.demo.account import RequestAccount
from services.demo.flights import FlightsMissingError
from services.demo.followers import CatchUpError
from services.demo.gate import StalledError
from services.demo.interruption import Interruption
from services.demo.options import Options
from services.demo.play import Play, beside
from services.demo.playlist import Playlist
from services.demo.retrainings import RetrainingFailedError
from services.demo.summary import DemoSummary, Durations
from services.demo.system import System
from services.demo.trial import verdicts
from services.demo.trial.play import TrialPlay
from services.demo.trial.world import TRIAL
from services.operations.local_servers.cluster import FolderInUseError
from services.operations.local_servers.jars import JarsError
from services.operations.local_servers.supervisor import SupervisorError
from services.runtime import declaration_file
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

_BOARD_SECONDS = 0.25
_EXPECTED_ERRORS = (
    CatchUpError,
    FlightsMissingError,
    FolderInUseError,
    JarsError,
    RetrainingFailedError,
    StalledError,
    SupervisorError,
    folder.FolderError,
)
"""Errors whose message says what happened and what to do; any other error is a defect and shows its stack."""

Beside = Callable[[System, Play], contextlib.AbstractContextManager[None]]


def _nothing(_running: System, _play: Play) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


class Demo:
    """Runs once; `run` returns the exit code."""

    def __init__(self, options: Options, console: Console, beside_stream: Beside = _nothing) -> None:
        """Take checked options, the console, and what runs while the demo streams."""
        self._options = options
        self._console = console
        self._beside_stream = beside_stream
        self._began_seconds = time.monotonic()
        self._startup_seconds = 0.0
        self._play: Play | None = None
        self._interruption = Interruption()
        self._summary: DemoSummary | None = None
        self._monthly: Sequence[monthly.MonthlyModel] = ()

    def run(self) -> int:
        """Start, play, report, stop. 0: no faults; 1: a fault or an error; 130, 143: stopped by a signal."""
        given = Settings()
        home = (self._options.home or given.home / "demo").resolve()
        world = self._options.world
        settings = world.settings(given.model_copy(update={"home": home, "archive_uri": ""}))
        try:
            with self._interruption, folder.claim(home) as lock:
                self._say(f"{world.title}. Data and logs: {home}. Ctrl-C stops the demo.")
                settings = world.write_models(settings)
                declarations = declaration_file.load_all(settings.models)
                declaration = declarations[world.model]
                loading = system.in_background(lambda: load_playlist(settings, declaration, self._options))
                with system.started(settings, lock, self._say, world) as running:
                    loaded = loading.result()
                    companion = world.make_companion(declarations, loaded)
                    played = TrialPlay if world is TRIAL else Play
                    self._play = played(running.settings, declaration, companion, loaded, self._options)
                    self._stream(running)
        except KeyboardInterrupt:
            self._report(None, [])
        except _EXPECTED_ERRORS as error:
            self._report(None, [str(error)])
        return self._exit_code()

    def _stream(self, running: System) -> None:
        """Play and report; on a terminal, then keep the processes running for the dashboard."""
        assert self._play is not None
        self._startup_seconds = self._seconds()
        faults: list[str] = []
        try:
            with self._beside_stream(running, self._play):
                self._interruption.run(self._show(running, self._play))
            faults = self._faults(self._play)
            self._train_monthly(running, self._play)
        except KeyboardInterrupt:
            pass
        except _EXPECTED_ERRORS as error:
            faults = [str(error)]
        self._report(running, faults)
        self._write_chronicle(running, self._play)
        if self._play.complete and self._console.is_terminal:
            self._stay(running)

    async def _show(self, running: System, play: Play) -> None:
        advice = "Ctrl-C stops the demo. Logs: " + str(running.settings.home / "logs")
        banner = board.banner(running.urls(), advice)
        if not self._console.is_terminal:
            self._console.print(banner)
            await beside(play.run(), self._print_months(running, play))
            return
        with Live(console=self._console, refresh_per_second=1 / _BOARD_SECONDS, transient=True) as live:

            async def draw() -> None:
                while True:
                    running.check()
                    live.update(
                        Group(banner, board.render(play.snapshot(self._seconds()), self._console.height))
                    )
                    await asyncio.sleep(_BOARD_SECONDS)

            await beside(play.run(), draw())
        self._console.print(banner)

    async def _print_months(self, running: System, play: Play) -> None:
        """Print one line per month, after the labels of its last requests are known."""
        calendar = self._options.world.calendar
        waiting = [name for name in calendar.names if calendar.month_start_ms(name) < self._options.until_ms]
        while True:
            running.check()
            snapshot = play.snapshot(self._seconds())
            while waiting and snapshot.watermark_ms > calendar.month_end_ms(waiting[0]) + board.LABELS_MS:
                self._console.print(board.month_line(snapshot, waiting.pop(0)), highlight=False)
            await asyncio.sleep(_BOARD_SECONDS)

    def _faults(self, play: Play) -> list[str]:
        account = play.account
        found = account.faults(play.requests_sent, play.collecting_sent)
        letters = account.dead_letters + account.dead_letters_before
        found += play.companion.faults(play.producer.sent.requests, letters)
        found += verdicts.faults(play.verdicts)
        if self._options.whole_year and self._options.world.has_drift and not play.log.drift_results():
            found.append("drift triggered no retraining")
        return found

    def _train_monthly(self, running: System, play: Play) -> None:
        if not self._options.monthly:
            return
        self._say("Training a model for each month on all months before it, to compare.")
        names = [line.month for line in play.account.months()]
        calendar = self._options.world.calendar
        self._monthly = monthly.models(running.settings, play.declaration, calendar, names, play.ends)

    def _report(self, running: System | None, faults: Sequence[str]) -> None:
        """Print and write the summary, once."""
        if self._summary is not None:
            return
        cpu_seconds = system.cpu_seconds(running.children if running else [])
        found = self._summarise(faults, cpu_seconds)
        if self._monthly and self._play is not None:
            results = self._play.log.results()
            found = monthly.added(found, self._monthly, results, self._options.until_ms)
        self._summary = found
        if self._play is not None:
            summary.show(self._summary, self._console)
        else:
            self._print_early_end(self._summary)
        if self._options.summary is not None:
            summary.write(self._summary, self._options.summary)
            self._say(f"summary written to {self._options.summary}")

    def _write_chronicle(self, running: System, play: Play) -> None:
        path = self._options.chronicle
        if path is None or not play.complete or self._summary is None:
            return
        results = play.log.results()
        services = hindsight.services(
            running.settings, play.declaration, results, self._options.until_ms, play.ends
        )
        year = chronicle.Year(
            self._summary, play.account.alarms_in_order(), play.log.requested, results, services, days.load()
        )
        chronicle.write(year, path)
        self._say(f"chronicle written to {path}")

    def _print_early_end(self, found: DemoSummary) -> None:
        for fault in found.faults:
            self._console.print(f"driftline demo: {fault}", style="red", markup=False, highlight=False)
        self._say(f"Stopped during the start, after {found.seconds:.1f} s. Nothing was streamed.")

    def _summarise(self, faults: Sequence[str], cpu_seconds: dict[str, float]) -> DemoSummary:
        play = self._play
        account = play.account if play else RequestAccount(self._options.world.model, "", None)
        durations = Durations(startup_seconds=round(self._startup_seconds or self._seconds(), 1))
        if play is not None:
            durations = Durations(
                startup_seconds=durations.startup_seconds,
                streaming_seconds=round(play.streaming_seconds, 1),
                holding_seconds=round(play.holding_seconds, 1),
                waiting_seconds=round(play.waiting_seconds, 1),
            )
        return summary.summarise(
            account,
            play.companion if play else None,
            play.log.results() if play else [],
            complete=play is not None and play.complete,
            faults=faults,
            seconds=self._seconds(),
            events_sent=play.producer.sent.events if play else 0,
            requests_sent=play.requests_sent if play else 0,
            position_ms=play.producer.sent.position_ms if play else self._options.world.calendar.start_ms,
            durations=durations,
            cpu_seconds=cpu_seconds,
            candidates=play.verdicts if play else (),
        )

    def _stay(self, running: System) -> None:
        self._say(f"The dashboard runs at {running.urls()[0][1]} until you press Ctrl-C.")
        try:
            while True:
                running.check()
                time.sleep(_BOARD_SECONDS)
        except KeyboardInterrupt:
            self._say("Stopping.")
        except SupervisorError as error:
            self._say(str(error))

    def _exit_code(self) -> int:
        if self._summary is None or self._summary.faults:
            return 1
        return 0 if self._summary.complete else self._interruption.exit_code

    def _seconds(self) -> float:
        return time.monotonic() - self._began_seconds

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)


def load_playlist(settings: Settings, declaration: ModelDeclaration, options: Options) -> Playlist:
    """Read a world into a playlist, up to 1 M objects, with the garbage collector paused; freeze them."""
    gc.disable()
    try:
        laid_out = playlist.lay_out(options.world.load(), declaration.request.topic, settings.partitions)
        laid_out = options.world.arrange(laid_out, declaration)
        if not options.whole_year:
            label = declaration.label
            laid_out = playlist.end_requests(laid_out, options.until_ms, label.topic, label.id)
        gc.freeze()
    finally:
        gc.enable()
    return laid_out
