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

"""Volumes that QEMU opens itself."""

from oslo_config import cfg

from volumedrivers.conf.prose import prose

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt(
        'rbd_user',
        help=prose("""
Ceph user for volumes whose connection_info asks for a login and names no
libvirt secret.  It counts only together with ``rbd_secret_uuid``: user and
secret are taken from Cinder or from here, never one from each.
"""),
    ),
    cfg.StrOpt(
        'rbd_secret_uuid',
        help=prose("""
UUID of the libvirt secret that holds the key of ``rbd_user``.  The secret must
be defined on this host, and on every host a guest may be migrated to under the
same UUID; otherwise the guest does not start there.
"""),
    ),
    cfg.StrOpt(
        'rbd_client',
        default='librbd',
        choices=('librbd', 'kernel'),
        help=prose("""
Who opens RBD images: librbd inside QEMU, or the kernel, whose /dev/rbd device
the guest is given.  The kernel's client is for guests and tools that need a
block device; it knows fewer image features (no journaling, for one), and needs
the rbd module and ceph-common here.
"""),
    ),
    cfg.StrOpt(
        'rbd_ceph_conf',
        default='/etc/ceph/ceph.conf',
        help=prose("""
ceph.conf of the cluster.  It is read for the cluster's id, and for the
monitors where Cinder names none.  librbd inside QEMU reads the default file
only; with another one here, its monitors are written into the guest's disk
when Cinder names none.
"""),
    ),
    cfg.StrOpt(
        'iscsi_initiator_name',
        help=prose("""
Initiator name (IQN) that QEMU logs in with where ``iscsi_client`` is qemu.
Unset, it is that of the host, from /etc/iscsi/initiatorname.iscsi.  Targets
grant access by it, so it has to be the one that Cinder was told.
"""),
    ),
    cfg.FloatOpt(
        'endpoint_timeout',
        default=5.0,
        min=0.1,
        help=prose("""
Seconds within which a storage endpoint (a Ceph monitor, an iSCSI or NVMe/TCP
portal, a GlusterFS or NBD server) must answer before it is used.  While QEMU
opens a network disk the whole guest stands still, without a limit; and while
os-brick logs in to a portal that is down, for minutes, no other volume of this
host is connected or removed.  So an endpoint that is silent is found out
first; a volume is connected over those that answer.  All endpoints of a volume
are asked at the same time.
"""),
    ),
)
