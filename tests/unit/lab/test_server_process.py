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

"""Daemons that are found again by their pid files, and packets that are stopped."""

import os

import pytest

from tests.lab.storage import packet_filter
from tests.lab.storage import server_process
from tests.lab.storage.server_process import CommandFailed
from tests.lab.storage.server_process import ServerProcess
from tests.lab.waiting import wait_until

# It goes to the background, leads a session, has a child, and writes its pid file.
DAEMON = (
    'setsid sh -c \'sleep 600 & echo $! > "$1.child"; echo $$ > "$1"; exec sleep 600\' - "$1" &'
)


@pytest.fixture
def daemon(tmp_path):
    made = ServerProcess('sleep', tmp_path / 'run' / 'pid')
    yield made
    made.kill()


def start(daemon):
    daemon.start('sh', '-c', DAEMON, '-', str(daemon.pid_file))
    return wait_until(daemon.pid, 'the daemon')


class TestServerProcess:
    def test_start_once(self, daemon):
        pid = start(daemon)
        assert start(daemon) == pid
        assert ServerProcess('sleep', daemon.pid_file).pid() == pid

    def test_kill_takes_its_children_too(self, daemon):
        pid = start(daemon)
        child = int(daemon.pid_file.with_name('pid.child').read_text())
        assert server_process.in_session(pid) == [child]
        daemon.kill()
        assert daemon.pid() is None
        assert server_process.comm(pid) is None
        assert server_process.comm(child) is None
        daemon.kill()

    def test_start_after_it_was_killed(self, daemon):
        first = start(daemon)
        daemon.kill()
        assert start(daemon) != first

    @pytest.mark.parametrize(
        'content',
        ['', 'nonsense', str(os.getpid()), '999999999'],
        # Every process of xdist has to call them the same.
        ids=['empty', 'nonsense', 'of another program', 'of nobody'],
    )
    def test_file_that_was_left_by_a_power_cut(self, daemon, content):
        daemon.pid_file.parent.mkdir()
        daemon.pid_file.write_text(content)
        assert daemon.pid() is None
        assert start(daemon) != os.getpid()

    def test_program_that_fails(self, daemon):
        with pytest.raises(CommandFailed, match='ended with 3'):
            daemon.start('sh', '-c', 'exit 3')
        with pytest.raises(CommandFailed, match='no-such-program'):
            daemon.start('no-such-program')


class TestRun:
    def test_returns_what_was_printed(self):
        assert server_process.run('cat', input=b'text') == 'text'

    def test_error_has_what_was_said_and_not_what_was_read(self):
        with pytest.raises(CommandFailed, match='ended with 1: sorry') as caught:
            server_process.run('sh', '-c', 'cat >&2; echo sorry >&2; exit 1', input=b'')
        assert 'sh -c' in str(caught.value)

    def test_succeeds(self):
        assert server_process.succeeds('true')
        assert not server_process.succeeds('false')
        assert not server_process.succeeds('no-such-program')


def test_rules_replace_whatever_a_table_had():
    text = packet_filter.rules('smb', ['10.10.1.1', 'fd00::1'], [445, '6800-7300'], 'drop')
    lines = [line.strip() for line in text.splitlines()]
    assert lines.index('delete table inet lab_smb') < lines.index('chain input {')
    assert [line for line in lines if 'dport' in line and '10.10.1.1' in line]
    assert [line for line in lines if line.startswith('ip6 daddr fd00::1')]
    assert text.count('{') == text.count('}')
    assert all('445, 6800-7300' in line for line in lines if 'dport' in line)
