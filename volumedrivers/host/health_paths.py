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

"""Check the directories, files and privilege that this package needs."""

from collections.abc import Iterator
import configparser
import os
import subprocess
import typing

from volumedrivers import exception
from volumedrivers.host import bootstrap
from volumedrivers.host import deadline
from volumedrivers.host import finding
from volumedrivers.host import mount_table
from volumedrivers.host import requirements

_NEIGHBOURS = (('Cinder', '/etc/cinder/cinder.conf'), ('Nova', '/etc/nova/nova.conf'))
_INITIATOR_NAME = '/etc/iscsi/initiatorname.iscsi'
_HOST_NQN = '/etc/nvme/hostnqn'
_REMOTE = ('nfs', 'cifs', 'smb', 'fuse.', 'ceph')
# What a server of NFS has at /proc/fs/nfsd is its kernel's, and local.
_NOT_REMOTE = 'nfsd'


def lock_path(
    conf: typing.Any, path: str, neighbours: tuple[tuple[str, str], ...] = _NEIGHBOURS
) -> Iterator[finding.Finding]:
    """Check os-brick's lock directory, and that Cinder and Nova have the same."""
    yield _writable('lock path', path)
    for name, file in neighbours:
        theirs = _lock_path_of(file)
        if theirs is None:
            continue
        if os.path.realpath(theirs) == os.path.realpath(path):
            yield finding.ok(f'lock path of {name}', 'is the same')
        else:
            yield finding.warning(
                f'lock path of {name}',
                f'{name} has its locks in {theirs}, this package in {path}: both may change '
                'the same device at once',
                f'set lock_path = {theirs} in [volumedrivers]',
            )


def state_path(conf: typing.Any) -> Iterator[finding.Finding]:
    """Check the state directory."""
    yield _writable('state path', conf.state_path)


def mount_point_bases(conf: typing.Any) -> Iterator[finding.Finding]:
    """Check the directories below which shares are mounted."""
    names = sorted(name for name in conf if name.endswith('_mount_point_base'))
    for path in sorted({conf[name] for name in names}):
        yield _writable('mount point base', path)


def hung_mounts(conf: typing.Any, *, seconds: float = 2.0) -> Iterator[finding.Finding]:
    """Ask each mount of a remote file system whether it answers."""
    remote = [
        mount
        for mount in mount_table.read()
        if mount.fstype.startswith(_REMOTE) and mount.fstype != _NOT_REMOTE
    ]
    for mount in remote:
        name = 'mount'
        what = f'{mount.source} at {mount.mount_point}'
        try:
            deadline.call(
                lambda path=mount.mount_point: os.statvfs(path),  # type: ignore[misc]
                what=mount.mount_point,
                seconds=seconds,
            )
        except exception.DeadlineExceeded:
            yield finding.problem(
                name,
                f'{what} does not answer within {seconds:g} s',
                f'check the server and the network to it; "umount -l {mount.mount_point}" '
                'takes it away when no guest uses it',
            )
        except PermissionError:
            yield finding.unknown(name, f'this user may not ask {what}')
        except OSError as error:
            yield finding.problem(name, f'{what}: {error.strerror}', f'umount {mount.mount_point}')
        else:
            yield finding.ok(name, f'{what} answers')


def initiator_name(conf: typing.Any, *, path: str = _INITIATOR_NAME) -> Iterator[finding.Finding]:
    """Check the name that iSCSI targets know this host by."""
    advice = 'write InitiatorName=$(/sbin/iscsi-iname) into it, and tell the storage'
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        if requirements.Tool('iscsiadm', 'open-iscsi').missing() is None:
            yield finding.warning('initiator name', f'there is no {path}', advice)
        return
    except PermissionError:
        yield finding.unknown('initiator name', f'only root may read {path}', 'check as root')
        return
    names = [line.partition('=')[2].strip() for line in lines if line.startswith('InitiatorName=')]
    if names and names[-1]:
        yield finding.ok('initiator name', names[-1])
    else:
        yield finding.warning('initiator name', f'{path} has no InitiatorName yet', advice)


def host_nqn(conf: typing.Any, *, path: str = _HOST_NQN) -> Iterator[finding.Finding]:
    """Check the name that NVMe subsystems know this host by."""
    if os.path.exists(path):
        yield finding.ok('host NQN', f'{path} is there')
    elif requirements.Tool('nvme', 'nvme-cli').missing() is None:
        yield finding.warning(
            'host NQN',
            f'there is no {path}, which NVMe-oF needs',
            '"volumedrivers connector show --write-host-files" makes it',
        )


def privilege(conf: typing.Any) -> Iterator[finding.Finding]:
    """Check that what needs root can get it."""
    if os.geteuid() == 0:
        yield finding.ok('privilege', 'runs as root')
        return
    if not os.path.exists(conf.rootwrap_config):
        yield finding.problem(
            'privilege',
            f'rootwrap_config {conf.rootwrap_config} does not exist',
            'install the file from etc/volumedrivers, or set rootwrap_config',
        )
        return
    command = ['sudo', '-n', '-l', bootstrap.rootwrap(), conf.rootwrap_config]
    try:
        allowed = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False
        )
    except FileNotFoundError:
        yield finding.problem(
            'privilege', 'sudo is not installed', 'apt-get install sudo, or run as root'
        )
        return
    except subprocess.TimeoutExpired:
        yield finding.unknown('privilege', 'sudo does not answer within 5 s')
        return
    if allowed.returncode == 0:
        yield finding.ok('privilege', 'sudo lets this user run rootwrap')
    else:
        rule = f'{bootstrap.rootwrap()} {conf.rootwrap_config} *'
        yield finding.problem(
            'privilege',
            'sudo does not let this user run rootwrap without a password',
            f'allow it in /etc/sudoers.d: USER ALL=(root) NOPASSWD: {rule}',
        )


def _writable(name: str, path: str) -> finding.Finding:
    """Look whether a directory can be written into, or be made; makes nothing."""
    existing = path
    while not os.path.exists(existing) and os.path.dirname(existing) != existing:
        existing = os.path.dirname(existing)
    advice = f'install -d -o {_user()} {path}'
    if not os.path.isdir(existing):
        return finding.problem(name, f'{existing} is no directory', f'move it away, then {advice}')
    if not os.access(existing, os.W_OK | os.X_OK):
        return finding.problem(name, f'this user may not write into {existing}', advice)
    return finding.ok(name, path if existing == path else f'{path} will be made when needed')


def _user() -> str:
    return str(os.geteuid())


def _lock_path_of(file: str) -> str | None:
    """Return the neighbour's lock path; None: it has none, or may not be read."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        with open(file, encoding='utf-8', errors='replace') as lines:
            parser.read_file(lines)
    except (OSError, configparser.Error):
        return None
    values = {section: dict(parser[section]) for section in parser.sections()}
    for section in ('os_brick', 'oslo_concurrency'):
        path = values.get(section, {}).get('lock_path')
        if path:
            return path.replace(
                '$state_path', parser.defaults().get('state_path') or '$state_path'
            )
    return None
