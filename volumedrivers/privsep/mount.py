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

"""Mount and unmount shares as root, where and what the configuration allows.

The arguments are checked here, behind the privilege boundary: the type by a
list, source and options by their form (share_arguments), the mount point
against the bases of the configuration and for links (mount_point).  The bases
are not an argument; see trusted for where they come from.  Every mount gets
``nosuid`` and ``nodev``, and if a helper did not set them they are set
afterwards.

Credentials never reach an argument list, an environment or a file system: the
mount helper reads them from an anonymous file in memory.
"""

import os
import shutil
import typing

from volumedrivers import exception
from volumedrivers.privsep import commands
from volumedrivers.privsep import context
from volumedrivers.privsep import mount_point as places
from volumedrivers.privsep import share_arguments
from volumedrivers.privsep import trusted

# FUSE clients are processes; in a scope of their own they outlive a restart
# of the service that mounted, whose control group systemd would empty.
_FUSE = frozenset({'glusterfs', 'quobyte', 'sofs'})


@context.privileged
def mount(
    fstype: str,
    source: str,
    mount_point: str,
    options: typing.Sequence[str] = (),
    credentials: typing.Mapping[str, str] | None = None,
    *,
    timeout: float = 60,
) -> None:
    """Mount a share; the mount point has to exist, with nothing mounted on it.

    Virtuozzo's storage is not here, because os-brick mounts it.

    :param fstype: nfs, nfs4, cifs, glusterfs, ceph, quobyte or sofs
    :param source: as mount(8) takes it
    :param mount_point: an absolute path directly below a configured base,
        free of symbolic links
    :param options: mount options, each alone or with commas; for quobyte and
        sofs the configuration has them and none are taken
    :param credentials: cifs: username, password, domain; ceph: secret
    :param timeout: seconds
    :raises PrivilegedCallRefused: an argument is not accepted
    :raises MountFailed, DeadlineExceeded, ToolMissing
    """
    secrets = dict(credentials or {})
    share_arguments.check_source(fstype, source)
    checked = share_arguments.check_options(fstype, options)
    share_arguments.check_credentials(fstype, secrets)
    places.check(mount_point)
    if places.mounted_at(mount_point) is not None:
        raise exception.MountFailed(
            source=source, mount_point=mount_point, reason='something is mounted there already'
        )
    try:
        place = places.place(mount_point, mounted=False)
    except FileNotFoundError as error:
        raise exception.MountFailed(
            source=source, mount_point=mount_point, reason='there is no such directory'
        ) from error
    what = f'mount of {source}'
    memory: list[int] = []
    try:
        if fstype == 'quobyte':
            argv = _quobyte(source, mount_point, options)
        else:
            if fstype == 'sofs':
                _check_sofs(source, options)
            if secrets:
                memory.append(_in_memory(fstype, secrets))
                name = 'credentials' if fstype == 'cifs' else 'secretfile'
                checked.insert(0, f'{name}=/proc/self/fd/{memory[0]}')
            argv = ['mount', '-t', fstype, '-o', ','.join(checked), '--', source, mount_point]
        result = commands.run(_scope(fstype) + argv, what=what, timeout=timeout, keep=memory)
    finally:
        for descriptor in memory:
            os.close(descriptor)
    if result.code:
        raise exception.MountFailed(
            source=source, mount_point=mount_point, reason=_safe(result, secrets)
        )
    _verify(source, mount_point, place, timeout)


@context.privileged
def unmount(mount_point: str, lazy: bool = False, *, timeout: float = 60) -> None:
    """Unmount what is on top at a mount point; nothing mounted is no error.

    :param lazy: detach it from the tree now and let the kernel finish when the
        last user is gone; for a share whose server does not answer
    :raises PrivilegedCallRefused: it is no mount point of ours
    :raises Busy: somebody uses it
    :raises MountFailed, DeadlineExceeded
    """
    places.check(mount_point)
    found = places.mounted_at(mount_point)
    if found is None:
        return
    places.place(mount_point, mounted=True)
    if not share_arguments.MOUNTED_TYPES.fullmatch(found.fstype):
        raise exception.PrivilegedCallRefused(
            function='unmount', reason=f'{mount_point} holds a {found.fstype} file system'
        )
    # Without canonicalising, which would ask a server that may be dead; a
    # lazy one does not go through umount.nfs, which would ask it too.
    argv = ['umount', '-c', *(('-i', '-l') if lazy else ()), '--', mount_point]
    result = commands.run(argv, what=f'unmount of {mount_point}', timeout=timeout)
    if result.code and places.mounted_at(mount_point) is not None:
        if 'busy' in result.output:
            raise exception.Busy(what=mount_point, reason=result.output)
        raise exception.MountFailed(
            source=found.source,
            mount_point=mount_point,
            reason=result.output or f'umount ended with {result.code}',
        )


