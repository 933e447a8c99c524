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

"""Volumes that are files on a share."""

from oslo_config import cfg

from volumedrivers.conf.prose import prose


def _base(what: str) -> str:
    return prose(f"""
Directory below which {what} shares are mounted, each in a directory that is
named after a hash of its export.  It must be an absolute path without symbolic
links.  Privileged helpers mount nowhere else, and read this option only from
files that root alone can write; set elsewhere, its default counts.  Nova uses
the same names, so with Nova's directory here its mounts are taken over.  Change
it only while no volume is attached: a running guest keeps the old path.
""")


OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.IntOpt(
        'mount_timeout',
        default=60,
        min=1,
        help=prose("""
Seconds for each step with a share: mounting it, looking a file up, unmounting
it.  A server that does not answer makes the call fail after that; it never
holds up other volumes.  NFS itself retries for two minutes, so with a shorter
time a server that just restarts is given up.
"""),
    ),
    cfg.StrOpt('nfs_mount_point_base', default='$state_path/mnt', help=_base('NFS')),
    cfg.StrOpt(
        'nfs_mount_options',
        help=prose("""
Options of NFS mounts, with commas, as nfs(5) has them.  Options that Cinder
sends with a volume come after these and win.  ``nosuid`` and ``nodev`` are
always added; options that name files or allow set-uid programs are refused.
With ``soft`` a guest sees I/O errors when the server is away, and may lose
data; with ``hard``, the default, it waits.
"""),
    ),
    cfg.StrOpt('smbfs_mount_point_base', default='$state_path/mnt', help=_base('SMB')),
    cfg.StrOpt(
        'smbfs_mount_options',
        default='',
        help=prose("""
Options of SMB mounts, as mount.cifs(8) has them, after ``-o`` as in Nova.  Do
not put a password here: it would be seen in the configuration; Cinder sends
the credentials, and they reach mount.cifs where nobody else can read them.
For guests of another user than root ``uid=`` and ``gid=`` of that user are
needed.  ``nobrl`` is needed where the server enforces locks, as SMB says it
does: QEMU locks some of the first bytes of a raw image, and its own writes to
them would fail.
"""),
    ),
    cfg.StrOpt(
        'glusterfs_mount_point_base',
        default='$state_path/mnt',
        help=_base('GlusterFS'),
    ),
    cfg.StrOpt(
        'glusterfs_client',
        default='fuse',
        choices=('fuse', 'qemu'),
        help=prose("""
Who opens files on GlusterFS: the mounted FUSE client, or QEMU's own client.
QEMU's is faster and needs no mount, but QEMU must be built with it, and
upstream has deprecated it.
"""),
    ),
    cfg.StrOpt('quobyte_mount_point_base', default='$state_path/mnt', help=_base('Quobyte')),
    cfg.StrOpt(
        'quobyte_client_cfg',
        help=prose("""
Configuration file of the Quobyte client, given to mount.quobyte with ``-c``.
Like the mount point bases it is only believed from a file that root alone can
write.
"""),
    ),
    cfg.StrOpt(
        'vzstorage_mount_point_base',
        default='$state_path/mnt',
        help=_base('Virtuozzo Storage'),
    ),
    cfg.StrOpt(
        'vzstorage_mount_user',
        default='stack',
        help=prose("""
Owner of the files on a mounted Virtuozzo Storage, by name; the user that
QEMU or the service runs as, or neither can open a volume.
"""),
    ),
    cfg.StrOpt(
        'vzstorage_mount_group',
        default='qemu',
        help='Group of the files on a mounted Virtuozzo Storage, by name.',
    ),
    cfg.StrOpt(
        'vzstorage_mount_perms',
        default='0770',
        help='Access bits of the files on a mounted Virtuozzo Storage, octal, as for chmod.',
    ),
    cfg.StrOpt(
        'vzstorage_log_path',
        default='/var/log/vstorage/%(cluster_name)s/volumedrivers.log.gz',
        help=prose("""
Log of the Virtuozzo Storage client; %(cluster_name)s becomes the name of the
cluster.  The client writes it as root.
"""),
    ),
    cfg.StrOpt(
        'vzstorage_cache_path',
        help=prose("""
File on a local SSD that the Virtuozzo Storage client keeps as its cache;
%(cluster_name)s becomes the name of the cluster, and clusters must not share
one.  Unset, there is no cache.
"""),
    ),
    cfg.ListOpt(
        'vzstorage_mount_opts',
        default=[],
        help=prose("""
More arguments of pstorage-mount, with commas, for example ``-v,-R,500``.  What
the other options say (-c, -l, -C, -u, -g and -m) must not be repeated here.
"""),
    ),
    cfg.StrOpt('scality_mount_point_base', default='$state_path/mnt', help=_base('Scality')),
    cfg.StrOpt(
        'scality_sofs_config',
        help=prose("""
Configuration file of Scality's SOFS client, which is what its mount is given
as the source.  Unset, it is /etc/sfused.conf, where os-brick looks.
"""),
    ),
)
