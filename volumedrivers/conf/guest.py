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

"""What the guest sees, and how long it may take to let go."""

from oslo_config import cfg

from volumedrivers.conf.prose import prose

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt(
        'virt_type',
        default='kvm',
        choices=('kvm', 'qemu', 'lxc', 'parallels'),
        help=prose("""
Kind of hypervisor the disks are written for.  ``kvm`` and ``qemu`` give the
same disks; the others do without what only QEMU has, such as the discard and
I/O modes.
"""),
    ),
    cfg.ListOpt(
        'disk_cachemodes',
        default=[],
        help=prose("""
Cache mode by type of source, as ``type=mode``: the type is block, file or
network, the mode none, writethrough, writeback, directsync or unsafe.  A mode
that is not named here stays the driver's, which is ``none`` for most.
Anything but ``none`` and ``directsync`` uses the host's page cache: it makes
live migration unsafe unless the storage is coherent, and it turns io=native
into io=threads, which QEMU would refuse with it.  ``unsafe`` ignores flushes
of the guest and loses data when the host fails.  A volume that is attached to
several guests always has ``none``.
"""),
    ),
    cfg.BoolOpt(
        'use_default_aio_mode_for_volumes',
        default=False,
        help=prose("""
Leave the I/O mode of iSCSI, Fibre Channel and NFS volumes to QEMU instead of
asking for io=native.  Native AIO is faster on block devices, but a sparse file
or a thin volume can block the guest while space is allocated; QEMU's default,
threads, does not.
"""),
    ),
    cfg.StrOpt(
        'disk_prefix',
        help=prose("""
Prefix of the names of disks, such as ``vd`` or ``sd``, for every bus.  Unset,
it follows from the bus.  libvirt orders devices by it; the guest does not see
it, and there is rarely a reason to set it.
"""),
    ),
    cfg.IntOpt(
        'device_detach_attempts',
        default=8,
        min=1,
        help=prose("""
How often the guest is asked to release a disk.  Its kernel may not be able to
answer, because it is still booting or because it does not support unplugging,
and libvirt cannot tell which.  When all attempts have passed the disk stays
attached and the detach fails; it can be called again.
"""),
    ),
    cfg.IntOpt(
        'device_detach_timeout',
        default=20,
        min=1,
        help=prose("""
Seconds to wait for the guest after each request to release a disk.  Asking
again too early cancels an unplug that is on its way on some versions of QEMU;
with the number of attempts it gives the longest time a detach can take.
"""),
    ),
    cfg.StrOpt(
        'disk_io_mode',
        choices=('native', 'threads', 'io_uring'),
        help=prose("""
I/O mode of every volume that is a device or a file, instead of the driver's.
``io_uring`` needs QEMU 5.0 with liburing and a kernel that permits it, and is
the fastest of the three for NVMe.  Unset, disks equal those of Nova.
"""),
    ),
    cfg.StrOpt(
        'disk_detect_zeroes',
        choices=('off', 'on', 'unmap'),
        help=prose("""
What QEMU does with blocks of zeroes that the guest writes: write them,
``on`` to write them in the shortest way the storage has, ``unmap`` to release
them, which keeps thin volumes thin and needs discard.  Each write is compared,
which costs some CPU.  Unset, it is QEMU's default, off.
"""),
    ),
    cfg.StrOpt(
        'disk_error_policy',
        choices=('stop', 'report', 'ignore', 'enospace'),
        help=prose("""
What QEMU does when the storage fails: ``stop`` pauses the guest until somebody
resumes it, ``report`` tells the guest, whose file system usually becomes
read-only, ``enospace`` stops only when space runs out, ``ignore`` goes on as
if nothing had happened and loses data.  Unset, it is QEMU's default: report
for reads, enospace for writes.
"""),
    ),
    cfg.BoolOpt(
        'disk_qos_bursts',
        default=False,
        help=prose("""
Also give a guest the burst limits of a volume type's QoS specs
(``*_bytes_sec_max_length`` and ``*_iops_sec_max_length``, seconds) and their
``group_name``, which lets the disks of one guest share a limit.  Nova leaves
them out; without this option so does this package, and a burst lasts one
second.
"""),
    ),
    cfg.IntOpt(
        'disk_queues',
        min=1,
        help=prose("""
Number of request queues of a virtio-blk disk.  One for each vCPU lets all of
them submit I/O at the same time; each queue costs memory and an interrupt in
the guest.  Unset, libvirt and QEMU decide.  On virtio-scsi the queues belong
to the controller.
"""),
    ),
    cfg.IntOpt(
        'disk_iothread',
        min=1,
        help=prose("""
Number of the IOThread that serves virtio-blk disks.  The guest must have that
many in its ``<iothreads>``, or libvirt refuses the disk.  An IOThread takes
the I/O off QEMU's main loop, which steadies latency while the guest is
migrated or queried.
"""),
    ),
)
