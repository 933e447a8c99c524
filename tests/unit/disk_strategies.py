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
"""Disks for hypothesis: any, and those that libvirt's schema takes."""

from hypothesis import strategies as st

from volumedrivers.libvirt import disk_source
from volumedrivers.libvirt import disk_tuning
from volumedrivers.libvirt.disk import Address
from volumedrivers.libvirt.disk import Auth
from volumedrivers.libvirt.disk import AuthSecret
from volumedrivers.libvirt.disk import BackingStore
from volumedrivers.libvirt.disk import BlockIO
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Driver
from volumedrivers.libvirt.disk import Encryption
from volumedrivers.libvirt.disk import EncryptionSecret
from volumedrivers.libvirt.disk import Format
from volumedrivers.libvirt.disk import Geometry
from volumedrivers.libvirt.disk import Host
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.disk import MetadataCache
from volumedrivers.libvirt.disk import Reservations
from volumedrivers.libvirt.disk import Slice
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target
from volumedrivers.libvirt.target_names import name_of
from volumedrivers.libvirt.xml_document import Child
from volumedrivers.libvirt.xml_document import Children
from volumedrivers.libvirt.xml_document import Integer
from volumedrivers.libvirt.xml_document import String

# What XML 1.0 can hold, the metacharacters first.
any_text = st.text(
    st.sampled_from('<>&"\'\t\n\r ]')
    | st.characters(
        codec='utf-8', exclude_categories=('Cs', 'Cc'), exclude_characters='\ufffe\uffff'
    ),
    max_size=8,
)


def _value(field, depth):
    if isinstance(field, String):
        return st.sampled_from(field.choices) if field.choices else any_text
    if isinstance(field, Integer):
        numbers = st.integers(field.minimum, field.maximum or 2**64)
        return numbers | numbers.map(str)
    if isinstance(field, Child):
        return any_document(field.kind, depth - 1)
    if isinstance(field, Children):
        return st.lists(any_document(field.kind, depth - 1), max_size=2)
    return st.booleans()


def any_document(kind, depth=3):
    """Documents with any field set to anything its type allows."""
    fields = {
        name: field
        for name, field in kind.FIELDS.items()
        if depth > 0 or not isinstance(field, Child | Children)
    }

    @st.composite
    def made(draw):
        names = draw(st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=6))
        return kind(**{name: draw(_value(fields[name], depth)) for name in names})

    return made() if fields else st.builds(kind)


def _maybe(strategy):
    return st.none() | strategy


def _words(alphabet, most=12):
    return st.text(alphabet, min_size=1, max_size=most)


_switch = st.none() | st.booleans()
_size = st.integers(0, 2**63)
_positive = st.integers(1, 2**31)
_letters = 'abcdefghijklmnopqrstuvwxyz0123456789'
_name = _words(_letters + 'ABC_+-')
_host_name = _words(_letters + '.-') | st.ip_addresses().map(str)
_path = st.text(
    st.characters(
        codec='utf-8',
        exclude_categories=('Cs', 'Cc', 'Zl', 'Zp'),
        exclude_characters='\ufffe\uffff',
    ),
    min_size=1,
    max_size=20,
).map('/'.__add__)
_uuid = st.uuids().map(str)


def _secret(kind, types, usage):
    of_uuid = st.builds(kind, type=types, uuid=_uuid)
    return of_uuid | st.builds(kind, type=types, usage=usage)


