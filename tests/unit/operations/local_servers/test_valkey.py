import socket
import threading
from pathlib import Path

import pytest

from services.operations.local_servers import ports, valkey
from services.operations.local_servers.supervisor import Launch
from tests.unit.operations.local_servers.recorded import RecordingSupervisor


def launched(folder: Path, port: int) -> Launch:
    supervisor = RecordingSupervisor()
    valkey.start(supervisor, folder, port, extra=("--maxmemory", "1gb"))
    (launch,) = supervisor.started
    return launch


def answer_once(listener: socket.socket, answer: bytes) -> None:
    with listener.accept()[0] as connection:
        assert connection.recv(16) == b"PING\r\n"
        connection.sendall(answer)


def test_it_listens_on_this_machine_only_and_keeps_its_environment_readable():
    options = valkey.options(Path("/home"), 16379, appendonly=False)
    assert options[options.index("--bind") + 1] == "127.0.0.1"
    assert options[options.index("--set-proc-title") + 1] == "no"


def test_a_new_folder_gets_the_mode_that_is_wanted(tmp_path: Path):
    assert valkey.mode(tmp_path, wanted=True) is True
    assert valkey.mode(tmp_path, wanted=False) is False


def test_a_folder_keeps_the_mode_with_which_it_began(tmp_path: Path):
    (tmp_path / "dump.rdb").touch()
    assert valkey.mode(tmp_path, wanted=True) is False
    (tmp_path / "appendonlydir").mkdir()
    assert valkey.mode(tmp_path, wanted=False) is True


def test_the_folder_is_made_and_further_options_come_last(tmp_path: Path):
    launch = launched(tmp_path / "new", 16379)
    assert (tmp_path / "new").is_dir()
    assert launch.command[-2:] == ["--maxmemory", "1gb"]
    assert launch.log == tmp_path / "new" / "valkey.log"


@pytest.mark.parametrize("answer", [b"+PONG\r\n", b"-LOADING\r\n"])
def test_it_is_ready_when_it_answers_a_ping(tmp_path: Path, answer: bytes):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=answer_once, args=(listener, answer))
        answering.start()
        assert launched(tmp_path, listener.getsockname()[1]).ready() is answer.startswith(b"+PONG")
        answering.join()


def test_it_is_not_ready_while_nothing_listens(tmp_path: Path):
    assert launched(tmp_path, ports.free_port()).ready() is False
