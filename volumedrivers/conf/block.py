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

"""Volumes that become a block device of this host."""

from oslo_config import cfg

from volumedrivers.conf.prose import prose

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.BoolOpt(
        'volume_use_multipath',
        default=False,
        help=prose("""
Connect iSCSI, Fibre Channel and NVMe-oF volumes over all paths that Cinder
names, and give guests the multipath device.  multipathd must run; NVMe uses the kernel's own
multipath.  Change it only while no volume is attached: what was connected
with it has to be removed with it, or the map is left behind without being
flushed.
"""),
    ),
    cfg.BoolOpt(
        'volume_enforce_multipath',
        default=False,
        help=prose("""
Refuse to connect a volume when ``volume_use_multipath`` is set and multipathd
does not answer.  Without it such a volume is connected over one path and only
a warning says so: it works until that path fails.  Cinder is told of it in
the connector properties.
"""),
    ),
    cfg.IntOpt(
        'num_volume_scan_tries',
        default=5,
        min=1,
        help=prose("""
How often this host looks for a new device of an iSCSI, Fibre Channel or
PowerFlex volume.  For Fibre Channel that is every two seconds.  For iSCSI
os-brick looks at once, then after 4 seconds, after another 9, 16, 25 and 36,
and over a single path does all that up to three times: a LUN that the target
does not show keeps the caller, and all other volumes of this host, waiting for
minutes.  Raise it where an array takes longer to export a volume, lower it to
2 where it is there at once.
"""),
    ),
    cfg.StrOpt(
        'iscsi_iface',
        help=prose("""
Name of the iSCSI interface to log in through, as ``iscsiadm -m iface`` lists
it, for adapters with iSCSI offload.  All volumes of type iscsi use it.  Unset,
it is ``default``: software iSCSI over TCP.
"""),
    ),
    cfg.StrOpt(
        'iscsi_client',
        default='kernel',
        choices=('kernel', 'qemu'),
        help=prose("""
Who logs in to iSCSI targets: this host's kernel, whose device the guest is
given, or QEMU itself.  ``qemu`` needs neither root nor iscsid, and leaves no
device on the host that could be mistaken for another; in exchange there is no
multipath, QEMU needs its iscsi block driver, and CHAP's password is kept in a
libvirt secret.
"""),
    ),
    cfg.IntOpt(
        'num_iser_scan_tries',
        default=5,
        min=1,
        help='As num_volume_scan_tries, for iSER (iSCSI over RDMA).',
    ),
    cfg.BoolOpt(
        'iser_use_multipath',
        default=False,
        help='As volume_use_multipath, for iSER (iSCSI over RDMA), which has a switch of its own.',
    ),
    cfg.IntOpt(
        'num_nvme_discover_tries',
        default=5,
        min=1,
        help=prose("""
How often this host looks for a new device of an NVMe-oF or LightOS volume.
os-brick up to 7.1 counts three times for NVMe-oF whatever is set here.
"""),
    ),
    cfg.FloatOpt(
        'device_name_timeout',
        default=5.0,
        min=0,
        help=prose("""
Seconds to wait for udev to give a new device its persistent name below
/dev/disk, which is the only kind of name a guest is given.  A device without
one is removed again and the attachment refused, because /dev/sdb is another
volume after the next reboot.
"""),
    ),
)
