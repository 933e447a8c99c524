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

"""SMB 3.1.1, served by Samba."""

from collections.abc import Iterator
import functools
import json
import pathlib
import pwd
import secrets
import typing

from tests.lab.storage import networks
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.records import Records
from tests.lab.storage.server_process import ServerProcess
from tests.lab.storage.server_process import listens
from tests.lab.storage.server_process import run
from tests.lab.storage.share import ADDRESS
from tests.lab.storage.share import ShareBackend
from tests.lab.storage.share import ShareVolume
from tests.lab.waiting import wait_until

SHARE = 'volumes'
USER = 'labvolumes'
PORT = 445

CONFIGURATION = """\
[global]
  workgroup = LAB
  server role = standalone server
  interfaces = {address}
  bind interfaces only = yes
  disable netbios = yes
  smb ports = {port}
  server min protocol = SMB3_11
  load printers = no
  printcap name = /dev/null
  map to guest = never
  log level = 1
  log file = {state}/log/smbd
  lock directory = {state}/lock
  state directory = {state}/state
  cache directory = {state}/cache
  pid directory = {state}/run
  private dir = {state}/private
  ncalrpc dir = {state}/ncalrpc
[{share}]
  path = {files}
  valid users = {user}
  force user = root
  read only = no
  # what is written is on the disk before the client hears so
  strict sync = yes
"""


class SmbBackend(ShareBackend):
    """smbd with one share, and one user whose password is made here."""

    name = 'smb'
    protocol = 'smbfs'
    ports = (PORT,)

    @property
    def export(self) -> str:
        return f'//{ADDRESS}/{SHARE}'

    @functools.cached_property
    def password(self) -> str:
        """The user's password; of this installation alone."""
        records = Records(self.state)
        try:
            return typing.cast(str, records.load('user')['password'])
        except KeyError:
            records.save('user', {'password': secrets.token_hex(16)})
            return typing.cast(str, records.load('user')['password'])

    def secrets(self) -> list[str]:
        return [self.password]

    def mount_options(self, volume: ShareVolume) -> str:
        """Return user and password, as Cinder's list of shares has them, and what else is."""
        more = volume.record['options']
        options = f'-o username={USER},password={self.password}'
        return f'{options},{more}' if more else options

    def up(self) -> None:
        networks.up()
        modprobe('cifs')
        self.files.mkdir(parents=True, exist_ok=True)
        self.files.chmod(0o777)
        if self._smbd.pid() is None:
            self._configure()
            self._smbd.start('smbd', '-D', '-s', str(self._conf))
        wait_until(self.is_up, 'smbd to serve', timeout=400)

    def is_up(self) -> bool:
        return self._smbd.pid() is not None and listens(PORT, ADDRESS)

    def kill_daemon(self) -> None:
        self._smbd.kill()

    def seen(self, volume: ShareVolume) -> list[str]:
        """Return who has the file open, and the sessions if nobody has any other file."""
        status = json.loads(run('smbstatus', '-s', str(self._conf), '--json'))
        opened = dict(open_files(status))
        path = str(volume.path)
        lines = opened.get(path, [])
        if set(opened) <= {path}:
            lines += sessions(status)
        return lines

    @property
    def _conf(self) -> pathlib.Path:
        return self.state / 'smb.conf'

    @property
    def _smbd(self) -> ServerProcess:
        return ServerProcess('smbd', self.state / 'run' / 'smbd.pid')

    def _configure(self) -> None:
        for directory in ('log', 'lock', 'state', 'cache', 'run', 'private', 'ncalrpc'):
            (self.state / directory).mkdir(mode=0o755, exist_ok=True)
        self._conf.write_text(
            CONFIGURATION.format(
                address=ADDRESS,
                port=PORT,
                state=self.state,
                files=self.files,
                share=SHARE,
                user=USER,
            )
        )
        try:
            pwd.getpwnam(USER)
        except KeyError:
            run('useradd', '--no-create-home', '--shell', '/usr/sbin/nologin', USER)
        twice = f'{self.password}\n{self.password}\n'
        run('smbpasswd', '-c', str(self._conf), '-s', '-a', USER, input=twice.encode())


def open_files(status: dict[str, typing.Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield each file that is open, and who has it.

    :param status: what ``smbstatus --json`` prints
    """
    for path, file in status.get('open_files', {}).items():
        # One that is only looked at is a directory of somebody who is connected.
        if file.get('filename') in ('.', ''):
            continue
        holders = file.get('opens', {}).values()
        yield path, [f'open by smbd {each["server_id"]["pid"]}' for each in holders]


def sessions(status: dict[str, typing.Any]) -> list[str]:
    """Return the sessions and the shares that are connected to, one line each."""
    return [
        f'session of {each["remote_machine"]}' for each in status.get('sessions', {}).values()
    ] + [f'connected to {each["service"]}' for each in status.get('tcons', {}).values()]
