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
"""The parts of a disk that say how it is read and written.

Format: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
"""

from volumedrivers.libvirt.xml_document import Child
from volumedrivers.libvirt.xml_document import Children
from volumedrivers.libvirt.xml_document import Document
from volumedrivers.libvirt.xml_document import Integer
from volumedrivers.libvirt.xml_document import OnOff
from volumedrivers.libvirt.xml_document import String


class MaxSize(Document):
    """An amount of memory; bytes unless there is a unit."""

    TAG = 'max_size'
    unit = String('@unit')
    value = Integer('.')


class MetadataCache(Document):
    """QEMU's cache of an image format's own tables."""

    TAG = 'metadata_cache'
    max_size = Child('max_size', lambda: MaxSize)


class IOThreadQueue(Document):
    """One virtqueue of an I/O thread."""

    TAG = 'queue'
    id = Integer('@id')


class IOThread(Document):
    """An I/O thread that serves some of the disk's queues."""

    TAG = 'iothread'
    id = Integer('@id', minimum=1)
    queues = Children('queue', lambda: IOThreadQueue)


class Driver(Document):
    """How the hypervisor opens the source and shows it to the guest."""

    TAG = 'driver'
    name = String('@name')
    type = String('@type')
    cache = String(
        '@cache', choices=('default', 'none', 'writethrough', 'writeback', 'directsync', 'unsafe')
    )
    error_policy = String('@error_policy', choices=('stop', 'report', 'ignore', 'enospace'))
    rerror_policy = String('@rerror_policy', choices=('stop', 'report', 'ignore'))
    io = String('@io', choices=('threads', 'native', 'io_uring'))
    ioeventfd = OnOff('@ioeventfd')
    event_idx = OnOff('@event_idx')
    copy_on_read = OnOff('@copy_on_read')
    discard = String('@discard', choices=('ignore', 'unmap'))
    iothread = Integer('@iothread', minimum=1)
    detect_zeroes = String('@detect_zeroes', choices=('off', 'on', 'unmap'))
    queues = Integer('@queues', minimum=1)
    queue_size = Integer('@queue_size', minimum=1)
    discard_no_unref = OnOff('@discard_no_unref')  # since libvirt 9.5
    iommu = OnOff('@iommu')
    ats = OnOff('@ats')
    packed = OnOff('@packed')
    page_per_vq = OnOff('@page_per_vq')
    iothreads = Children('iothreads/iothread', lambda: IOThread)  # since libvirt 10.0
    metadata_cache = Child('metadata_cache', lambda: MetadataCache)


class IOTune(Document):
    """Limits; total excludes read and write of the same kind.

    ``*_bytes_sec`` are bytes, ``*_iops_sec`` requests a second; ``*_max`` is what
    a burst may use, ``*_max_length`` how many seconds one may last.
    ``size_iops_sec`` is how many bytes count as one request; disks with one
    ``group_name`` share limits.
    """

    TAG = 'iotune'
    total_bytes_sec = Integer('total_bytes_sec')
    read_bytes_sec = Integer('read_bytes_sec')
    write_bytes_sec = Integer('write_bytes_sec')
    total_iops_sec = Integer('total_iops_sec')
    read_iops_sec = Integer('read_iops_sec')
    write_iops_sec = Integer('write_iops_sec')
    total_bytes_sec_max = Integer('total_bytes_sec_max')
    read_bytes_sec_max = Integer('read_bytes_sec_max')
    write_bytes_sec_max = Integer('write_bytes_sec_max')
    total_iops_sec_max = Integer('total_iops_sec_max')
    read_iops_sec_max = Integer('read_iops_sec_max')
    write_iops_sec_max = Integer('write_iops_sec_max')
    size_iops_sec = Integer('size_iops_sec')
    group_name = String('group_name')
    total_bytes_sec_max_length = Integer('total_bytes_sec_max_length')
    read_bytes_sec_max_length = Integer('read_bytes_sec_max_length')
    write_bytes_sec_max_length = Integer('write_bytes_sec_max_length')
    total_iops_sec_max_length = Integer('total_iops_sec_max_length')
    read_iops_sec_max_length = Integer('read_iops_sec_max_length')
    write_iops_sec_max_length = Integer('write_iops_sec_max_length')


class BlockIO(Document):
    """Sizes in bytes that the guest is told; discard_granularity since libvirt 10.0."""

    TAG = 'blockio'
    logical_block_size = Integer('@logical_block_size')
    physical_block_size = Integer('@physical_block_size')
    discard_granularity = Integer('@discard_granularity')
