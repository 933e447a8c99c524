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

"""What the commands work with, each part made when it is first asked for."""

import argparse
import functools
import os
import typing

from volumedrivers import exception

if typing.TYPE_CHECKING:
    from oslo_config import cfg

    from volumedrivers.attachment.block_storage.host_only import HostOnly
    from volumedrivers.attachment.block_storage.manager import VolumeManager
    from volumedrivers.attachment.context import Observer
    from volumedrivers.attachment.manager import AttachmentManager
    from volumedrivers.cinder.block_storage import BlockStorage
    from volumedrivers.cmd.secrecy import Mask
    from volumedrivers.libvirt.hypervisor import Hypervisor
    from volumedrivers.libvirt.registry import Registry


class Services:
    """Configuration, drivers, libvirt and Cinder of one run of the command line.

    :ivar observer: is told of each step of an operation
    :ivar why_no_cinder: found out by volumes_to_check
    :ivar mask: hides the secrets of Cinder's answers
    """

    observer: 'Observer | None' = None
    mask: 'Mask | None' = None
    why_no_cinder: exception.CinderNotConfigured | None = None

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._hypervisor: Hypervisor | None = None
        self._is_set_up = False

    @functools.cached_property
    def conf(self) -> 'cfg.ConfigOpts':
        """The configuration.

        :raises InvalidOption: a file cannot be read, or holds a wrong value
        """
        from oslo_config import cfg  # noqa: PLC0415

        from volumedrivers.conf import opts  # noqa: PLC0415

        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        try:
            conf(self._arguments, project='volumedrivers')
            for option in opts.OPTIONS:
                conf[opts.GROUP.name][option.dest]  # a wrong value shows only when read
            if self._options.connect:
                conf.set_override('connection_uri', self._options.connect, opts.GROUP.name)
        except (cfg.Error, ValueError) as error:
            raise exception.InvalidOption(
                option='the configuration',
                found=f'not usable ({" ".join(str(error).split())})',
                expected='readable files with valid values',
            ) from error
        return conf

    @property
    def _arguments(self) -> list[str]:
        """The files, as oslo.config takes them."""
        return [
            *(f'--config-file={name}' for name in self._options.config_file),
            *(f'--config-dir={name}' for name in self._options.config_dir),
        ]

    @property
    def uri(self) -> str:
        """The libvirt URI."""
        return str(self.conf.volumedrivers.connection_uri)

    @property
    def hypervisor(self) -> 'Hypervisor':
        """The libvirt connection; nothing is opened before it is used.

        :raises ToolMissing: there is no libvirt-python, which is an extra
        """
        if self._hypervisor is None:
            try:
                from volumedrivers.libvirt.hypervisor import Hypervisor  # noqa: PLC0415
            except ModuleNotFoundError as error:
                if error.name not in ('libvirt', 'libvirtmod'):
                    raise
                raise exception.ToolMissing(
                    tool='libvirt-python', package='volumedrivers[libvirt], or python3-libvirt'
                ) from error

            self._hypervisor = Hypervisor(
                self.uri, answer_timeout=self.conf.volumedrivers.libvirt_timeout
            )
        return self._hypervisor

    @functools.cached_property
    def registry(self) -> 'Registry':
        """The drivers, for what needs neither libvirt nor privilege."""
        from volumedrivers.libvirt import context  # noqa: PLC0415
        from volumedrivers.libvirt.registry import Registry  # noqa: PLC0415

        return Registry(context.make_context(self.conf))

    @functools.cached_property
    def manager(self) -> 'AttachmentManager':
        """Attach, detach and the rest; what changes something needs set_up as well.

        Journal and locks are opened when they are first used.
        """
        from volumedrivers.attachment.manager import make_manager  # noqa: PLC0415

        return make_manager(self.conf, self.hypervisor, observer=self.observer)

    @functools.cached_property
    def host_only(self) -> 'HostOnly':
        """What guest and host have, with what is recorded of Cinder; it is not asked."""
        from volumedrivers.attachment.block_storage.host_only import HostOnly  # noqa: PLC0415

        return HostOnly(self.manager)

    @functools.cached_property
    def storage(self) -> 'BlockStorage':
        """Cinder; nothing is asked before it is used.

        :raises CinderNotConfigured
        """
        from volumedrivers.cinder import connection  # noqa: PLC0415
        from volumedrivers.cmd import secrecy  # noqa: PLC0415

        storage = connection.connect(self.conf, self._options.os_cloud)
        if self.mask is not None:
            secrecy.hear(storage.connection.session, self.mask)
        return storage

    @functools.cached_property
    def volumes(self) -> 'VolumeManager':
        """Cinder's volumes in the guests of this host; set_up as for ``manager``.

        :raises CinderNotConfigured
        """
        from volumedrivers.attachment.block_storage.manager import make_volume_manager  # noqa: PLC0415

        return make_volume_manager(self.conf, self.storage, self.manager)

    def volumes_to_check(self) -> 'VolumeManager | None':
        """Return what also looks at Cinder's side; None: nothing says that there is a Cinder.

        One that cannot be asked must not keep anybody from guest and host.
        """
        from volumedrivers.cmd import no_cinder  # noqa: PLC0415

        if not self.host_only.has_any() and not self._names_cinder():
            return None
        try:
            return self.volumes
        except exception.CinderNotConfigured as error:
            # Of which ``volumes`` is made in the place of the one there is not.
            self.why_no_cinder = error
            self.storage = no_cinder.NoBlockStorage(error)
            return self.volumes

    def _names_cinder(self) -> bool:
        """Tell whether somebody has said where Cinder is; loads no SDK."""
        from oslo_config import cfg  # noqa: PLC0415

        from volumedrivers.cinder import clouds  # noqa: PLC0415

        if self._options.os_cloud or self.conf.volumedrivers.cinder_cloud:
            return True
        if any(os.environ.get(name) for name in ('OS_CLOUD', *clouds.VARIABLES)):
            return True
        # keystoneauth registers the options of the group, and is not to be loaded.
        conf = cfg.ConfigOpts()
        conf.register_opt(cfg.StrOpt('auth_type'), group='cinder')
        conf(self._arguments, project='volumedrivers')
        return conf.cinder.auth_type is not None

    def set_up(self, *, only_look: bool = False) -> None:
        """Prepare this process for os-brick and privilege, once.

        :param only_look: nothing will be changed, and nothing is made for it
        """
        if not self._is_set_up:
            from volumedrivers.host import bootstrap  # noqa: PLC0415

            bootstrap.setup(self.conf, make_lock_path=not only_look)
            self._is_set_up = True

    def close(self) -> None:
        """Close the libvirt connection, if there is one."""
        if self._hypervisor is not None:
            self._hypervisor.close()
