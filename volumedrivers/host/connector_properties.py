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

"""What Cinder is told about this host, and whether that has changed.

The keys and values are those of os-brick's get_connector_properties, which is
not called as a whole: it asks LightOS's discovery client over HTTP without a
deadline, it creates /etc/nvme/hostnqn and /etc/nvme/hostid, and it repeats
whatever it is told about multipath.  So its connector classes are asked one
by one, and those three things are done here.
"""

from collections.abc import Mapping
import http.client
import ipaddress
import logging
import os
import platform
import shutil
import socket
import sys
import typing

from oslo_config import cfg
import psutil

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.host import bootstrap
from volumedrivers.host import deadline

LOG = logging.getLogger(__name__)

HOST_NQN = '/etc/nvme/hostnqn'
HOST_ID = '/etc/nvme/hostid'

# Seconds for one connector class; it runs a few commands.
_COLLECT_TIMEOUT = 60.0
_DISCOVERY_TIMEOUT = 3.0
# Addresses for documentation; nothing is sent to them.
_NOWHERE = ((socket.AF_INET, '192.0.2.1'), (socket.AF_INET6, '2001:db8::1'))

_SCSI = ('iscsi', 'iser', 'fibre_channel')
_NVME = ('nvmeof', 'nvme', 'lightos')
EVERY = '*'
# For which driver_volume_type a key decides whether Cinder's export fits.
_MATTERS: Mapping[str, tuple[str, ...]] = {
    'host': (EVERY,),
    'ip': (EVERY,),
    'initiator': ('iscsi', 'iser'),
    'wwpns': ('fibre_channel',),
    'wwnns': ('fibre_channel',),
    'nqn': _NVME,
    'nvme_hostid': _NVME,
    'nvme_native_multipath': ('nvmeof', 'nvme'),
    'uuid': ('nvmeof', 'nvme'),
    'system uuid': ('nvmeof', 'nvme'),
    'found_dsc': ('lightos',),
    'host_ips': ('lightos',),
    'sdc_guid': ('scaleio',),
    'do_local_attach': ('rbd',),
    'multipath': (*_SCSI, 'nvmeof', 'nvme'),
    'enforce_multipath': (*_SCSI, 'nvmeof', 'nvme'),
    'platform': (),
    'os_type': (),
}


class Difference(typing.NamedTuple):
    """A property that is not what it was.

    :ivar old: None: there was none
    :ivar new: None: there is none now
    :ivar protocols: the driver_volume_types whose attachments depend on it;
        ``*`` for all, empty for information only
    """

    key: str
    old: object
    new: object
    protocols: tuple[str, ...]

    def matters_for(self, driver_volume_type: str) -> bool:
        """Tell whether Cinder's export for such a volume may no longer fit."""
        return EVERY in self.protocols or driver_volume_type in self.protocols


def get_connector_properties(
    conf: cfg.ConfigOpts, *, write_host_files: bool = False
) -> dict[str, object]:
    """Collect what Cinder is told about this host; there is no secret in it.

    ``multipath`` is true only if the option asks for it and multipathd
    answers, so that Cinder names as many paths as are used.

    :param conf: given to :func:`volumedrivers.host.bootstrap.setup` before
    :param write_host_files: let os-brick create /etc/nvme/hostnqn and
        /etc/nvme/hostid where they are missing.  Without it, and without the
        files, the properties have no ``nqn``, and NVMe-oF and LightOS volumes
        cannot be attached; see :func:`missing_host_files`
    :returns: JSON-able
    :raises MultipathNotRunning: the option demands multipath
    :raises PrivilegedCallRefused: what is for root only cannot be read
    :raises DeadlineExceeded: os-brick hangs
    """
    connector = bootstrap.load_os_brick()
    group = conf[opts.GROUP.name]
    use_multipath = group.volume_use_multipath and _multipath_runs(conf)
    if group.volume_use_multipath and not use_multipath:
        if group.volume_enforce_multipath:
            raise exception.MultipathNotRunning()
        LOG.warning('volume_use_multipath is set and multipathd does not answer: one path only')
    missing = () if write_host_files else missing_host_files()
    properties: dict[str, object] = {
        'platform': platform.machine(),
        'os_type': sys.platform,
        'ip': block_storage_ip(conf),
        'host': group.host or socket.gethostname(),
    }
    for path in connector._get_connector_list():
        name = path.rpartition('.')[2]
        kind = getattr(connector, name)
        if kind.platform not in ('ALL', properties['platform']):
            continue
        if name == 'LightOSConnector':
            if HOST_NQN not in missing:
                properties |= _lightos(kind)
        elif name == 'NVMeOFConnector' and missing:
            LOG.warning(
                '%s missing: nothing about NVMe is told to Cinder; "nvme gen-hostnqn" makes '
                'one, or allow it to be written',
                ' and '.join(missing),
            )
        else:
            properties |= _ask(
                kind,
                conf,
                multipath=use_multipath,
                enforce_multipath=group.volume_enforce_multipath,
            )
    if group.iscsi_client == 'qemu' and group.iscsi_initiator_name:
        # The name QEMU's initiator shows, and storage has to let in.
        properties['initiator'] = group.iscsi_initiator_name
    return properties


