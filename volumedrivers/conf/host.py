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

"""This host: paths, its name and address, privilege."""

from oslo_config import cfg

from volumedrivers.conf.prose import prose

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt(
        'state_path',
        default='/var/lib/volumedrivers',
        help=prose("""
Directory of what has to survive a restart: who uses which mounted share, the
journal of attachments, and below it the default of the mount points.  It must
be on a local disk, and the user the service runs as must be able to write to
it.  Where it is lost while volumes are attached, shares that are in use look
unused; so do not put it on a tmpfs.
"""),
    ),
    cfg.StrOpt(
        'lock_path',
        help=prose("""
Directory of the lock files that keep two processes of this host from
connecting and removing devices at the same time.  Unset, it is ``lock`` below
``state_path``.  os-brick locks against Cinder's and Nova's services too: where
they run on this host, all of them must use the same directory, and
``[os_brick]lock_path`` or ``[oslo_concurrency]lock_path`` is where that is
said; either of those is used instead of this option when it is set.  With
different directories a removal can race with a scan of another service and
leave devices behind.
"""),
    ),
    cfg.StrOpt(
        'host',
        help=prose("""
Name of this host that Cinder is told in the connector properties.  Unset, it
is what the kernel calls the host.  Cinder keeps an initiator group or an
export for each name on some arrays; a change while volumes are attached makes
it take this host for another one, so set it to what Nova's ``[DEFAULT]host``
says if both run here.
"""),
    ),
    cfg.StrOpt(
        'my_block_storage_ip',
        help=prose("""
Address of this host on the storage network, as Cinder is told.  Unset, it is
the address that the default route leaves from.  Back ends that export to an
address (NFS, some iSCSI and LightOS arrays) refuse a host that comes from
another one, so set it where storage has a network of its own.  IPv6 is written
without brackets.
"""),
    ),
    cfg.StrOpt(
        'rootwrap_config',
        default='/etc/volumedrivers/rootwrap.conf',
        help=prose("""
Configuration file of rootwrap, which names the filters.  An ordinary user
starts the privileged helpers with ``sudo volumedrivers-rootwrap`` and this
file, and a line in sudoers has to allow exactly that.  It and the filters must
belong to root, and nobody else may write to them: who can change them is root.
As root it is not used.
"""),
    ),
    cfg.StrOpt(
        'connection_uri',
        default='qemu:///system',
        help=prose("""
URI of the libvirt whose guests get the volumes.  ``qemu:///system`` runs
guests as a system user and can use block devices; ``qemu:///session`` belongs
to one user, who can use network sources and own files.  The URI must lead to
this host: a path of a device means nothing elsewhere.
"""),
    ),
)
