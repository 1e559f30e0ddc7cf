"""A supervisor that starts nothing and notes what it was given."""

from services.operations.local_servers.supervisor import Child, Launch, Supervisor


class RecordingSupervisor(Supervisor):
    def __init__(self) -> None:
        super().__init__(1.0)
        self.started: list[Launch] = []
        self.ran: list[Launch] = []

    def start(self, launch: Launch) -> Child:
        self.started.append(launch)
        return None  # type: ignore[return-value]  # nothing runs

    def run(self, launch: Launch, seconds: float) -> None:
        assert seconds > 0
        self.ran.append(launch)