def missing_host_files() -> tuple[str, ...]:
    """Return the files of this host's NVMe identity that os-brick would write."""
    needed = [HOST_NQN]
    if shutil.which('nvme'):
        needed.append(HOST_ID)
    return tuple(name for name in needed if not os.access(name, os.R_OK))


def block_storage_ip(conf: cfg.ConfigOpts) -> str:
    """Return the address Cinder is told, from the option or the default route.

    No packet is sent and no name is looked up: a UDP socket only asks the
    kernel for the route.

    :raises InvalidOption: my_block_storage_ip is no address
    """
    configured = conf[opts.GROUP.name].my_block_storage_ip
    if configured:
        try:
            return str(ipaddress.ip_address(configured.strip('[]')))
        except ValueError as error:
            raise exception.InvalidOption(
                option='[volumedrivers]my_block_storage_ip',
                found=repr(configured),
                expected='an IPv4 or IPv6 address',
            ) from error
    for family, nowhere in _NOWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as asked:
                asked.connect((nowhere, 9))
                return str(asked.getsockname()[0])
        except OSError:
            # No route of that family.
            continue
    found = sorted(_addresses(), key=lambda address: (address.version, address))
    if found:
        return str(found[0])
    LOG.warning('this host has no address but loopback; set my_block_storage_ip')
    return '127.0.0.1'


def compare(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[Difference, ...]:
    """Compare with what an attachment was made with.

    Lists are compared as sets, and WWNs and names without regard to case.
    Keys that only the other side knows (Nova adds ``mountpoint``, for one) do
    not count unless they are os-brick's.

    :param old: the connector that Cinder was given then
    :param new: what get_connector_properties returns now
    """
    differences = []
    for key in sorted({*old, *new}):
        if key not in _MATTERS and not (key in old and key in new):
            continue
        if _comparable(old.get(key)) != _comparable(new.get(key)):
            protocols = _MATTERS.get(key, (EVERY,))
            differences.append(Difference(key, old.get(key), new.get(key), protocols))
    return tuple(differences)


def _comparable(value: object) -> object:
    if isinstance(value, str):
        return value.casefold()
    if isinstance(value, (list, tuple)):
        return frozenset(str(item).casefold() for item in value)
    return value


def _addresses() -> typing.Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    for interface in psutil.net_if_addrs().values():
        for entry in interface:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(entry.address.partition('%')[0])
                if not (address.is_loopback or address.is_link_local):
                    yield address


def _multipath_runs(conf: cfg.ConfigOpts) -> bool:
    from os_brick.initiator import linuxscsi  # noqa: PLC0415 - after load_os_brick

    helper = bootstrap.root_helper(conf)
    running = _bounded('multipathd', lambda: linuxscsi.LinuxSCSI.is_multipath_running(helper))
    return bool(running)


def _ask(
    kind: typing.Any, conf: cfg.ConfigOpts, *, multipath: bool, enforce_multipath: bool
) -> dict[str, object]:
    def ask() -> dict[str, object]:
        found: dict[str, object] = kind.get_connector_properties(
            bootstrap.root_helper(conf),
            host=conf[opts.GROUP.name].host,
            multipath=multipath,
            enforce_multipath=enforce_multipath,
            execute=None,
        )
        return found

    found: dict[str, object] = _bounded(kind.__name__, ask)
    return found


def _bounded(name: str, ask: typing.Callable[[], typing.Any]) -> typing.Any:
    """Call os-brick with a deadline, and make its errors ours."""
    try:
        return deadline.call(ask, what=f'os-brick ({name})', seconds=_COLLECT_TIMEOUT)
    except exception.VolumeDriversError:
        raise
    except Exception as error:
        raise exception.PrivilegedCallRefused(
            function=f'{name}.get_connector_properties', reason=f'{type(error).__name__}: {error}'
        ) from error


def _lightos(kind: typing.Any) -> dict[str, object]:
    """Return what os-brick's LightOS connector tells, asking with a deadline."""
    try:
        with open(HOST_NQN, encoding='utf-8') as file:
            nqn = file.read().strip()
    except OSError:
        return {}
    if not nqn:
        return {}
    return {'nqn': nqn, 'found_dsc': _discovery_client(), 'host_ips': kind.get_ip_addresses()}


def _discovery_client() -> str:
    """Ask LightOS's discovery client, on this host as a rule, if it is there."""
    brick = cfg.CONF.os_brick
    address, port = brick.lightos_discovery_client_address, brick.lightos_discovery_client_port

    def ask() -> str:
        client = http.client.HTTPConnection(address, port, timeout=_DISCOVERY_TIMEOUT)
        try:
            client.request('HEAD', '/metrics')
            return 'found' if client.getresponse().status == http.client.OK else ''
        except (OSError, http.client.HTTPException):
            return ''
        finally:
            client.close()

    try:
        # One deadline for all steps, the look-up of the name too.
        return deadline.call(ask, what='LightOS discovery client', seconds=_DISCOVERY_TIMEOUT)
    except exception.DeadlineExceeded:
        LOG.warning('the LightOS discovery client at %s:%s does not answer', address, port)
        return ''
