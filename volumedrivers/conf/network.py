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

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt('rbd_user', help='Ceph user where Cinder names none.'),
    cfg.StrOpt('rbd_secret_uuid', help='libvirt secret of rbd_user.'),
    cfg.StrOpt('rbd_client', default='librbd', choices=('librbd', 'kernel'), help='Whose client.'),
    cfg.StrOpt('rbd_ceph_conf', default='/etc/ceph/ceph.conf', help='ceph.conf.'),
    cfg.StrOpt('iscsi_initiator_name', help='IQN of QEMU\'s initiator; default: that of the host.'),
    cfg.FloatOpt('endpoint_timeout', default=5.0, min=0.1, help='Seconds for a storage endpoint to answer.'),
)
