#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""The agent of the lab's virtual machine, here on this machine, and its client."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.lab.vm import agent
from tests.lab.vm import agent_client
from tests.lab.vm import frames
from tests.lab.waiting import wait_until

TOKEN = 'of this machine'


@pytest.fixture
def address(tmp_path: pathlib.Path) -> Iterator[agent_client.Address]:
    token = tmp_path / 'token'
    token.write_text(f'{TOKEN}\n')
    with socket.create_server(('127.0.0.1', 0)) as listener:
        served = agent.Agent(listener, token)
        threading.Thread(target=_serve, args=(served,), daemon=True).start()
        yield listener.getsockname()


def _serve(served: agent.Agent) -> None:
    with contextlib.suppress(OSError):  # the test is over
        served.serve()


def _gone(pid: int) -> bool:
    try:
        state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return True
    return state == 'Z'


def test_output_errors_and_status_come_apart(address: agent_client.Address) -> None:
    script = 'cat; echo wrong >&2; exit 3'
    done = agent_client.run(address, TOKEN, ['sh', '-c', script], input=b'in\n', timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (3, b'in\n', b'wrong\n')


def test_bytes_of_any_size_and_kind_pass(address: agent_client.Address) -> None:
    data = os.urandom(5 << 20)
    assert agent_client.run(address, TOKEN, ['cat'], input=data, timeout=60).stdout == data


def test_variables_and_directory(address: agent_client.Address, tmp_path: pathlib.Path) -> None:
    done = agent_client.run(
        address,
        TOKEN,
        ['sh', '-c', 'echo "$COLOUR $PWD"'],
        env={'COLOUR': 'green'},
        cwd=str(tmp_path),
        timeout=30,
    )
    assert done.stdout.decode() == f'green {tmp_path}\n'


def test_a_conversation_goes_on_while_the_command_runs(address: agent_client.Address) -> None:
    with agent_client.RemoteProcess(address, TOKEN, ['cat']) as process:
        for line in (b'one\n', b'two\n'):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(30) == 0
        assert process.stdout.read() == b''


def test_one_stream_that_nobody_reads_does_not_stop_the_other(
    address: agent_client.Address,
) -> None:
    script = 'head -c 3000000 /dev/zero >&2; echo done'
    with agent_client.RemoteProcess(address, TOKEN, ['sh', '-c', script]) as process:
        assert process.stdout.readline() == b'done\n'
        assert len(process.stderr.read()) == 3_000_000


def test_a_signal_that_ended_it_is_told(address: agent_client.Address) -> None:
    with agent_client.RemoteProcess(address, TOKEN, ['sleep', '60']) as process:
        process.kill()
        assert process.wait(30) == -signal.SIGKILL


def test_a_command_whose_client_goes_away_ends_with_its_children(
    address: agent_client.Address,
) -> None:
    script = 'sleep 60 & echo $!; trap "" TERM; sleep 60'
    process = agent_client.RemoteProcess(address, TOKEN, ['sh', '-c', script])
    child = int(process.stdout.readline())
    process.close()
    wait_until(lambda: _gone(child), 'the child to end', timeout=20)


def test_a_daemon_left_behind_does_not_hold_the_command_up(
    address: agent_client.Address,
) -> None:
    script = 'sleep 20 & echo $!'
    started = time.monotonic()
    done = agent_client.run(address, TOKEN, ['sh', '-c', script], timeout=15)
    assert time.monotonic() - started < 10
    os.kill(int(done.stdout), signal.SIGKILL)


def test_what_cannot_be_started_is_an_error_as_here(address: agent_client.Address) -> None:
    with pytest.raises(FileNotFoundError):
        agent_client.run(address, TOKEN, ['/no/such/program'], timeout=30)


def test_too_long_is_ended(address: agent_client.Address) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        agent_client.run(address, TOKEN, ['sleep', '60'], timeout=0.3)


def test_with_a_terminal(address: agent_client.Address) -> None:
    process = agent_client.RemoteProcess(
        address, TOKEN, ['sh', '-c', 'stty size; test -t 0'], terminal=(31, 77)
    )
    with process:
        output, _ = process.communicate(timeout=30)
        assert (output, process.wait()) == (b'31 77\r\n', 0)


@pytest.mark.parametrize('token', ['', 'of another machine'])
def test_nobody_else_may(address: agent_client.Address, token: str) -> None:
    with pytest.raises(agent_client.AgentError, match='token'):
        agent_client.ask(address, token)
    with pytest.raises(PermissionError):
        agent_client.run(address, token, ['true'], timeout=30)


def test_many_at_once(address: agent_client.Address) -> None:
    processes = [agent_client.RemoteProcess(address, TOKEN, ['cat']) for _ in range(20)]
    for number, process in enumerate(processes):
        output, _ = process.communicate(b'%d' % number, timeout=30)
        assert output == b'%d' % number
        process.close()


def test_a_machine_that_goes_away_is_told(tmp_path: pathlib.Path) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def accept_and_vanish() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=accept_and_vanish)
        thread.start()
        with pytest.raises(agent_client.AgentLost):
            agent_client.run(listener.getsockname(), TOKEN, ['true'], timeout=30)
        thread.join()


def test_nobody_listens() -> None:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        nobody = listener.getsockname()
    with pytest.raises(agent_client.AgentError):
        agent_client.ask(nobody, TOKEN)


def test_frames_arrive_however_they_are_cut() -> None:
    data = frames.pack(frames.OUTPUT, b'abc') + frames.pack(frames.EXIT, b'0')
    unpacker = frames.Unpacker()
    found = [frame for byte in data for frame in unpacker.feed(bytes([byte]))]
    assert found == [(frames.OUTPUT, b'abc'), (frames.EXIT, b'0')]


def test_a_long_payload_becomes_several_frames() -> None:
    data = bytes(frames.LONGEST) + b'end'
    found = frames.Unpacker().feed(frames.pack(frames.INPUT, data))
    assert b''.join(payload for _, payload in found) == data
    assert len(found) == 2


def test_something_else_is_no_frame() -> None:
    with pytest.raises(frames.BadFrame):
        frames.Unpacker().feed(b'GET / HTTP/1.1\r\n')


def test_the_agent_needs_nothing_but_its_own_files(tmp_path: pathlib.Path) -> None:
    """As it is installed in the machine, without the package and its requirements."""
    from tests.lab.vm import image

    project = pathlib.Path(__file__).parents[3]
    for name in image.AGENT:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((project / name).read_bytes())
    code = 'import tests.lab.vm.agent; print(tests.lab.vm.agent.__file__)'
    done = subprocess.run(
        [sys.executable, '-S', '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path))
