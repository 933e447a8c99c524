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

"""Which keys of connection_info['data'] each protocol has.

One function a protocol, one line a key.  The keys are what Cinder's drivers
send and os-brick's connectors read; those that this package has no use for
are named with ``known``, so that they do not count as unknown.
"""

from collections.abc import Callable
from collections.abc import Mapping
import typing

from volumedrivers import connection_values as values
from volumedrivers import exception
from volumedrivers import mount_options
from volumedrivers.connection_values import Keys
from volumedrivers.protocol_data import Chap
from volumedrivers.protocol_data import FibreChannelData
from volumedrivers.protocol_data import FrozenMapping
from volumedrivers.protocol_data import HuaweiSdsData
from volumedrivers.protocol_data import IscsiData
from volumedrivers.protocol_data import IscsiTarget
from volumedrivers.protocol_data import LightOSData
from volumedrivers.protocol_data import LocalData
from volumedrivers.protocol_data import Monitor
from volumedrivers.protocol_data import NvmeData
from volumedrivers.protocol_data import NvmePortal
from volumedrivers.protocol_data import NvmeTarget
from volumedrivers.protocol_data import Portal
from volumedrivers.protocol_data import ProtocolData
from volumedrivers.protocol_data import RbdData
from volumedrivers.protocol_data import ScaleIOData
from volumedrivers.protocol_data import ShareData
from volumedrivers.protocol_data import StorPoolData
from volumedrivers.secret_names import url_passwords

T = typing.TypeVar('T')


def iscsi(keys: Keys) -> IscsiData:
    """One target of iSCSI or iSER, or lists of them, which win."""
    portal = keys.optional('target_portal', values.portal)
    iqn = keys.optional('target_iqn', values.target_name)
    lun = keys.optional('target_lun', values.lun)
    portals = keys.optional('target_portals', values.list_of(values.portal))
    iqns = keys.optional('target_iqns', values.list_of(values.target_name))
    luns = keys.optional('target_luns', values.list_of(values.lun))
    keys.known('target_discovered', 'addressing_mode')
    _same_length(keys, target_portals=portals, target_iqns=iqns, target_luns=luns)
    if portals is None or iqns is None:
        portals = (_given(keys, 'target_portal', portal, 'host:port'),)
        iqns = (_given(keys, 'target_iqn', iqn, 'the name of an iSCSI target'),)
        luns = None
    if luns is None:
        luns = (_given(keys, 'target_lun', lun, 'a LUN'),) * len(portals)
    return IscsiData(
        targets=tuple(IscsiTarget(*target) for target in zip(portals, iqns, luns, strict=True)),
        auth=_chap(keys, ''),
        discovery_auth=_chap(keys, 'discovery_'),
    )


def _chap(keys: Keys, prefix: str) -> Chap | None:
    # os-brick looks at the other two only when there is a method.
    if keys.optional(f'{prefix}auth_method', values.text) is None:
        keys.known(f'{prefix}auth_username', f'{prefix}auth_password')
        return None
    return Chap(
        keys.required(f'{prefix}auth_username', values.text),
        keys.required(f'{prefix}auth_password', values.secret),
    )


def fibre_channel(keys: Keys) -> FibreChannelData:
    """Fibre Channel: one WWN or a list of them, one LUN or one each."""
    wwpns = keys.optional('target_wwns', values.list_of(values.wwn))
    single = keys.optional('target_wwn', values.one_or_list_of(values.wwn))
    luns = keys.optional('target_luns', values.list_of(values.lun))
    lun = keys.optional('target_lun', values.number)
    targets = keys.optional(
        'initiator_target_map', values.mapping_of(values.list_of(values.wwn, empty=True))
    )
    keys.known(
        'target_discovered', 'addressing_mode', 'enable_wildcard_scan', 'initiator_target_lun_map'
    )
    wwpns = wwpns or _given(keys, 'target_wwn', single, 'a WWN, or a list of them')
    luns = luns or (_given(keys, 'target_lun', lun, 'a LUN'),)
    if len(luns) == 1:
        luns *= len(wwpns)
    if len(luns) != len(wwpns):
        raise keys.refuse('target_luns', f'one item, or as many as WWNs: {len(wwpns)}')
    for initiator in targets or ():
        try:
            values.wwn(initiator)
        except values.Unfit as unfit:
            raise keys.refuse('initiator_target_map', f'{unfit.expected} as key') from None
    return FibreChannelData(
        wwpns,
        luns,
        FrozenMapping(
            {values.wwn(initiator): ports for initiator, ports in (targets or {}).items()}
        ),
    )


