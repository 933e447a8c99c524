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

"""A real iSCSI target on loopback, for tests and the demonstration.

tgtd serves a file as one logical unit; nothing of it is in the kernel, so no
root, no module and no configuration of the machine is needed.  Each has a
control socket in its own directory: any number of them run side by side.
"""

import os
import pathlib
import typing

from volumedrivers import exception
from volumedrivers.testing import server

_TARGET = '1'
# How often another port is tried.
_PORTS = 4


class IscsiTarget:
    """tgtd with one target, one LUN and a file behind it; a context manager.

    :ivar portal: ``127.0.0.1:<port>``
    :ivar image: the file the LUN is kept in; read it to see what a guest wrote
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        size: int = 16 * 2**20,
        iqn: str = 'iqn.2020-01.org.volumedrivers:target',
        lun: int = 1,
        chap: tuple[str, str] | None = None,
        control: str | os.PathLike[str] | None = None,
    ) -> None:
        """Prepare; ``start`` starts it.

        :param size: bytes of the LUN
        :param chap: user name and password (of 12 to 16 characters); tgtadm
            takes them as arguments only, so use ones that are worth nothing
        :param control: directory of the control socket, where the other one's
            path is too long for a socket's; default: ``directory``
        """
        self.directory = pathlib.Path(directory)
        self.size = size
        self.iqn = iqn
        self.lun = lun
        self.chap = chap
        self.image = self.directory / 'lun.img'
        self.port = 0
        self._sockets = self.directory if control is None else pathlib.Path(control)
        self._control = 1
        # tgtd and tgtadm append '.<control port>' to it.
        self._env = {**os.environ, 'TGT_IPC_SOCKET': str(self._sockets / 'tgt')}
        self._server: server.Server | None = None

    @property
    def portal(self) -> str:
        return f'127.0.0.1:{self.port}'

    @property
    def pid(self) -> int | None:
        """The process id of tgtd; None when it does not run."""
        return self._server.pid if self._server else None

    def start(self) -> None:
        """Start tgtd and export the file.

        :raises ToolMissing, Busy, DeadlineExceeded, OperationFailed
        """
        tgtd = server.find_tool('tgtd', 'tgt')
        server.find_tool('tgtadm', 'tgt')
        for each in (self.directory, self._sockets):
            each.mkdir(parents=True, exist_ok=True)
        if not self.image.exists():
            with self.image.open('wb') as image:
                image.truncate(self.size)
        for left in range(_PORTS, -1, -1):
            try:
                self._listen(tgtd)
                break
            except exception.Busy:
                if not left:
                    raise
        try:
            self._export()
        except BaseException:
            self.stop()
            raise

    def _listen(self, tgtd: str) -> None:
        """Start tgtd on a port that was free a moment ago.

        :raises Busy: somebody else was faster; tgtd would go on without it
        """
        self.port = server.free_port()
        log = self.directory / 'tgtd.log'
        log.unlink(missing_ok=True)
        self._server = server.Server(
            [tgtd, '-f', '-C', str(self._control), '--iscsi', f'portal={self.portal}'],
            log,
            self._env,
        )
        control = self._sockets / f'tgt.{self._control}'
        control.unlink(missing_ok=True)

        def ready() -> bool:
            if not (control.exists() and server.listens(self.port)):
                return False
            # Whoever listens there, it is this tgtd only if it says so itself: where
            # its own portal cannot be had it opens the usual ones and goes on.
            try:
                opened = self._adm('portal', 'show', target=False)
            except exception.OperationFailed:
                return False
            if f'Portal: {self.portal},' not in opened:
                raise exception.Busy(what=self.portal, reason='another program took it')
            return True

        self._server.start(ready)

    def _export(self) -> None:
        self._adm('target', 'new', '--targetname', self.iqn)
        self._adm('logicalunit', 'new', '--lun', str(self.lun), '--backing-store', str(self.image))
        if self.chap:
            user, password = self.chap
            self._adm('account', 'new', '--user', user, '--password', password, target=False)
            self._adm('account', 'bind', '--user', user)
        self._adm('target', 'bind', '--initiator-address', 'ALL')

    def grow(self, size: int) -> None:
        """Make the LUN ``size`` bytes long while it is in use.

        tgtd reads the size when it opens the file, and opens it again only
        while the LUN is offline: for some milliseconds commands are refused,
        so do it while the guest writes nothing.
        """
        with self.image.open('r+b') as image:
            image.truncate(size)
        lun = ('--lun', str(self.lun), '--params')
        self._adm('logicalunit', 'update', *lun, 'online=0')
        try:
            self._adm('logicalunit', 'update', *lun, f'path={self.image}')
        finally:
            self._adm('logicalunit', 'update', *lun, 'online=1')
        self.size = size

    def sessions(self) -> int:
        """Return how many initiators are logged in."""
        shown = self._adm('target', 'show', target=False)
        return shown.count('I_T nexus: ')

    def connection_info(
        self,
        volume_id: str = 'c0ffee00-0000-4000-8000-000000000001',
        *,
        password: str | None = None,
    ) -> dict[str, typing.Any]:
        """Return what Cinder would say of this volume.

        :param password: another than the right one
        """
        data: dict[str, typing.Any] = {
            'target_discovered': False,
            'target_portal': self.portal,
            'target_iqn': self.iqn,
            'target_lun': self.lun,
            'volume_id': volume_id,
            'access_mode': 'rw',
            'qos_specs': None,
            'encrypted': False,
            'cacheable': False,
        }
        if self.chap:
            data.update(
                auth_method='CHAP',
                auth_username=self.chap[0],
                auth_password=password or self.chap[1],
            )
        return {
            'driver_volume_type': 'iscsi',
            'data': data,
            'serial': volume_id,
            'volume_id': volume_id,
            'multiattach': False,
        }

    def stop(self) -> None:
        """Stop tgtd; the file stays."""
        if self._server is not None:
            # It does not end on request while it has a target; the file is
            # written by then, as there is no cache of its own.
            self._server.stop(timeout=0)
            self._server = None
        for left in self._sockets.glob(f'tgt.{self._control}*'):
            left.unlink()

    def _adm(self, mode: str, operation: str, *arguments: str, target: bool = True) -> str:
        tid = ('--tid', _TARGET) if target else ()
        return server.run(
            server.find_tool('tgtadm', 'tgt'),
            '-C',
            str(self._control),
            '--lld',
            'iscsi',
            '--mode',
            mode,
            '--op',
            operation,
            *tid,
            *arguments,
            env=self._env,
        )

    def __enter__(self) -> typing.Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
