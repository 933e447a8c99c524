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

"""volumedrivers disk xml."""

import argparse

from volumedrivers.cmd import base


class DiskXml(base.Base):
    """Print the <disk> that a guest would get."""

    EPILOG = (
        'Nothing is connected and no storage is asked. What only connecting can tell is shown '
        'as "unknown", the UUID of a secret as zeroes.'
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Take the volume and the disk."""
        parser = super().get_parser(prog_name)
        base.add_connection_info(parser, required=True)
        base.add_disk(parser)
        parser.add_argument('--target', help='target name (default: the first of the bus)')
        parser.add_argument('--path', help='device or file the volume would be')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Print the document."""
        info = self.connection_info(parsed_args.connection_info)
        from volumedrivers.libvirt import pretend  # noqa: PLC0415
        from volumedrivers.libvirt import target_names  # noqa: PLC0415
        from volumedrivers.libvirt.driver import DiskInfo  # noqa: PLC0415

        conf = self.program.services.conf
        driver = pretend.make_registry(conf).get(info.driver_volume_type)
        volume = pretend.volume(driver, info, conf.volumedrivers, parsed_args.path)
        document = driver.get_disk(
            info,
            volume,
            DiskInfo(
                bus=parsed_args.bus,
                dev=parsed_args.target or target_names.name_of(parsed_args.bus, 0),
                type=parsed_args.type,
                unit=parsed_args.unit,
                boot_index=parsed_args.boot_index,
            ),
        )
        self.app.stdout.write(f'{self.program.mask.text(document.to_xml()).rstrip()}\n')
        return 0