def nvmeof(keys: Keys) -> NvmeData:
    """NVMe over fabrics: os-brick's new form, its form with replicas, or the old one."""
    if 'volume_replicas' in keys:
        return _nvme_replicas(keys)
    if 'target_nqn' in keys:
        target = _nvme_target(keys)
        keys.known('replica_count')
    else:
        portal = _portal(keys, keys.required('transport_type', values.transport))
        target = NvmeTarget(
            keys.required('nqn', values.nqn),
            (portal,),
            nguid=keys.optional('volume_nguid', values.uuid_text),
            ns_id=keys.optional('ns_id', values.count),
        )
    return NvmeData(
        (target,),
        alias=keys.optional('alias', values.file_name),
        host_nqn=keys.optional('host_nqn', values.nqn),
    )


def _nvme_replicas(keys: Keys) -> NvmeData:
    replicas = keys.required('volume_replicas', values.list_of(_mapping))
    targets = tuple(
        _nvme_target(Keys(keys.driver_volume_type, replica, f'data.volume_replicas[{index}]'))
        for index, replica in enumerate(replicas)
    )
    keys.required('vol_uuid', values.uuid_text)
    # os-brick reads the key, but counts for itself when it is empty.
    count = keys.required('replica_count', _count_or_none) or len(targets)
    if count != len(targets):
        raise keys.refuse('replica_count', f'the number of volume_replicas: {len(targets)}')
    # The name of the RAID device.
    alias = (keys.required if count > 1 else keys.optional)('alias', values.file_name)
    return NvmeData(targets, count, alias, keys.optional('host_nqn', values.nqn))


def _nvme_target(keys: Keys) -> NvmeTarget:
    keys.known('host_nqn')
    return NvmeTarget(
        nqn=keys.required('target_nqn', values.nqn),
        portals=keys.required('portals', values.list_of(values.nvme_portal)),
        vol_uuid=keys.optional('vol_uuid', values.uuid_text),
        nguid=keys.optional('volume_nguid', values.uuid_text),
        ns_id=keys.optional('ns_id', values.count),
    )


def _portal(keys: Keys, transport: str) -> NvmePortal:
    if transport == 'fc':
        return NvmePortal(
            Portal(
                keys.required('target_portal', values.fc_address),
                keys.required('target_port', values.fc_port),
            ),
            transport,
        )
    return NvmePortal(
        Portal(
            keys.required('target_portal', values.host), keys.required('target_port', values.port)
        ),
        transport,
    )


def lightos(keys: Keys) -> LightOSData:
    """Lightbits: the discovery client connects to the nodes."""
    nodes = keys.required('lightos_nodes', values.mapping_of(_mapping))
    if not nodes:
        raise keys.refuse('lightos_nodes', 'at least one node')
    portals = []
    for address, node in nodes.items():
        of_node = Keys(
            keys.driver_volume_type, node, f'data.lightos_nodes[{values.shorten(address)}]'
        )
        portals.append(_portal(of_node, of_node.required('transport_type', values.transport)))
    keys.known('nsid')
    return LightOSData(
        subsystem_nqn=keys.required('subsysnqn', values.nqn),
        uuid=keys.required('uuid', values.uuid_text),
        portals=tuple(portals),
    )


def scaleio(keys: Keys) -> ScaleIOData:
    """PowerFlex, by the SDC of this host."""
    keys.optional('serverPort', values.port)
    keys.optional('iopsLimit', values.count)
    keys.optional('bandwidthLimit', values.count)
    if keys.optional('serverPassword', values.secret) is not None:
        keys.optional('serverToken', values.secret)
    keys.known(
        'hostIP',
        'serverIP',
        'serverUsername',
        'serverToken',
        'config_group',
        'failed_over',
        'verify_certificate',
        'certificate_path',
        'sdc_guid',
    )
    return ScaleIOData(
        volume_name=keys.required('scaleIO_volname', values.text),
        scaleio_volume_id=keys.optional('scaleIO_volume_id', values.file_name),
    )


def storpool(keys: Keys) -> StorPoolData:
    """StorPool; data.access_mode is needed too, which os-brick sees to."""
    keys.known('real_size')
    return StorPoolData(
        volume=keys.required('volume', values.file_name),
        client_id=keys.required('client_id', values.count),
    )


def huaweisdshypervisor(keys: Keys) -> HuaweiSdsData:
    """Huawei FusionStorage, by its command line client."""
    return HuaweiSdsData(volume_id=keys.required('volume_id', values.word))


def local(keys: Keys) -> LocalData:
    """A path on this host; also for a file in GPFS."""
    keys.known('name', 'type')
    return LocalData(device_path=keys.required('device_path', values.absolute_path))


