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

"""Read the LUKS header of a volume that only QEMU opens, through QEMU's own client.

The client is given the volume's own servers and user, and the key through a
file descriptor; neither ceph.conf nor a keyring of this host is needed, so a
second cluster is as good as the first.
"""

from collections.abc import Mapping
import contextlib
import json
import os
import subprocess
import typing

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiData
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.privsep import luks_header
from volumedrivers.privsep.commands import ENVIRONMENT
from volumedrivers.privsep.luks_header import Header

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.hypervisor import Hypervisor

_BLOCK = 64 << 10
_LARGEST = 4 << 20
_KEY_ID = 'key'
_LIMIT = 400
_DEFAULT_PORTS = {'rbd': 6789, 'iscsi': 3260, 'gluster': 24007, 'nbd': 10809}


class Unreadable(Exception):
    """QEMU's client could not read it from here; says why."""


def read(
    hypervisor: 'Hypervisor', info: ConnectionInfo, source: NetworkSource, *, seconds: float
) -> Header | None:
    """Return the header of a network source; None: it has none.

    :param seconds: how long the storage may take to answer
    :raises Unreadable
    :raises EncryptionFailed: it is damaged
    :raises HypervisorUnavailable, HypervisorError: the secret cannot be had
    :raises ToolMissing
    """
    key = _key(hypervisor, info, source)
    blockdev = {'driver': 'raw', 'read-only': True, 'file': describe(source, with_key=bool(key))}
    size = _BLOCK
    while True:
        data = _start_of(blockdev, key, size, seconds)
        try:
            return luks_header.parse(_reader_of(data))
        except luks_header.DamagedHeader as error:
            if size >= _LARGEST or not data.startswith(luks_header.MAGIC):
                raise exception.EncryptionFailed(
                    volume_id=info.volume_id, reason=str(error)
                ) from error
            # A LUKS2 header may have more; the whole of it is asked for.
            size = _LARGEST


def _reader_of(data: bytes) -> luks_header.Read:
    return lambda offset, length: data[offset : offset + length]


def describe(source: NetworkSource, *, with_key: bool) -> dict[str, typing.Any]:
    """Return QEMU's blockdev options of a source.

    :param with_key: whether the secret of id "key" logs in
    :raises ValueError: this package makes no such source
    """
    hosts = [_host(source.protocol, host) for host in source.hosts]
    made: dict[str, typing.Any] = {'driver': source.protocol}
    if source.protocol == 'rbd':
        names = source.name.split('/')
        made.update(pool=names[0], image=names[-1])
        if len(names) == 3:
            made['namespace'] = names[1]
        if hosts:
            made['server'] = hosts
        if source.auth_username is not None:
            made['user'] = source.auth_username
        if with_key:
            made.update({'key-secret': _KEY_ID, 'auth-client-required': ['cephx', 'none']})
    elif source.protocol == 'iscsi':
        target, _, lun = source.name.partition('/')
        host = source.hosts[0]
        name = f'[{host.name}]' if ':' in host.name else host.name
        made.update(
            transport='tcp',
            portal=f'{name}:{host.port or _DEFAULT_PORTS["iscsi"]}',
            target=target,
            lun=int(lun or 0),
        )
        if source.initiator_iqn is not None:
            made['initiator-name'] = source.initiator_iqn
        if source.auth_username is not None and with_key:
            made.update({'user': source.auth_username, 'password-secret': _KEY_ID})
    elif source.protocol == 'gluster':
        volume, _, path = source.name.partition('/')
        made.update(volume=volume, path=path, server=[{'type': 'inet', **host} for host in hosts])
    elif source.protocol == 'nbd':
        made.update(server={'type': 'inet', **hosts[0]}, export=source.name)
    else:
        raise ValueError(f'no source of protocol {source.protocol}')
    return made


def _host(protocol: str, host: NetworkHost) -> dict[str, str]:
    return {'host': host.name, 'port': str(host.port or _DEFAULT_PORTS[protocol])}


def _key(hypervisor: 'Hypervisor', info: ConnectionInfo, source: NetworkSource) -> bytes | None:
    """Return the cephx key or the CHAP password; None: none is needed, or to be had.

    libvirt gives out no secret that is private; those that this package makes
    are, those that an administrator makes for Ceph usually are not.
    """
    if source.auth_username is None:
        return None
    data = info.data
    if isinstance(data, IscsiData) and data.auth is not None:
        password = data.auth.password.reveal()
        if password != '***':  # noqa: S105 - as a journal has it
            return password.encode()
    if source.secret_uuid is not None:
        return hypervisor.secrets.value(source.secret_uuid)
    return None


def _start_of(
    blockdev: Mapping[str, typing.Any],
    key: bytes | None,
    size: int,
    seconds: float,
) -> bytes:
    """Copy the beginning of the volume into memory; qemu-img writes to files only."""
    command = ['qemu-img', 'dd', '--force-share', '-O', 'raw', f'bs={size}', 'count=1']
    with contextlib.ExitStack() as stack:
        copy = stack.enter_context(_memory())
        keep = [copy]
        if key is not None:
            secret = stack.enter_context(_memory())
            stack.callback(os.pwrite, secret, bytes(len(key)), 0)
            os.write(secret, key)
            keep.append(secret)
            command += ['--object', f'secret,id={_KEY_ID},format=raw,file=/proc/self/fd/{secret}']
        command += [f'if=json:{json.dumps(blockdev)}', f'of=/proc/self/fd/{copy}']
        _run(command, keep, seconds)
        return os.pread(copy, size, 0)


def _run(command: list[str], keep: list[int], seconds: float) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=keep,
            env=ENVIRONMENT,
            cwd='/',
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise exception.ToolMissing(tool='qemu-img', package='qemu-utils') from error
    except subprocess.TimeoutExpired as error:
        raise Unreadable(f'qemu-img did not end within {seconds:g} s') from error
    if done.returncode != 0:
        said = ' '.join(done.stderr.decode(errors='replace').split())
        raise Unreadable(f'qemu-img: {said[-_LIMIT:]}')


@contextlib.contextmanager
def _memory() -> typing.Iterator[int]:
    """A file in no file system, which a child can open by its number."""
    descriptor = os.memfd_create('header', os.MFD_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
