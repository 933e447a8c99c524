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

"""Check the services, tools, kernel modules and QEMU modules that volumes need."""

from collections.abc import Iterator
import os
import socket
import typing

from volumedrivers.host import finding
from volumedrivers.host import multipathd
from volumedrivers.host import qemu_modules
from volumedrivers.host import requirements

_ISCSID = '@ISCSIADM_ABSTRACT_NAMESPACE'
_UDEV = '/run/udev/control'

_TOOLS = (
    ('iscsiadm', 'open-iscsi', 'iSCSI'),
    ('multipath', 'multipath-tools', 'multipath'),
    ('nvme', 'nvme-cli', 'NVMe-oF'),
    ('mount.nfs', 'nfs-common', 'NFS'),
    ('mount.cifs', 'cifs-utils', 'SMB'),
    ('mount.glusterfs', 'glusterfs-client', 'GlusterFS through FUSE'),
    ('rbd', 'ceph-common', 'RBD mapped by the kernel'),
    ('cryptsetup', 'cryptsetup-bin', 'volumes that the host decrypts'),
    ('lsscsi', 'lsscsi', 'Fibre Channel'),
    ('qemu-img', 'qemu-utils', 'looking into image files'),
)
_MODULES = (
    ('iscsi_tcp', 'iSCSI'),
    ('dm_multipath', 'multipath'),
    ('nvme_tcp', 'NVMe-oF over TCP'),
    ('rbd', 'RBD mapped by the kernel'),
    ('nfs', 'NFS'),
    ('cifs', 'SMB'),
)
_QEMU_DRIVERS = ('rbd', 'iscsi', 'gluster')


def tools(conf: typing.Any) -> Iterator[finding.Finding]:
    """Look for the programs."""
    for name, package, purpose in _TOOLS:
        reason = requirements.Tool(name, package).missing()
        yield _needed_for(f'tool {name}', reason, purpose)


def kernel_modules(conf: typing.Any) -> Iterator[finding.Finding]:
    """Look for modules that are loaded, or can be."""
    for name, purpose in _MODULES:
        reason = requirements.KernelModule(name).missing()
        yield _needed_for(f'module {name}', reason, purpose)


def qemu_drivers(conf: typing.Any) -> Iterator[finding.Finding]:
    """Look for the modules of QEMU's network block drivers."""
    # Even a driver that no QEMU has is not missed: this one is built without modules.
    if qemu_modules.why_no_block_driver('none') is None:
        yield finding.unknown(
            'QEMU block drivers', 'QEMU is not installed, or was built without modules'
        )
        return
    for name in _QEMU_DRIVERS:
        reason = qemu_modules.why_no_block_driver(name)
        yield _needed_for(f'QEMU driver {name}', reason, 'QEMU as a client of its own')


def udev(conf: typing.Any, *, path: str = _UDEV) -> Iterator[finding.Finding]:
    """Look whether udev listens; it gives devices the names that last."""
    advice = 'run "systemctl start systemd-udevd"; without it devices get no name that lasts'
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            yield finding.warning('udev', 'udev does not run', advice)
        except OSError as error:
            yield finding.unknown('udev', f'{path} cannot be asked: {error.strerror}')
        else:
            yield finding.ok('udev', 'runs')


def iscsid(conf: typing.Any, *, table: str = '/proc/net/unix') -> Iterator[finding.Finding]:
    """Look whether iscsid listens.  Connecting could start it, so nothing connects."""
    listening = _listening(table)
    if _ISCSID in listening:
        yield finding.ok('iscsid', 'runs')
    elif requirements.Tool('iscsiadm', 'open-iscsi').missing() is None:
        yield finding.warning(
            'iscsid',
            'iscsid does not run',
            'run "systemctl start iscsid" if there are iSCSI volumes',
        )


def multipath(
    conf: typing.Any, *, table: str = '/proc/net/unix', seconds: float = 3.0
) -> Iterator[finding.Finding]:
    """Look whether multipathd runs, answers, and is set as os-brick needs it."""
    wanted = bool(conf.volume_use_multipath or conf.iser_use_multipath)
    if f'@{multipathd.ADDRESS[1:]}' not in _listening(table):
        if wanted:
            yield finding.problem(
                'multipathd',
                'multipathd does not run, and multipath is configured',
                'run "systemctl start multipathd", or unset volume_use_multipath',
            )
        else:
            yield finding.ok('multipathd', 'does not run, and multipath is not configured')
        return
    try:
        config = multipathd.ask('show config', seconds=seconds)
    except OSError as error:
        yield (finding.problem if wanted else finding.warning)(
            'multipathd',
            f'multipathd does not answer: {error}',
            'run "systemctl restart multipathd"; its log is in "journalctl -u multipathd"',
        )
        return
    yield finding.ok('multipathd', 'runs and answers')
    yield from _multipath_settings(multipathd.defaults(config))


def _multipath_settings(settings: dict[str, str]) -> Iterator[finding.Finding]:
    advice = 'set {0} in section "defaults" of /etc/multipath.conf, then "multipathd reconfigure"'
    if not settings:
        yield finding.unknown('multipath settings', 'multipathd shows no section "defaults"')
        return
    find = settings.get('find_multipaths', 'strict')
    if find in ('no', 'off', 'greedy'):
        yield finding.warning(
            'find_multipaths',
            f'find_multipaths is {find}: multipathd also takes devices that have one path, and '
            'their removal fails',
            advice.format('"find_multipaths yes"'),
        )
    else:
        yield finding.ok('find_multipaths', f'is {find}')
    friendly = settings.get('user_friendly_names', 'no')
    if friendly in ('yes', '1'):
        yield finding.warning(
            'user_friendly_names',
            'user_friendly_names is yes: a name such as mpatha can mean another volume '
            'after a reboot',
            advice.format('"user_friendly_names no"'),
        )
    else:
        yield finding.ok('user_friendly_names', 'is no')


def _listening(table: str) -> frozenset[str]:
    """Return the names of the UNIX sockets that are open; abstract ones begin with @."""
    if not os.path.exists(table):
        return frozenset()
    with open(table, encoding='utf-8', errors='replace') as lines:
        return frozenset(line.split()[-1] for line in lines)


def _needed_for(name: str, reason: str | None, purpose: str) -> finding.Finding:
    if reason is None:
        return finding.ok(name, 'is there')
    what, _, advice = reason.partition('; ')
    return finding.warning(name, f'{what}, which {purpose} needs', advice)