def share(keys: Keys) -> ShareData:
    """A file on a share."""
    options = keys.optional('options', mount_options.split_options) or mount_options.Options()
    keys.known('mount_point_base')
    if keys.optional('sofs_path', values.text) is not None:
        _share_file(keys, 'sofs_path')
    return ShareData(
        export=keys.required('export', _export),
        name=_share_file(keys, 'name'),
        format=keys.optional('format', values.image_format),
        options=options.public,
        secret_options=options.secret_options(),
    )


def vzstorage(keys: Keys) -> ShareData:
    """A file in a Virtuozzo cluster; the password of the cluster is in its export."""
    export, password = keys.required('export', mount_options.split_cluster)
    options = keys.optional('options', mount_options.split_words) or mount_options.Options()
    return ShareData(
        export=export,
        name=_share_file(keys, 'name'),
        format=keys.optional('format', values.image_format),
        options=options.public,
        secret_options=options.secret_options(),
        password=password,
    )


def _export(value: object) -> str:
    export = values.text(value)
    # Some drivers hand on what comes after a scheme.
    if export.rpartition('://')[2].startswith('-'):
        raise values.Unfit('a share, which does not begin with "-"')
    if url_passwords(export.replace('\\', '/')):
        # It would be in the mount table, which everybody reads.
        raise values.Unfit('a share without a password in it', conceal=True)
    return export


def _share_file(keys: Keys, key: str) -> str:
    name = keys.required(key, values.text)
    if name.startswith('/') or '..' in name.split('/'):
        raise exception.PathOutsideShare(name=name, mount_point='the share', resolved=name)
    if name.endswith('/') or name.split('/')[-1] == '.':
        raise keys.refuse(key, 'the name of a file')
    return name


def rbd(keys: Keys) -> RbdData:
    """Ceph: pool/image or pool/namespace/image, and where its monitors are."""
    pool, *namespace, image = keys.required('name', _rbd_name)
    hosts = keys.optional('hosts', values.list_of(values.monitor_host, empty=True)) or ()
    ports = keys.optional('ports', values.list_of(_port_or_none, empty=True)) or ()
    _same_length(keys, hosts=hosts, ports=ports)
    auth_enabled = keys.optional('auth_enabled', values.boolean) or False
    if auth_enabled:
        # Each may be None: then the host's own user and secret are meant.
        for key in ('auth_username', 'secret_type', 'secret_uuid'):
            if key not in keys:
                raise keys.refuse(key, 'a string or None, since auth_enabled is true')
    keys.known('do_local_attach')
    return RbdData(
        pool=pool,
        namespace=namespace[0] if namespace else None,
        image=image,
        monitors=tuple(Monitor(*monitor) for monitor in zip(hosts, ports, strict=True)),
        auth_enabled=auth_enabled,
        auth_username=keys.optional('auth_username', values.text),
        secret_uuid=keys.optional('secret_uuid', values.uuid_or_empty),
        secret_type=keys.optional('secret_type', values.text),
        cluster_name=keys.optional('cluster_name', values.file_name),
        keyring=keys.optional('keyring', values.secret_text),
    )


def _rbd_name(value: object) -> list[str]:
    parts = value.split('/') if isinstance(value, str) else []
    if (
        len(parts) not in (2, 3)
        or not all(parts)
        or not values.is_printable(str(value))
        or str(value).startswith('-')
    ):
        raise values.Unfit('pool/image or pool/namespace/image')
    return parts


def _port_or_none(value: object) -> int | None:
    return None if value is None else values.port(value)


def _count_or_none(value: object) -> int | None:
    return None if value is None else values.count(value)


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise values.Unfit('a mapping')
    return value


def _given(keys: Keys, key: str, value: T | None, expected: str) -> T:
    if value is None:
        raise keys.refuse(key, expected)
    return value


def _same_length(keys: Keys, **lists: tuple[object, ...] | None) -> None:
    given = {key: items for key, items in lists.items() if items is not None}
    for first in list(given)[:1]:
        for key, items in given.items():
            if len(items) != len(given[first]):
                raise keys.refuse(key, f'as many items as {first} has: {len(given[first])}')


SCHEMAS: typing.Final[Mapping[str, Callable[[Keys], ProtocolData]]] = {
    'iscsi': iscsi,
    'iser': iscsi,
    'fibre_channel': fibre_channel,
    'nvmeof': nvmeof,
    'nvme': nvmeof,
    'lightos': lightos,
    'scaleio': scaleio,
    'storpool': storpool,
    'huaweisdshypervisor': huaweisdshypervisor,
    'local': local,
    'gpfs': local,
    'nfs': share,
    'smbfs': share,
    'glusterfs': share,
    'quobyte': share,
    'scality': share,
    'vzstorage': vzstorage,
    'rbd': rbd,
}
