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

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.IntOpt('mount_timeout', default=60, min=1, help='Seconds for a mount or an unmount.'),
    cfg.StrOpt('nfs_mount_point_base', default='$state_path/mnt', help='NFS mounts.'),
    cfg.StrOpt('nfs_mount_options', help='NFS mount options.'),
    cfg.StrOpt('smbfs_mount_point_base', default='$state_path/mnt', help='SMB mounts.'),
    cfg.StrOpt('smbfs_mount_options', default='', help='SMB mount options, as of mount.cifs: -o a,b'),
    cfg.StrOpt('glusterfs_mount_point_base', default='$state_path/mnt', help='GlusterFS mounts.'),
    cfg.StrOpt('glusterfs_client', default='fuse', choices=('fuse', 'qemu'), help='Whose client.'),
    cfg.StrOpt('quobyte_mount_point_base', default='$state_path/mnt', help='Quobyte mounts.'),
    cfg.StrOpt('quobyte_client_cfg', help='Quobyte client configuration file.'),
    cfg.StrOpt('vzstorage_mount_point_base', default='$state_path/mnt', help='Virtuozzo mounts.'),
    cfg.StrOpt('vzstorage_mount_user', default='stack', help='Owner.'),
    cfg.StrOpt('vzstorage_mount_group', default='qemu', help='Group.'),
    cfg.StrOpt('vzstorage_mount_perms', default='0770', help='Mode.'),
    cfg.StrOpt('vzstorage_log_path', default='/var/log/vstorage/%(cluster_name)s/volumedrivers.log.gz', help='Log.'),
    cfg.StrOpt('vzstorage_cache_path', help='SSD cache; %(cluster_name)s.'),
    cfg.ListOpt('vzstorage_mount_opts', default=[], help='More options of pstorage-mount.'),
    cfg.StrOpt('scality_mount_point_base', default='$state_path/mnt', help='Scality mounts.'),
    cfg.StrOpt('scality_sofs_config', help='Scality SOFS configuration file.'),
)
