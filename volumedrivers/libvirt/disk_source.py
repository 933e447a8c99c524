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
"""The parts of a disk that say where its data is.

Format: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
"""

from volumedrivers.libvirt.disk_address import Address
from volumedrivers.libvirt.xml_document import Child
from volumedrivers.libvirt.xml_document import Children
from volumedrivers.libvirt.xml_document import Document
from volumedrivers.libvirt.xml_document import Integer
from volumedrivers.libvirt.xml_document import String
from volumedrivers.libvirt.xml_document import YesNo


class AuthSecret(Document):
    """The libvirt secret a network source logs in with; one of uuid and usage."""

    TAG = 'secret'
    type = String('@type', choices=('ceph', 'iscsi'))
    uuid = String('@uuid')
    usage = String('@usage')


class Auth(Document):
    """Who logs in to a network source."""

    TAG = 'auth'
    username = String('@username')
    secret = Child('secret', lambda: AuthSecret)


class EncryptionSecret(Document):
    """The libvirt secret with the passphrase; one of uuid and usage."""

    TAG = 'secret'
    type = String('@type', choices=('passphrase',))
    uuid = String('@uuid')
    usage = String('@usage')


class Cipher(Document):
    """Cipher of a volume that libvirt formats; size in bits."""

    TAG = 'cipher'
    name = String('@name')
    size = Integer('@size')
    mode = String('@mode')
    hash = String('@hash')


class InitialVector(Document):
    """How the cipher's initial vectors are made."""

    TAG = 'ivgen'
    name = String('@name')
    hash = String('@hash')


class Encryption(Document):
    """A format that QEMU, or librbd for it, decrypts.

    luks2 and luks-any (the latter since libvirt 9.3) need engine librbd.
    Several secrets, for an RBD clone whose parents are encrypted: libvirt 9.3.
    """

    TAG = 'encryption'
    format = String('@format', choices=('default', 'qcow', 'luks', 'luks2', 'luks-any'))
    engine = String('@engine', choices=('qemu', 'librbd'))
    secrets = Children('secret', lambda: EncryptionSecret)
    cipher = Child('cipher', lambda: Cipher)
    ivgen = Child('ivgen', lambda: InitialVector)


class Host(Document):
    """One server of a network source."""

    TAG = 'host'
    transport = String('@transport', choices=('tcp', 'rdma', 'unix'))
    name = String('@name')
    port = Integer('@port', maximum=65535)
    socket = String('@socket')


class Reconnect(Document):
    """Reconnecting to a Unix socket; timeout in seconds between attempts."""

    TAG = 'reconnect'
    enabled = YesNo('@enabled')
    timeout = Integer('@timeout')


class ReservationsSource(Document):
    """The socket of the helper that makes reservations."""

    TAG = 'source'
    type = String('@type', choices=('unix',))
    path = String('@path')
    mode = String('@mode', choices=('server', 'client'))
    reconnect = Child('reconnect', lambda: Reconnect)


class Reservations(Document):
    """SCSI persistent reservations, through libvirt's own helper if managed.

    enabled is what libvirt had before managed; migration is newer than
    libvirt 9.0, which ignores it.
    """

    TAG = 'reservations'
    enabled = YesNo('@enabled')
    managed = YesNo('@managed')
    migration = YesNo('@migration')
    source = Child('source', lambda: ReservationsSource)


class Slice(Document):
    """A part of the source, in bytes."""

    TAG = 'slice'
    type = String('@type', choices=('storage',))
    offset = Integer('@offset')
    size = Integer('@size', minimum=1)


class Cookie(Document):
    """One cookie sent to a web server; its value may let one in."""

    TAG = 'cookie'
    name = String('@name')
    value = String('.', secret=True)


class SecurityLabel(Document):
    """Labelling of this source by a security driver."""

    TAG = 'seclabel'
    model = String('@model')
    relabel = YesNo('@relabel')
    labelskip = YesNo('@labelskip')
    label = String('label')


class Source(Document):
    """Where the data is; which attributes count depends on the disk's type."""

    TAG = 'source'

    # network
    protocol = String('@protocol')
    name = String('@name')
    query = String('@query')
    tls = YesNo('@tls')
    tls_hostname = String('@tlsHostname')  # since libvirt 8.2
    # file
    file = String('@file')
    fdgroup = String('@fdgroup')  # since libvirt 9.0
    # block, and vhostvdpa (libvirt 9.8)
    dev = String('@dev')
    # dir
    dir = String('@dir')
    # volume
    pool = String('@pool')
    volume = String('@volume')
    mode = String('@mode', choices=('host', 'direct'))
    # nvme: a PCI device of the host; vhostuser: a Unix socket
    type = String('@type', choices=('pci', 'unix'))
    managed = YesNo('@managed')
    namespace = Integer('@namespace')
    path = String('@path')
    # all of them
    startup_policy = String('@startupPolicy', choices=('mandatory', 'requisite', 'optional'))
    index = Integer('@index', minimum=1)

    hosts = Children('host', lambda: Host)
    snapshot = String('snapshot/@name')  # of an RBD image
    config = String('config/@file')  # Ceph's configuration
    initiator_iqn = String('initiator/iqn/@name')
    address = Child('address', lambda: Address)
    nfs_user = String('identity/@user')
    nfs_group = String('identity/@group')
    # SSH, since libvirt 9.8
    ssh_user = String('identity/@username')
    ssh_key_file = String('identity/@keyfile')
    ssh_agent_socket = String('identity/@agentsock')
    known_hosts = String('knownHosts/@path')
    ssl_verify = YesNo('ssl/@verify')
    cookies = Children('cookies/cookie', lambda: Cookie)
    readahead = Integer('readahead/@size')  # bytes
    timeout = Integer('timeout/@seconds')
    # vhostuser
    reconnect_enabled = YesNo('reconnect/@enabled')
    reconnect_timeout = Integer('reconnect/@timeout')
    # NBD, seconds, since libvirt 9.2
    reconnect_delay = Integer('reconnect/@delay')
    seclabels = Children('seclabel', lambda: SecurityLabel)
    slices = Children('slices/slice', lambda: Slice)
    auth = Child('auth', lambda: Auth)
    encryption = Child('encryption', lambda: Encryption)
    reservations = Child('reservations', lambda: Reservations)