@context.privileged
def make_mount_point(path: str) -> None:
    """Make the directory of a mount; it may exist already.

    :raises PrivilegedCallRefused: it is not below a configured base
    """
    places.check(path)
    places.make(path)


@context.privileged
def remove_mount_point(path: str) -> None:
    """Remove the directory of a mount; it may be gone already.

    :raises PrivilegedCallRefused: it is not below a configured base
    :raises MountFailed: it is not empty, or something is mounted there
    """
    places.check(path)
    places.remove(path)


def _scope(fstype: str) -> list[str]:
    runner = shutil.which('systemd-run', path=commands.ENVIRONMENT['PATH'])
    if fstype in _FUSE and runner and os.path.isdir('/run/systemd/system'):
        return [runner, '--scope', '--quiet', '--collect', '--']
    return []


def _in_memory(fstype: str, secrets: typing.Mapping[str, str]) -> int:
    """Return a descriptor of a file in memory that holds the credentials."""
    text = (
        secrets['secret']
        if fstype == 'ceph'
        else ''.join(f'{name}={value}\n' for name, value in sorted(secrets.items()))
    )
    descriptor = os.memfd_create('credentials', os.MFD_CLOEXEC)
    os.write(descriptor, text.encode())
    return descriptor


def _no_options(fstype: str, options: typing.Sequence[str]) -> None:
    if options:
        raise share_arguments.refused(f'a {fstype} mount takes its options from the configuration')


def _check_sofs(source: str, options: typing.Sequence[str]) -> None:
    _no_options('sofs', options)
    configured = trusted.configuration().volumedrivers.scality_sofs_config or '/etc/sfused.conf'
    if source != configured:
        raise share_arguments.refused(f'{source} is not scality_sofs_config')


def _quobyte(source: str, mount_point: str, options: typing.Sequence[str]) -> list[str]:
    _no_options('quobyte', options)
    argv = ['mount.quobyte', '--disable-xattrs', source, mount_point]
    client_cfg = trusted.configuration().volumedrivers.quobyte_client_cfg
    return [*argv, '-c', client_cfg] if client_cfg else argv


def _verify(source: str, mount_point: str, place: tuple[int, int], timeout: float) -> None:
    """Look where the mount ended up, and make it harmless."""
    found = places.mounted_at(mount_point)
    try:
        moved = found is None or places.place(mount_point, mounted=True) != place
    except (exception.PrivilegedCallRefused, OSError):
        moved = True
    if found is None or moved:
        # umount follows the same links as mount did.
        commands.run(['umount', '-l', '--', mount_point], what='undo of a mount', timeout=timeout)
        raise exception.PrivilegedCallRefused(
            function='mount', reason=f'{mount_point} was exchanged during the mount'
        )
    if not {'nosuid', 'nodev'} <= found.options:
        flags = ','.join(sorted(found.options & {'ro', 'noexec', 'noatime'} | {'nosuid', 'nodev'}))
        result = commands.run(
            ['mount', '-o', f'remount,bind,{flags}', '--', mount_point],
            what=f'remount of {source}',
            timeout=timeout,
        )
        if result.code:
            commands.run(
                ['umount', '-l', '--', mount_point], what='undo of a mount', timeout=timeout
            )
            raise exception.MountFailed(
                source=source, mount_point=mount_point, reason=f'nosuid,nodev: {result.output}'
            )


def _safe(result: commands.Result, secrets: typing.Mapping[str, str]) -> str:
    """Return what a tool said, without any credential."""
    text = result.output or f'ended with {result.code}'
    for name in ('password', 'secret'):
        if name in secrets:
            text = text.replace(secrets[name], '***')
    return text
