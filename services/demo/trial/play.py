"""Plays the weeks of the trial: the first model, one bad candidate after the other, and the rollout."""

import asyncio
import time
from typing import Any

from services.demo import months
from services.demo.gate import Gate, StalledError
from services.demo.play import Play
from services.demo.trial import candidates, verdicts
from services.demo.trial.candidates import Candidate
from services.model_registry import ledger
from streams import topics
from streams.records import RetrainingRequested

_POLL_SECONDS = 0.5
_DECIDED_SECONDS_MAX = 90.0
"""Maximum wait for decisions of the other processes, which take seconds."""


class TrialPlay(Play):
    """One run through the trial. `verdicts` are complete at its end."""

    def __init__(self, *parts: Any) -> None:
        """Take the arguments of `Play`."""
        super().__init__(*parts)
        self._requested: dict[Candidate, str] = {}

    async def _train_first_model(self, gate: Gate) -> None:
        """Ask for the candidate of the leaking model as well; return when the rollout has its champion."""
        leaking = await self._request_of(candidates.LEAKING, months.SCORING_START_MS)
        await self._requests.write(leaking)
        await super()._train_first_model(gate)
        deadline = time.monotonic() + _DECIDED_SECONDS_MAX
        while not self.account.version_at(months.SCORING_START_MS):
            await self._wait(deadline, "the rollout of the first model")

    async def _score(self, gate: Gate) -> None:
        await self._play_until(gate, candidates.JUDGED_MS)
        await gate.reach(candidates.JUDGED_MS)
        for candidate in candidates.JUDGED:
            self.phase = f"judging the candidate: {candidate.name}"
            candidates.set_code(self._settings.models, candidate)
            request = await self._request_of(candidate, candidates.JUDGED_MS)
            await self._requests.write(request)
            await gate.finish(request.request_id)
        self.phase = "scoring, with a rollout"
        await super()._score(gate)

    async def _close(self, gate: Gate) -> None:
        await super()._close(gate)
        self.phase = "waiting for the decisions"
        deadline = time.monotonic() + _DECIDED_SECONDS_MAX
        while True:
            entries = await asyncio.to_thread(ledger.read, self._settings)
            self.verdicts = verdicts.of_entries(entries, self._requested)
            open_names = [each.candidate for each in self.verdicts if not each.outcome]
            if not open_names:
                return
            await self._wait(deadline, f"the decision on the candidate {open_names[0]!r}")

    async def _wait(self, deadline: float, what: str) -> None:
        if time.monotonic() > deadline:
            raise StalledError(f"{what} has not come in {_DECIDED_SECONDS_MAX:g} s: see the logs")
        await asyncio.sleep(_POLL_SECONDS)

    async def _request_of(self, candidate: Candidate, at_ms: int) -> RetrainingRequested:
        model = candidate.model
        request_id = f"{model}-{candidate.name.replace(' ', '-')}-{at_ms}"
        self._requested[candidate] = request_id
        return RetrainingRequested(
            request_id=request_id,
            model=model,
            trigger="manual",
            requested_at_ms=at_ms,
            reason=f"a trial: the candidate {candidate.name!r}",
            offsets=await self._next_offsets(topics.predictions(model), topics.outcomes(model)),
        )
