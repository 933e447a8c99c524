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

"""A real NBD server on loopback or on a UNIX socket, for tests."""

import os
import pathlib
import typing

from volumedrivers.testing import server


class NbdServer:
    """qemu-nbd with one file behind it; a context manager.

    :ivar image: the file that is served, made when it is not there
    :ivar socket: the UNIX socket, where there is one
    :ivar port: the port of 127.0.0.1, where there is one
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        size: int = 16 * 2**20,
        image: pathlib.Path | None = None,
        format: str = 'raw',
        unix: bool = False,
        export: str = '',
    ) -> None:
        """Prepare; ``start`` starts it.

        :param size: bytes of a file that is made
        :param unix: serve a UNIX socket in ``directory`` instead of a port
        """
        self.directory = pathlib.Path(directory)
        self.size = size
        self.image = image or self.directory / 'nbd.img'
        self.format = format
        self.export = export
        self.socket = self.directory / 'nbd.sock' if unix else None
        self.port: int | None = None
        self._server: server.Server | None = None

    def start(self) -> None:
        """Make the file and serve it.

        :raises ToolMissing, Busy, DeadlineExceeded
        """
        argv = [
            server.find_tool('qemu-nbd', 'qemu-utils'),
            '--persistent',
            '--shared=0',
            '--cache=writeback',
            '--format',
            self.format,
            '--export-name',
            self.export,
        ]
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.image.exists():
            server.run(
                server.find_tool('qemu-img', 'qemu-utils'),
                'create',
                '-q',
                '-f',
                self.format,
                str(self.image),
                str(self.size),
            )
        if self.socket is not None:
            argv += ['--socket', str(self.socket)]
            ready = self.socket.exists
        else:
            port = self.port = server.free_port()
            argv += ['--bind', '127.0.0.1', '--port', str(port)]

            def ready() -> bool:
                return server.listens(port)

        self._server = server.Server([*argv, str(self.image)], self.directory / 'nbd.log')
        self._server.start(ready)

    @property
    def uri(self) -> str:
        """What qemu-img and qemu-io call it."""
        if self.socket is not None:
            return f'nbd+unix:///{self.export}?socket={self.socket}'
        return f'nbd://127.0.0.1:{self.port}/{self.export}'

    def stop(self) -> None:
        """Stop it; the file stays."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self.socket is not None:
            self.socket.unlink(missing_ok=True)

    def __enter__(self) -> typing.Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