_auth = st.builds(
    Auth, username=_name, secret=_secret(AuthSecret, st.sampled_from(('ceph', 'iscsi')), _name)
)
_encryption = st.builds(
    Encryption,
    format=st.sampled_from(('luks', 'luks2')),
    engine=_maybe(st.sampled_from(('qemu', 'librbd'))),
    secrets=_secret(EncryptionSecret, st.just('passphrase'), _path).map(lambda one: [one]),
) | st.builds(
    Encryption,
    format=st.just('luks'),
    secrets=_secret(EncryptionSecret, st.just('passphrase'), _path).map(lambda one: [one]),
    cipher=st.builds(
        disk_source.Cipher,
        name=_name,
        size=_positive,
        mode=st.just('xts'),
        hash=st.just('sha256'),
    ),
    ivgen=st.builds(disk_source.InitialVector, name=_name, hash=_maybe(_name)),
)
_hosts = st.builds(
    Host,
    name=_host_name,
    port=_maybe(st.integers(0, 65535)),
    transport=st.sampled_from((None, 'tcp', 'rdma')),
)
_sockets = st.builds(Host, transport=st.just('unix'), socket=_path)
_host = _hosts | _sockets
_cache = _maybe(
    st.builds(
        MetadataCache,
        max_size=_maybe(
            st.builds(
                disk_tuning.MaxSize, unit=st.sampled_from((None, 'bytes', 'KiB')), value=_positive
            )
        ),
    )
)
_slices = st.lists(
    st.builds(Slice, type=st.just('storage'), offset=st.integers(0, 2**31), size=_positive),
    max_size=1,
)
_startup = st.sampled_from((None, 'mandatory', 'requisite', 'optional'))
_reservations = _maybe(
    st.builds(Reservations, managed=st.just(True))
    | st.builds(
        Reservations,
        managed=st.just(False),
        source=st.builds(
            disk_source.ReservationsSource,
            type=st.just('unix'),
            path=_path,
            mode=st.just('client'),
        ),
    )
)
_labels = st.lists(
    st.builds(disk_source.SecurityLabel, model=_maybe(st.just('dac')), relabel=st.just(False))
    | st.builds(disk_source.SecurityLabel, relabel=st.just(True), label=_name),
    max_size=2,
)

_common = {'index': _maybe(_positive), 'slices': _slices}
_local = {**_common, 'startup_policy': _startup, 'encryption': _maybe(_encryption)}
_sources = {
    'block': st.builds(
        Source, dev=_maybe(_path), reservations=_reservations, seclabels=_labels, **_local
    ),
    'file': st.builds(Source, file=_maybe(_path), seclabels=_labels, **_local),
    'dir': st.builds(Source, dir=_path, **_local),
    'volume': st.builds(
        Source, pool=_name, volume=_name, mode=st.sampled_from((None, 'host', 'direct')), **_local
    ),
    'nvme': st.builds(
        Source,
        type=st.just('pci'),
        namespace=_positive,
        managed=_switch,
        address=st.builds(
            Address,
            domain=st.just(0),
            bus=st.integers(0, 255),
            slot=st.integers(0, 31),
            function=st.integers(0, 7),
        ),
        **_local,
    ),
    'vhostuser': st.builds(
        lambda path, timeout: Source(
            type='unix',
            path=path,
            reconnect_timeout=timeout,
            reconnect_enabled=None if timeout is None else True,
        ),
        _path,
        _maybe(st.integers(0, 1000)),
    ),
    'network': st.builds(
        Source,
        protocol=st.just('rbd'),
        name=_maybe(any_text),
        hosts=st.lists(_host, max_size=3),
        snapshot=_maybe(_name),
        config=_maybe(_path),
        auth=_maybe(_auth),
        encryption=_maybe(_encryption),
        **_common,
    )
    | st.builds(
        Source,
        protocol=st.just('iscsi'),
        name=any_text,
        hosts=_host.map(lambda one: [one]),
        auth=_maybe(_auth),
        encryption=_maybe(_encryption),
        initiator_iqn=_maybe(any_text),
        **_common,
    )
    | st.builds(
        Source,
        protocol=st.just('nbd'),
        name=_maybe(any_text),
        tls=_switch,
        tls_hostname=_maybe(any_text),
        hosts=_host.map(lambda one: [one]),
        encryption=_maybe(_encryption),
        **_common,
    )
    | st.builds(
        Source,
        protocol=st.just('gluster'),
        name=any_text,
        hosts=st.lists(_host, min_size=1, max_size=3),
        **_common,
    )
    | st.builds(
        Source,
        protocol=st.just('https'),
        name=any_text,
        query=_maybe(any_text),
        hosts=_host.map(lambda one: [one]),
        ssl_verify=_switch,
        cookies=st.lists(
            st.builds(disk_source.Cookie, name=_words(_letters), value=_words(_letters)),
            max_size=2,
        ),
        readahead=_maybe(_positive),
        timeout=_maybe(_positive),
        **_common,
    ),
}
_formats = st.sampled_from(('raw', 'qcow2', 'qed', 'vmdk', 'vpc', 'luks'))


@st.composite
def _backing_store(draw, depth=2):
    if draw(st.booleans()) or not depth:
        return BackingStore()
    kind = draw(st.sampled_from(('block', 'file', 'network')))
    return BackingStore(
        type=kind,
        index=draw(_maybe(_positive)),
        source=draw(_sources[kind]),
        format=Format(type=draw(_formats), metadata_cache=draw(_cache)),
        backing_store=draw(_backing_store(depth - 1)),
    )


@st.composite
def _iotune(draw):
    limits = {}
    for ending in ('', '_max', '_max_length'):
        for unit in ('bytes', 'iops'):
            # A total excludes limits of its parts.
            kinds = draw(
                st.sampled_from(((), ('total',), ('read',), ('write',), ('read', 'write')))
            )
            limits.update({f'{kind}_{unit}_sec{ending}': draw(_size) for kind in kinds})
    return IOTune(size_iops_sec=draw(_maybe(_size)), group_name=draw(_maybe(any_text)), **limits)


def _choice(kind, name):
    return st.sampled_from((None, *kind.FIELDS[name].choices))


_driver_values = {
    'name': st.just('qemu'),
    'type': _formats,
    'metadata_cache': _cache,
    'queues': _positive,
    'queue_size': _positive,
    'iothread': _positive,
    **{
        name: st.sampled_from(Driver.FIELDS[name].choices)
        for name in ('cache', 'io', 'discard', 'detect_zeroes', 'error_policy', 'rerror_policy')
    },
    **dict.fromkeys(
        ('copy_on_read', 'event_idx', 'ioeventfd', 'packed', 'iommu', 'ats', 'page_per_vq'),
        st.booleans(),
    ),
}


@st.composite
def _driver(draw):
    # libxml2 needs four times as long for each optional attribute more.
    names = draw(st.lists(st.sampled_from(sorted(_driver_values)), unique=True, max_size=8))
    return Driver(**{name: draw(_driver_values[name]) for name in names})


_target = st.builds(
    lambda bus, index, **rest: Target(dev=name_of(bus, index), bus=bus, **rest),
    st.sampled_from(('virtio', 'scsi', 'sata', 'usb', 'ide', 'fdc', 'xen')),
    st.integers(0, 1000),
    tray=_choice(Target, 'tray'),
    removable=_switch,
    rotation_rate=_maybe(st.integers(1, 65534)),
)
_drive = st.integers(0, 99)
_address = (
    st.builds(
        Address,
        type=st.just('drive'),
        controller=_maybe(_drive),
        bus=_maybe(_drive),
        target=_maybe(_drive),
        unit=_maybe(st.integers(0, 16383)),
    )
    | st.builds(
        Address,
        type=st.just('pci'),
        domain=st.just('0x0000'),
        bus=st.just('0x00'),
        slot=st.just('0x1f'),
        function=st.just('0x7'),
        multifunction=_switch,
    )
    | st.builds(Address, type=st.just('virtio-mmio'))
)


def _printable(most):
    return st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=most)


@st.composite
def valid_disk(draw):
    """Disks that libvirt's schema takes."""
    device = draw(st.sampled_from((None, 'disk', 'cdrom', 'floppy', 'lun')))
    lun = device == 'lun'
    kind = draw(st.sampled_from(('block', 'network', 'volume') if lun else sorted(_sources)))
    transient = draw(st.booleans())
    return Disk(
        type=kind,
        device=device,
        model=draw(_choice(Disk, 'model')),
        snapshot=draw(_choice(Disk, 'snapshot')),
        rawio=draw(_switch) if lun else None,
        sgio=draw(_choice(Disk, 'sgio')) if lun else None,
        driver=draw(_maybe(_driver())),
        source=draw(_sources[kind]),
        target=draw(_target),
        auth=draw(_maybe(_auth)),
        encryption=draw(_maybe(_encryption)),
        iotune=draw(_maybe(_iotune())),
        blockio=draw(
            _maybe(
                st.builds(
                    BlockIO, logical_block_size=_maybe(_size), physical_block_size=_maybe(_size)
                )
            )
        ),
        geometry=draw(
            _maybe(
                st.builds(
                    Geometry,
                    cyls=_positive,
                    heads=_positive,
                    secs=_positive,
                    trans=_choice(Geometry, 'trans'),
                )
            )
        ),
        backing_store=draw(_maybe(_backing_store())),
        readonly=draw(st.booleans()),
        shareable=draw(st.booleans()),
        transient=transient,
        share_backing=draw(_switch) if transient else None,
        serial=draw(_maybe(_words(_letters + 'ABC_.+- '))),
        wwn=draw(_maybe(st.integers(0, 2**64 - 1).map('{:016x}'.format))),
        vendor=draw(_maybe(_printable(8))),
        product=draw(_maybe(_printable(16))),
        boot_order=draw(_maybe(_positive)),
        alias=draw(_maybe(_words(_letters + '-_.'))),
        address=draw(_maybe(_address)),
    )
